//! What is behind the authority's [`Store`](trustrelay_authority::Store).
//!
//! [`SqliteStore`]: one file, durable, in write-ahead mode. Changes go through one writer thread that puts those which wait into one
//! commit; reads go to threads of their own. Several processes may have the file open: a server and the commands.
//!
//! [`PostgresStore`]: one database for any number of nodes.

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
