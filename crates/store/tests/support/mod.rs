//! Stores to test with.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::ops::Deref;
use std::path::Path;

use tempfile::TempDir;
use trustrelay_store::{SqliteOptions, SqliteStore};

/// A new store in a directory of its own, which goes with it.
pub struct Fresh {
    store: SqliteStore,
    pub dir: TempDir,
}

impl Fresh {
    /// On a memory file system where there is one: hundreds of stores, each commit flushed, are slow on a disk.
    pub fn in_memory_if_possible() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() };
        Self::at(dir.expect("a directory"), SqliteOptions::default())
    }

    pub fn on_disk(options: SqliteOptions) -> Self {
        Self::at(TempDir::new().expect("a directory"), options)
    }

    fn at(dir: TempDir, options: SqliteOptions) -> Self {
        let store = SqliteStore::open(dir.path(), options).expect("opens");
        Self { store, dir }
    }
}

impl Deref for Fresh {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}
