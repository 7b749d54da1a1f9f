//! The log of changes that reduce access.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use trustrelay_authority::{Change, LogEntry, RetiredSecret, RevokedPat, StoreError};
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows;

/// Maximum number of log entries in one answer.
const MAX_BEHIND: u64 = 1000;

/// Appends an entry and returns its number. The writer is alone in its transaction, so numbers have
/// no gaps.
pub(crate) fn append(
    connection: &Connection,
    at: Timestamp,
    kind: &str,
    user_id: Option<Uuid>,
) -> Result<u64, StoreError> {
    let seq = head(connection)? + 1;
    connection
        .prepare_cached("INSERT INTO log (seq, at, kind, user_id) VALUES (?1, ?2, ?3, ?4)")
        .or_store()?
        .execute(params![seq, at.as_microsecond(), kind, user_id.map(Uuid::into_bytes)])
        .or_store()?;
    Ok(seq)
}

pub(crate) fn head(connection: &Connection) -> Result<u64, StoreError> {
    connection.query_row("SELECT COALESCE(MAX(seq), 0) FROM log", [], |row| row.get(0)).or_store()
}

pub(crate) fn log_after(connection: &Connection, seq: u64) -> Result<Vec<LogEntry>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT seq, at, kind, user_id FROM log WHERE seq > ?1 ORDER BY seq LIMIT ?2")
        .or_store()?;
    let mut rows = statement.query(params![seq, MAX_BEHIND]).or_store()?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().or_store()? {
        let seq: u64 = row.get(0).or_store()?;
        let kind: String = row.get(2).or_store()?;
        let change = match kind.as_str() {
            "revoked" => Change::PatsRevoked(revoked_in(connection, seq)?),
            "retired" => Change::SecretsRetired(retired_in(connection, seq)?),
            "disabled" => Change::UserDisabled(rows::id(row, 3).or_store()?),
            "upstreams" => Change::UpstreamsChanged(rows::id(row, 3).or_store()?),
            "admin" => Change::AdminChanged(rows::id(row, 3).or_store()?),
            "policy" => Change::PolicyChanged,
            "enabled" => Change::UserEnabled(rows::id(row, 3).or_store()?),
            other => {
                return Err(StoreError::Corrupt(format!("log entry {seq} has the unknown kind `{other}`")));
            }
        };
        entries.push(LogEntry { seq, at: rows::time(row, 1).or_store()?, change });
    }
    Ok(entries)
}

fn revoked_in(connection: &Connection, seq: u64) -> Result<Vec<RevokedPat>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT pat_id, digest FROM log_pats WHERE seq = ?1 UNION ALL SELECT pat_id, digest FROM log_secrets WHERE seq = ?1 \
             ORDER BY pat_id",
        )
        .or_store()?;
    let pats = statement
        .query_map([seq], |row| {
            Ok(RevokedPat { pat_id: rows::id(row, 0)?, digest: TokenDigest::from_bytes(row.get(1)?) })
        })
        .or_store()?;
    pats.collect::<rusqlite::Result<_>>().or_store()
}

fn retired_in(connection: &Connection, seq: u64) -> Result<Vec<RetiredSecret>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT pat_id, digest, valid_until, ended FROM log_secrets WHERE seq = ?1 ORDER BY digest",
        )
        .or_store()?;
    let secrets = statement
        .query_map([seq], |row| {
            Ok(RetiredSecret {
                pat_id: rows::id(row, 0)?,
                digest: TokenDigest::from_bytes(row.get(1)?),
                valid_until: rows::time(row, 2)?,
                ended: row.get(3)?,
            })
        })
        .or_store()?;
    secrets.collect::<rusqlite::Result<_>>().or_store()
}
