//! Opens the file, and brings its schema up to date.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::private;

/// The name of the database in a data directory.
pub const DATABASE_FILE: &str = "trustrelay.db";

/// Each migration once, in order; a database's `user_version` is how many it has had. Never change one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_nodes.sql"),
    include_str!("../migrations/0003_activity.sql"),
    include_str!("../migrations/0004_leases.sql"),
    include_str!("../migrations/0005_audit.sql"),
    include_str!("../migrations/0006_audit_log.sql"),
    include_str!("../migrations/0007_rotation.sql"),
    include_str!("../migrations/0008_limits.sql"),
    include_str!("../migrations/0009_administration.sql"),
    include_str!("../migrations/0010_notices.sql"),
    include_str!("../migrations/0011_searches.sql"),
    include_str!("../migrations/0012_networks.sql"),
    include_str!("../migrations/0013_unused.sql"),
    include_str!("../migrations/0014_keys.sql"),
    include_str!("../migrations/0015_ended_secrets.sql"),
    include_str!("../migrations/0016_node_urls.sql"),
    include_str!("../migrations/0017_first_uses.sql"),
];

/// The files of a database (sqlite.org/tempfiles.html), by what follows its name.
const FILES: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// Smallest database there can be: one page of 512 bytes (sqlite.org/fileformat2.html, "Pages").
const SMALLEST: u64 = 512;
/// How long to wait before trying again what SQLite itself does not wait for.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// What can be set.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// How many threads read.
    pub readers: usize,
    /// How long a change waits for another process's.
    pub busy: Duration,
    /// Most pages (of 4 KiB) that the file may have; past that, changes are refused as on a full disk. `None`: as many as
    /// the disk holds.
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 2, busy: Duration::from_secs(5), max_pages: None }
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
    /// One of the database's files is not what it should be.
    #[error("{path} is not used: {cause}; move it away, and find out who has put it there")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
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
    /// The file system does not do what write-ahead mode needs.
    #[error(
        "{path} cannot be kept in write-ahead mode (`{mode}` instead); put the data directory on a local disk"
    )]
    NoWriteAhead {
        /// The file.
        path: PathBuf,
        /// The mode that it stayed in.
        mode: String,
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
pub(crate) fn prepare(dir: &Path, options: &SqliteOptions) -> Result<PathBuf, OpenError> {
    let unusable = |cause| OpenError::Directory { path: dir.to_owned(), cause };
    if let Some(repaired) = private::directory(dir).map_err(unusable)? {
        tracing::warn!("{repaired}");
    }
    let path = dir.join(DATABASE_FILE);
    // Before SQLite does, so that the file is never readable by others. One that is there is not opened: closing it would
    // take away the locks that this process may have on it (fcntl(2)).
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
    // SQLite takes some short texts for an empty database, and writes over them.
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
    // An answered change survives a power cut: every commit reaches the disk.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update(None, "max_page_count", pages).map_err(failed)?;
    }
    // A statement is prepared once. Without this SQLite does it anew each time where it thinks that another value may want another plan,
    // and that is most of what a look-up takes (sqlite.org/qpsg.html).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Puts the file into write-ahead mode; the mode that it is in then. SQLite does not wait for others who begin the same file
/// here, so this does.
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
    // Most of the time there is nothing to do, and a command then waits for nobody's change.
    if missing(connection, path)?.is_empty() {
        return Ok(());
    }
    let failed = |cause| failure(path, cause);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Again, now that nobody else can: two may have begun at the same time.
    for migration in missing(&transaction, path)? {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The migrations that the file has not had.
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
