//! Opens the file, and brings its schema up to date.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// The name of the database in a data directory.
pub const DATABASE_FILE: &str = "trustrelay.db";

/// Each migration once, in order; a database's `user_version` is how many it has had. Never change one that was released.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_initial.sql")];

/// How long a statement waits for another process's write.
const BUSY: Duration = Duration::from_secs(5);

/// What can be set.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// How many threads read.
    pub readers: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 2 }
    }
}

/// Why the data does not open: one line, with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error(
        "the data directory {path} cannot be used: {cause}; check its owner and mode, or name another with --data-dir"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is there and is not a database.
    #[error("{0} is not a database; restore it from a backup, or name another directory with --data-dir")]
    NotADatabase(PathBuf),
    /// The file was written by a newer program.
    #[error(
        "{path} has schema {found} and this program knows up to {known}; run the newer TrustRelay that wrote it"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest that is known here.
        known: usize,
    },
    /// Anything else that SQLite said.
    #[error("{path} does not open: {cause}; check its owner, mode and disk space")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
}

/// Makes the directory and the file, if they are not there, for their owner alone; and brings the schema up to date.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf, OpenError> {
    let unusable = |cause| OpenError::Directory { path: dir.to_owned(), cause };
    if !dir.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    }
    let path = dir.join(DATABASE_FILE);
    // Before SQLite does, so that the file is never readable by others.
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path);
    file.map_err(unusable)?;
    let mut connection = connect(&path)?;
    migrate(&mut connection, &path)?;
    Ok(path)
}

pub(crate) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let failed = |cause| failure(path, cause);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // An answered change survives a power cut: every commit reaches the disk.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |cause| failure(path, cause);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found: usize =
        transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let Some(missing) = MIGRATIONS.get(found..) else {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: MIGRATIONS.len() });
    };
    for migration in missing {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn failure(path: &Path, cause: rusqlite::Error) -> OpenError {
    match cause.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::NotADatabase(path.to_owned()),
        _ => OpenError::Database { path: path.to_owned(), cause },
    }
}
