//! The implementations of the authority's [`Store`](trustrelay_authority::Store).
//!
//! [`SqliteStore`] uses one durable file in write-ahead mode. One writer thread makes the changes
//! and groups waiting ones into one commit. Reads run on separate threads. Several processes may
//! have the file open, such as a server and its commands.
//!
//! [`PostgresStore`] uses one database for any number of nodes.

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod activity;
mod admin;
mod archive;
mod audit;
mod audit_page;
mod errors;
mod keys;
mod leases;
mod limits;
mod log;
mod networks;
mod notices;
mod open;
mod pats;
#[cfg(test)]
mod plans;
mod policy;
mod postgres;
pub mod private;
mod rotation;
mod rows;
mod search;
mod sqlite;
mod threads;
mod unused;

pub use archive::{Archive, Archived, BadArchive, NotImported};
pub use open::{DATABASE_FILE, OpenError, SqliteOptions};
pub use postgres::{PostgresOpenError, PostgresStore};
pub use sqlite::SqliteStore;
