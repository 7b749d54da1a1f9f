//! Opening the database file and migrating its schema.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::private;

/// The name of the database file in a data directory.
pub const DATABASE_FILE: &str = "trustrelay.db";

/// The migrations, in order. A database's `user_version` is the number of migrations applied to it.
/// Never change a released migration.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_nodes.sql"),
    include_str!("../../migrations/0003_activity.sql"),
    include_str!("../../migrations/0004_leases.sql"),
    include_str!("../../migrations/0005_audit.sql"),
    include_str!("../../migrations/0006_audit_log.sql"),
    include_str!("../../migrations/0007_rotation.sql"),
    include_str!("../../migrations/0008_limits.sql"),
    include_str!("../../migrations/0009_administration.sql"),
    include_str!("../../migrations/0010_notices.sql"),
    include_str!("../../migrations/0011_searches.sql"),
    include_str!("../../migrations/0012_networks.sql"),
    include_str!("../../migrations/0013_unused.sql"),
    include_str!("../../migrations/0014_keys.sql"),
    include_str!("../../migrations/0015_ended_secrets.sql"),
    include_str!("../../migrations/0016_node_urls.sql"),
    include_str!("../../migrations/0017_first_uses.sql"),
];

/// The suffixes of a database's files (sqlite.org/tempfiles.html).
const FILES: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// The smallest possible size of a database: one page of 512 bytes (sqlite.org/fileformat2.html,
/// "Pages").
const SMALLEST: u64 = 512;
/// The pause between attempts where SQLite itself does not wait.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Options for opening a database.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The number of reader threads.
    pub readers: usize,
    /// Time limit for waiting until another process's change is done.
    pub busy: Duration,
    /// Maximum number of pages (of 4 KiB) in the file. Beyond it, changes are refused as if the
    /// disk were full. `None` means no limit besides the disk's.
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 2, busy: Duration::from_secs(5), max_pages: None }
    }
}

/// The reason why the data cannot be opened, in one line with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be created, read or written.
    #[error(
        "the data directory {path} cannot be used: {cause}; check its owner and mode, or use another directory with --data-dir"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A database file is not what it should be.
    #[error("{path} cannot be trusted: {cause}; move the file away, and find out who put it there")]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        cause: std::io::Error,
    },
    /// The file exists but is not a database.
    #[error("{0} is not a database; restore it from a backup, or use another directory with --data-dir")]
    NotADatabase(PathBuf),
    /// The file was written by a newer program.
    #[error(
        "{path} has schema version {found}, but this program supports only up to {known}; use the newer TrustRelay version that wrote it"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: usize,
        /// The newest schema version that this program knows.
        known: usize,
    },
    /// The file system does not support write-ahead mode.
    #[error(
        "{path} does not support write-ahead logging (its mode is `{mode}`); move the data directory to a local disk"
    )]
    NoWriteAhead {
        /// The file.
        path: PathBuf,
        /// The journal mode that remained in effect.
        mode: String,
    },
    /// Any other error from SQLite.
    #[error("{path} cannot be opened: {cause}; check its owner, mode and disk space")]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        cause: rusqlite::Error,
    },
}

/// Creates the directory and the file, if they do not exist, with access for their owner only. Then
/// migrates the schema.
pub(crate) fn prepare(dir: &Path, options: &SqliteOptions) -> Result<PathBuf, OpenError> {
    let unusable = |cause| OpenError::Directory { path: dir.to_owned(), cause };
    if let Some(repaired) = private::directory(dir).map_err(unusable)? {
        tracing::warn!("{repaired}");
    }
    let path = dir.join(DATABASE_FILE);
    // Created before SQLite does so, so that the file is never readable by others. An existing file
    // is not opened here, because closing it would release the locks that this process may hold on
    // it (fcntl(2)).
    match private::create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unusable(error)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&path).map_err(unusable)?;
    if found.is_dir() {
        return Err(OpenError::NotADatabase(path));
    }
    for suffix in FILES {
        let file = dir.join(format!("{DATABASE_FILE}{suffix}"));
        private::claim(&file).map_err(|cause| OpenError::File { path: file, cause })?;
    }
    // SQLite treats some short texts as an empty database and would overwrite them.
    if !found.is_file() || (1..SMALLEST).contains(&found.len()) {
        return Err(OpenError::NotADatabase(path));
    }
    let mut connection = connect(&path, options)?;
    migrate(&mut connection, &path)?;
    Ok(path)
}

pub(crate) fn connect(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let failed = |cause| failure(path, cause);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(options.busy).map_err(failed)?;
    let mode = write_ahead(&connection, options.busy).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAhead { path: path.to_owned(), mode });
    }
    // An acknowledged change must survive a power failure, so every commit is flushed to disk.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update(None, "max_page_count", pages).map_err(failed)?;
    }
    // Statements keep their plan. Without this setting, SQLite prepares a statement again whenever
    // it expects another value to need another plan, which would dominate the cost of a look-up
    // (sqlite.org/qpsg.html).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Switches the file to write-ahead mode. Returns the resulting mode. SQLite does not wait here for
/// other processes that open the same file, so this function does.
fn write_ahead(connection: &Connection, patience: Duration) -> rusqlite::Result<String> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun.elapsed() < patience =>
            {
                std::thread::sleep(BETWEEN_TRIES);
            }
            mode => return mode,
        }
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    // Usually nothing is missing, and then a command does not wait for a concurrent change.
    if missing(connection, path)?.is_empty() {
        return Ok(());
    }
    let failed = |cause| failure(path, cause);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Checked again under the lock, because two processes may have started at the same time.
    for migration in missing(&transaction, path)? {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Returns the migrations that were not applied yet.
fn missing(connection: &Connection, path: &Path) -> Result<&'static [&'static str], OpenError> {
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|cause| failure(path, cause))?;
    MIGRATIONS.get(found..).ok_or_else(|| OpenError::NewerSchema {
        path: path.to_owned(),
        found,
        known: MIGRATIONS.len(),
    })
}

fn failure(path: &Path, cause: rusqlite::Error) -> OpenError {
    match cause.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase(path.to_owned()),
        _ => OpenError::Database { path: path.to_owned(), cause },
    }
}
