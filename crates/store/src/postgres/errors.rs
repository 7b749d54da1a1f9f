//! Conversion of PostgreSQL's errors. No message contains a value of a row or a password.

use tokio_postgres::error::SqlState;
use trustrelay_authority::StoreError;

/// The reason why the database cannot be opened, in one line with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresOpenError {
    /// The URL cannot be parsed. It is not repeated, because it contains a password.
    #[error("--database-url is not a PostgreSQL URL: {0}; use postgres://USER:PASSWORD@HOST:5432/DATABASE")]
    Url(String),
    /// The certificates for verifying the server cannot be read.
    #[error("the certificates of `sslrootcert` cannot be used: {0}; use a PEM file, or `system`")]
    Certificates(String),
    /// The server does not answer, or not like PostgreSQL.
    #[error(
        "the database at {at} cannot be reached: {cause}; check --database-url and that the database is running"
    )]
    Unreachable {
        /// The database's host and name.
        at: String,
        /// The system's error.
        cause: String,
    },
    /// User or password are wrong, or the server does not accept connections from here.
    #[error(
        "the database at {at} refused the connection: {cause}; check the user and password in --database-url"
    )]
    Refused {
        /// The database's host and name.
        at: String,
        /// The server's error.
        cause: String,
    },
    /// The database does not exist.
    #[error(
        "the database at {at} does not exist; create it with `createdb`, or use the right one in --database-url"
    )]
    NoDatabase {
        /// The database's host and name.
        at: String,
    },
    /// The database contains no TrustRelay data.
    #[error(
        "there is no TrustRelay data in the database at {at}; use the right database in --database-url, or add an account first"
    )]
    Empty {
        /// The database's host and name.
        at: String,
    },
    /// The database is a standby or set to read-only.
    #[error("the database at {at} is read-only, such as a standby; use the primary in --database-url")]
    ReadOnly {
        /// The database's host and name.
        at: String,
    },
    /// The user lacks a required privilege.
    #[error(
        "the user of the database at {at} does not have the required rights: {cause}; make the user the owner of the database"
    )]
    NoRights {
        /// The database's host and name.
        at: String,
        /// The server's error.
        cause: String,
    },
    /// The database contains another program's tables.
    #[error(
        "the database at {at} contains the data of another program: {cause}; use a separate database for TrustRelay"
    )]
    Foreign {
        /// The database's host and name.
        at: String,
        /// The server's error.
        cause: String,
    },
    /// The database was written by a newer program.
    #[error(
        "the database at {at} has schema version {found}, but this program supports only up to {known}; use the newer TrustRelay version that wrote it"
    )]
    NewerSchema {
        /// The database's host and name.
        at: String,
        /// The database's schema version.
        found: usize,
        /// The newest schema version that this program knows.
        known: usize,
    },
    /// The database's encoding cannot represent all characters.
    #[error(
        "the database at {at} uses the encoding {encoding}; create a database with `createdb --encoding UTF8 --template template0`"
    )]
    Encoding {
        /// The database's host and name.
        at: String,
        /// The database's encoding.
        encoding: String,
    },
    /// Any other error from the server.
    #[error("the database at {at} cannot be opened: {cause}")]
    Database {
        /// The database's host and name.
        at: String,
        /// The server's error.
        cause: String,
    },
}

impl PostgresOpenError {
    pub(super) fn new(at: &str, failure: &Failure) -> Self {
        let (at, cause) = (at.to_owned(), failure.to_string());
        let (Failure::Database(error) | Failure::Undone(error)) = failure else {
            return Self::Unreachable { at, cause };
        };
        let Some(code) = error.code() else {
            return if says(error, "does not allow writes") {
                Self::ReadOnly { at }
            } else if says(error, "password missing") {
                Self::Refused { at, cause: "it requires a password".into() }
            } else {
                Self::Unreachable { at, cause }
            };
        };
        match *code {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Self::Refused { at, cause }
            }
            SqlState::INVALID_CATALOG_NAME => Self::NoDatabase { at },
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly { at },
            SqlState::INSUFFICIENT_PRIVILEGE | SqlState::INVALID_SCHEMA_NAME => Self::NoRights { at, cause },
            SqlState::DUPLICATE_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_TABLE => {
                Self::Foreign { at, cause }
            }
            SqlState::CANNOT_CONNECT_NOW | SqlState::TOO_MANY_CONNECTIONS => Self::Unreachable { at, cause },
            _ => Self::Database { at, cause },
        }
    }
}

fn says(error: &tokio_postgres::Error, what: &str) -> bool {
    described(error).contains(what)
}

/// The reason why a transaction failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error that the store itself returns.
    Answer(StoreError),
    Database(tokio_postgres::Error),
    /// The connection was lost within a transaction whose commit had not been sent.
    Undone(tokio_postgres::Error),
    /// There is no connection, or no answer in time.
    NoAnswer(String),
}

impl Failure {
    /// Returns whether the transaction was certainly not committed and a retry may succeed: another
    /// transaction held a lock for too long, or the database aborted this one.
    pub(super) fn is_transient(&self) -> bool {
        const GIVEN_UP: [SqlState; 4] = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        match self {
            Self::Undone(_) => true,
            Self::Database(error) => error.code().is_some_and(|code| GIVEN_UP.contains(code)),
            Self::Answer(_) | Self::NoAnswer(_) => false,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer(error) => error.fmt(f),
            Self::Database(error) | Self::Undone(error) => f.write_str(&described(error)),
            Self::NoAnswer(why) => f.write_str(why),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        use deadpool_postgres::{HookError, PoolError};
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::Database(error)
            }
            other => Self::NoAnswer(other.to_string()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answer(error) => error,
            // An error that the server did not report concerns the data that it sent: a column's
            // type or content.
            Failure::Database(error) if error.code().is_none() && is_unreadable(&error) => {
                Self::Corrupt(described(&error))
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

fn is_unreadable(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("error deserializing column") || text.starts_with("invalid column")
}

/// Describes an error with its cause. Omits the server's detail and hint, which may contain values.
fn described(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
