//! The PostgreSQL implementation of the authority's [`Store`](trustrelay_authority::Store): any
//! number of nodes share one database.
//!
//! Each method is one transaction at READ COMMITTED and ends in bounded time; a database that does
//! not answer is reported as unavailable. A connection on which an error occurred is closed. The
//! next connection finds the database again, even if it has moved to another host.

mod activity;
mod admin;
mod audit;
mod errors;
mod keys;
mod leases;
mod link;
mod listen;
mod log;
mod migrate;
mod networks;
mod notices;
mod pats;
mod policy;
mod read_back;
mod rotation;
mod rows;
mod sessions;
mod store;
mod tls;
mod unused;
mod url;
mod users;

pub(crate) use errors::Failure;
pub use errors::PostgresOpenError;
pub(crate) use link::{Link, Links};
pub(crate) use read_back::read_back;
pub(crate) use rows::{corrupt, get};
pub use store::PostgresStore;
