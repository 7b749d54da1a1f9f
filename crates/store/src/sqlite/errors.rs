//! Conversion of SQLite's errors.

use rusqlite::ErrorCode;
use trustrelay_authority::StoreError;

/// Converts SQLite's errors for use with `?`. None of them is the caller's fault.
pub(crate) trait OrStoreError<T> {
    fn or_store(self) -> Result<T, StoreError>;
}

impl<T> OrStoreError<T> for rusqlite::Result<T> {
    fn or_store(self) -> Result<T, StoreError> {
        self.map_err(|error| failed(&error))
    }
}

pub(crate) fn failed(error: &rusqlite::Error) -> StoreError {
    let unreadable =
        matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        ) || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    if unreadable {
        StoreError::Corrupt(error.to_string())
    } else {
        StoreError::Unavailable(error.to_string())
    }
}
