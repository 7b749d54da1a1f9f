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

use std::time::Duration;

use self::link::{CONNECTIONS, LEASE_CONNECTIONS};
use self::listen::Ear;
use self::url::Target;

/// Time limit for opening. Another node may be in the middle of a migration.
const OPENING: Duration = Duration::from_secs(90);

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    links: Links,
    /// Reserved for renewals.
    lease_links: Links,
    ear: Ear,
    at: String,
}

impl PostgresStore {
    /// Opens the database that a `postgres://` URL names, and migrates its schema. `sslmode` and
    /// `sslrootcert` have the same meaning as in libpq. Of several hosts, the first writable one is
    /// used.
    ///
    /// # Errors
    ///
    /// Returns [`PostgresOpenError`] if the URL is invalid, or the database cannot be reached, used
    /// or migrated.
    pub async fn open(url: &str) -> Result<Self, PostgresOpenError> {
        Self::open_at(url, true).await
    }

    /// Opens the database like [`PostgresStore::open`], but only if it already contains TrustRelay
    /// data.
    ///
    /// # Errors
    ///
    /// Returns [`PostgresOpenError::Empty`] if there is no TrustRelay data, and the errors of
    /// [`PostgresStore::open`].
    pub async fn open_begun(url: &str) -> Result<Self, PostgresOpenError> {
        Self::open_at(url, false).await
    }

    async fn open_at(url: &str, begin: bool) -> Result<Self, PostgresOpenError> {
        let target = Target::parse(url)?;
        let tls = tls::connector(target.check, &target.roots)?;
        let links = Links::new(&target, tls.clone(), CONNECTIONS)?;
        let lease_links = Links::new(&target, tls.clone(), LEASE_CONNECTIONS)?;
        let ready = migrate::bring_up_to_date(&links, &target.at, begin);
        tokio::time::timeout(OPENING, ready).await.map_err(|_| PostgresOpenError::Unreachable {
            at: target.at.clone(),
            cause: format!("it did not answer within {} s", OPENING.as_secs()),
        })??;
        Ok(Self { links, lease_links, ear: Ear::open(target.config, tls), at: target.at })
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Returns the database's host, port and name, which may be shown.
    pub fn place(&self) -> &str {
        &self.at
    }
}
