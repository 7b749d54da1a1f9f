//! The implementations of the authority's [`Store`](trustrelay_authority::Store).
//!
//! [`SqliteStore`] uses one durable file in write-ahead mode. One writer thread makes the changes
//! and groups waiting ones into one commit. Reads run on separate threads. Several processes may
//! have the file open, such as a server and its commands.
//!
//! [`PostgresStore`] uses one database for any number of nodes.

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod archive;
mod postgres;
pub mod private;
mod sql;
mod sqlite;

pub use archive::{Archive, Archived, BadArchive, NotImported};
pub use postgres::{PostgresOpenError, PostgresStore};
pub use sqlite::{DATABASE_FILE, OpenError, SqliteOptions, SqliteStore};
