//! The store in one SQLite file.

mod activity;
mod admin;
mod audit;
pub(crate) mod errors;
mod keys;
mod leases;
pub(crate) mod log;
pub(crate) mod networks;
pub(crate) mod notices;
mod open;
mod pats;
#[cfg(test)]
mod plans;
pub(crate) mod policy;
mod rotation;
pub(crate) mod rows;
mod store;
mod threads;
pub(crate) mod unused;
mod users;

use std::path::Path;
use std::sync::atomic::Ordering;

use self::open::prepare;
pub use self::open::{DATABASE_FILE, OpenError, SqliteOptions};
use self::threads::Threads;

/// A store in one SQLite file.
pub struct SqliteStore {
    threads: Threads,
    boot_id: String,
}

impl SqliteStore {
    /// Opens the database of a data directory. Creates both if they do not exist (modes 0700 and
    /// 0600).
    ///
    /// # Errors
    ///
    /// Returns [`OpenError`] if the directory or the database cannot be created, opened or
    /// migrated.
    pub fn open(data_dir: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let path = prepare(data_dir, &options)?;
        // Without this file every row counts as of this boot, so its lease is waited for.
        let boot_id =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        Ok(Self { threads: Threads::start(&path, &options)?, boot_id })
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Returns the number of commits that reached the disk. Changes that were grouped share one
    /// commit.
    pub fn commits(&self) -> u64 {
        self.threads.commits.load(Ordering::Relaxed)
    }
}
