//! The log of changes that take power away, and the leases of those who follow it.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use trustrelay_authority::{Change, Lease, LogEntry, NodeRecord, Renewal, RevokedPat, StoreError};
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use crate::errors::OrStoreError;
use crate::rows;

/// Most log entries in one answer.
const MAX_BEHIND: u64 = 1000;

/// Of how many recent entries the cuts are kept: their revocations have long been answered.
const REMEMBERED_CUTS: u64 = 1000;

/// The next number: the writer is alone in its transaction, so there is no gap.
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

fn log_after(connection: &Connection, seq: u64) -> Result<Vec<LogEntry>, StoreError> {
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
            "disabled" => Change::UserDisabled(rows::id(row, 3).or_store()?),
            "enabled" => Change::UserEnabled(rows::id(row, 3).or_store()?),
            other => {
                return Err(StoreError::Corrupt(format!("log entry {seq} is of the unknown kind `{other}`")));
            }
        };
        entries.push(LogEntry { seq, at: rows::time(row, 1).or_store()?, change });
    }
    Ok(entries)
}

fn revoked_in(connection: &Connection, seq: u64) -> Result<Vec<RevokedPat>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT pat_id, digest FROM log_pats WHERE seq = ?1 ORDER BY pat_id")
        .or_store()?;
    let pats = statement
        .query_map([seq], |row| {
            Ok(RevokedPat { pat_id: rows::id(row, 0)?, digest: TokenDigest::from_bytes(row.get(1)?) })
        })
        .or_store()?;
    pats.collect::<rusqlite::Result<_>>().or_store()
}

/// Nanoseconds since boot, counting a suspended machine's sleep: the clock of leases.
pub(crate) fn since_boot() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

pub(crate) fn renew_lease(
    connection: &Connection,
    lease: &Lease,
    boot_id: &str,
) -> Result<Renewal, StoreError> {
    if head(connection)? > lease.applied_seq {
        return Ok(Renewal::Behind(log_after(connection, lease.applied_seq)?));
    }
    let now = since_boot();
    let until = now.saturating_add(i64::try_from(lease.length.as_nanos()).unwrap_or(i64::MAX));
    connection
        .prepare_cached(
            "INSERT INTO nodes (node_id, boot_id, lease_until, applied_seq, name) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (node_id) \
             DO UPDATE SET boot_id = excluded.boot_id, lease_until = excluded.lease_until, applied_seq = excluded.applied_seq, \
             name = excluded.name",
        )
        .or_store()?
        .execute(params![lease.node_id.as_bytes(), boot_id, until, lease.applied_seq, lease.name])
        .or_store()?;
    for (seq, sessions) in &lease.cuts {
        connection
            .prepare_cached(
                "INSERT INTO cuts (seq, node_id, sessions) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )
            .or_store()?
            .execute(params![seq, lease.node_id.as_bytes(), sessions])
            .or_store()?;
        connection
            .prepare_cached("DELETE FROM cuts WHERE seq < ?1")
            .or_store()?
            .execute([seq.saturating_sub(REMEMBERED_CUTS)])
            .or_store()?;
    }
    // Of nodes that died nothing is left.
    connection
        .prepare_cached("DELETE FROM nodes WHERE boot_id <> ?1 OR lease_until < ?2")
        .or_store()?
        .execute(params![boot_id, now])
        .or_store()?;
    Ok(Renewal::Held)
}

pub(crate) fn nodes(connection: &Connection, boot_id: &str) -> Result<Vec<NodeRecord>, StoreError> {
    let now = since_boot();
    let mut statement = connection
        .prepare_cached(
            "SELECT node_id, name, applied_seq, lease_until FROM nodes WHERE boot_id = ?1 ORDER BY name, node_id",
        )
        .or_store()?;
    let nodes = statement
        .query_map([boot_id], |row| {
            let left: i64 = row.get::<_, i64>(3)?.saturating_sub(now);
            let left = u64::try_from(left).ok().filter(|left| *left > 0);
            Ok(NodeRecord {
                node_id: rows::id(row, 0)?,
                name: row.get(1)?,
                applied_seq: row.get(2)?,
                lease_left: left.map(Duration::from_nanos),
            })
        })
        .or_store()?;
    nodes.collect::<rusqlite::Result<_>>().or_store()
}

pub(crate) fn cuts(connection: &Connection, seq: u64, except: Option<Uuid>) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT COALESCE(SUM(sessions), 0) FROM cuts WHERE seq = ?1 AND node_id IS NOT ?2")
        .or_store()?
        .query_row(params![seq, except.map(Uuid::into_bytes)], |row| row.get(0))
        .or_store()
}
