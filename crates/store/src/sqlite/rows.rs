//! Conversion of rows to records.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row};
use trustrelay_authority::{PatRecord, SessionRecord, StoreError, UserRecord};
use trustrelay_token::{KeyId, Limits, TokenDigest};
use uuid::Uuid;

use crate::sql::limits::Kept;
use crate::sqlite::errors::OrStoreError;

pub(crate) const PAT: &str = "p.pat_id, p.user_id, p.name, p.hint, p.scopes, p.digest, p.key_id, p.parent_id, p.created_at, p.expires_at, \
     p.revoked_at, p.last_used_at, p.rotated_at, p.allowed_networks, p.requests_per_minute, p.unused_days";
pub(crate) const USER: &str =
    "u.user_id, u.email, u.password_hash, u.is_admin, u.created_at, u.disabled_at, u.upstreams";
/// The number of columns in [`USER`].
pub(crate) const USER_COLUMNS: usize = 7;
/// The number of columns in [`PAT`].
pub(crate) const PAT_COLUMNS: usize = 16;

pub(crate) fn unreadable(
    at: usize,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Blob, Box::new(cause))
}

pub(crate) fn id(row: &Row<'_>, at: usize) -> rusqlite::Result<Uuid> {
    Ok(Uuid::from_bytes(row.get(at)?))
}

pub(crate) fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(at)?).map_err(|error| unreadable(at, error))
}

pub(crate) fn optional_time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    match row.get::<_, Option<i64>>(at)? {
        Some(micros) => Timestamp::from_microsecond(micros).map(Some).map_err(|error| unreadable(at, error)),
        None => Ok(None),
    }
}

/// Reads a token's limits from three columns.
fn limits(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Arc<Limits>>> {
    let kept = Kept {
        allowed_networks: row.get(at)?,
        requests_per_minute: row.get(at + 1)?,
        unused_days: row.get(at + 2)?,
    };
    kept.read().map_err(|error| unreadable(at, error))
}

/// Reads a token from the columns of [`PAT`] at the row's beginning.
pub(crate) fn pat(row: &Row<'_>) -> rusqlite::Result<PatRecord> {
    let scopes: String = row.get(4)?;
    Ok(PatRecord {
        pat_id: id(row, 0)?,
        user_id: id(row, 1)?,
        name: row.get(2)?,
        hint: row.get(3)?,
        scopes: scopes.parse().map_err(|error| unreadable(4, error))?,
        digest: TokenDigest::from_bytes(row.get(5)?),
        key_id: KeyId(row.get(6)?),
        parent_id: row.get::<_, Option<[u8; 16]>>(7)?.map(Uuid::from_bytes),
        created_at: time(row, 8)?,
        expires_at: time(row, 9)?,
        revoked_at: optional_time(row, 10)?,
        last_used_at: optional_time(row, 11)?,
        rotated_at: optional_time(row, 12)?,
        limits: limits(row, 13)?,
    })
}

/// Reads an account from the columns of [`USER`] after `skip` others.
pub(crate) fn user(row: &Row<'_>, skip: usize) -> rusqlite::Result<UserRecord> {
    Ok(UserRecord {
        user_id: id(row, skip)?,
        email: row.get(skip + 1)?,
        password_hash: row.get(skip + 2)?,
        is_admin: row.get(skip + 3)?,
        created_at: time(row, skip + 4)?,
        disabled_at: optional_time(row, skip + 5)?,
        upstreams: row.get::<_, Option<String>>(skip + 6)?.map(names),
    })
}

/// Splits the names that a single text contains.
pub(crate) fn names(text: String) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Reads a browser session from its four columns.
pub(crate) fn session(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        digest: row.get(0)?,
        user_id: id(row, 1)?,
        created_at: time(row, 2)?,
        expires_at: time(row, 3)?,
    })
}

/// Returns whether an account exists and is enabled.
pub(super) fn is_enabled(connection: &Connection, user_id: Uuid) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM users WHERE user_id = ?1 AND disabled_at IS NULL)")
        .or_store()?
        .query_row([user_id.as_bytes()], |row| row.get(0))
        .or_store()
}
