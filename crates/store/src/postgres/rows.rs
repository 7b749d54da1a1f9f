//! Conversion of rows to records, and of numbers to PostgreSQL's types.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use trustrelay_authority::{PatRecord, SessionRecord, StoreError, UserRecord};
use trustrelay_token::{KeyId, Limits, TokenDigest};

use super::errors::Failure;
use crate::sql::limits::Kept;
use crate::sqlite::rows::names;

pub(super) const PAT: &str = "p.pat_id, p.user_id, p.name, p.hint, p.scopes, p.digest, p.key_id, p.parent_id, p.created_at, p.expires_at, \
     p.revoked_at, p.last_used_at, p.rotated_at, p.allowed_networks, p.requests_per_minute, p.unused_days";
pub(super) const USER: &str =
    "u.user_id, u.email, u.password_hash, u.is_admin, u.created_at, u.disabled_at, u.upstreams";
/// The number of columns in [`USER`].
pub(super) const USER_COLUMNS: usize = 7;
/// The number of columns in [`PAT`].
pub(super) const PAT_COLUMNS: usize = 16;

pub(crate) fn corrupt(what: impl std::fmt::Display) -> Failure {
    Failure::Answer(StoreError::Corrupt(what.to_string()))
}

/// Reads a column. `Row::get` would panic on an unexpected type.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Failure> {
    Ok(row.try_get(at)?)
}

pub(super) fn time(row: &Row, at: usize) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(get(row, at)?).map_err(corrupt)
}

pub(super) fn optional_time(row: &Row, at: usize) -> Result<Option<Timestamp>, Failure> {
    get::<Option<i64>>(row, at)?.map(Timestamp::from_microsecond).transpose().map_err(corrupt)
}

/// Reads a number that is never negative.
pub(super) fn number(row: &Row, at: usize) -> Result<u64, Failure> {
    u64::try_from(get::<i64>(row, at)?).map_err(corrupt)
}

pub(super) fn optional_number(row: &Row, at: usize) -> Result<Option<u64>, Failure> {
    get::<Option<i64>>(row, at)?.map(u64::try_from).transpose().map_err(corrupt)
}

pub(super) fn bytes<const N: usize>(row: &Row, at: usize) -> Result<[u8; N], Failure> {
    <[u8; N]>::try_from(get::<&[u8]>(row, at)?).map_err(corrupt)
}

/// Converts a number to PostgreSQL's integer type. Larger numbers are capped, which is harmless
/// because nothing here counts that far.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a token's limits from three columns.
fn limits(row: &Row, at: usize) -> Result<Option<Arc<Limits>>, Failure> {
    let kept = Kept {
        allowed_networks: get(row, at)?,
        requests_per_minute: get(row, at + 1)?,
        unused_days: get(row, at + 2)?,
    };
    Ok(kept.read()?)
}

/// Reads a token from the columns of [`PAT`] at the row's beginning.
pub(super) fn pat(row: &Row) -> Result<PatRecord, Failure> {
    Ok(PatRecord {
        pat_id: get(row, 0)?,
        user_id: get(row, 1)?,
        name: get(row, 2)?,
        hint: get(row, 3)?,
        scopes: get::<&str>(row, 4)?.parse().map_err(corrupt)?,
        digest: TokenDigest::from_bytes(bytes(row, 5)?),
        key_id: KeyId(u32::try_from(get::<i64>(row, 6)?).map_err(corrupt)?),
        parent_id: get(row, 7)?,
        created_at: time(row, 8)?,
        expires_at: time(row, 9)?,
        revoked_at: optional_time(row, 10)?,
        last_used_at: optional_time(row, 11)?,
        rotated_at: optional_time(row, 12)?,
        limits: limits(row, 13)?,
    })
}

/// Reads an account from the columns of [`USER`] after `skip` others.
pub(super) fn user(row: &Row, skip: usize) -> Result<UserRecord, Failure> {
    Ok(UserRecord {
        user_id: get(row, skip)?,
        email: get(row, skip + 1)?,
        password_hash: get(row, skip + 2)?,
        is_admin: get(row, skip + 3)?,
        created_at: time(row, skip + 4)?,
        disabled_at: optional_time(row, skip + 5)?,
        upstreams: get::<Option<String>>(row, skip + 6)?.map(names),
    })
}

/// Reads a browser session from its four columns.
pub(super) fn session(row: &Row) -> Result<SessionRecord, Failure> {
    Ok(SessionRecord {
        digest: bytes(row, 0)?,
        user_id: get(row, 1)?,
        created_at: time(row, 2)?,
        expires_at: time(row, 3)?,
    })
}
