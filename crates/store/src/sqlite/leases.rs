//! The leases of the nodes that follow the log, and the sessions that they have ended.

use std::time::Duration;

use rusqlite::{Connection, params};
use trustrelay_authority::{Holder, Lease, NodeRecord, Renewal, StoreError, Terminated};
use uuid::Uuid;

use crate::sqlite::errors::OrStoreError;
use crate::sqlite::log::{head, log_after};
use crate::sqlite::rows;

/// Number of recent log entries whose cuts are kept. The revocations of older ones were answered
/// long ago.
const REMEMBERED_CUTS: u64 = 1000;

/// Returns the nanoseconds since boot, including the time that the machine was suspended.
fn since_boot() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

pub(crate) fn renew_lease(
    connection: &Connection,
    lease: &Lease,
    boot_id: &str,
) -> Result<Renewal, StoreError> {
    // Only a node that has applied the whole log may hold a lease.
    if head(connection)? > lease.applied_seq {
        return Ok(Renewal::Behind(log_after(connection, lease.applied_seq)?));
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO leases (node_id, boot_id, name, url, applied_seq, held, claim, length, renewed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8)",
        )
        .or_store()?
        .execute(params![
            lease.node_id.as_bytes(),
            boot_id,
            lease.name,
            lease.url,
            lease.applied_seq,
            lease.claim,
            nanos(lease.length),
            since_boot(),
        ])
        .or_store()?;
    for (seq, ended) in &lease.cuts {
        let numbers: Vec<u8> = ended.sessions.iter().flat_map(|number| number.to_le_bytes()).collect();
        let all = ended.requests.saturating_add(ended.sessions.len() as u64);
        connection
            .prepare_cached(
                "INSERT INTO cuts (seq, node_id, sessions, numbers) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )
            .or_store()?
            .execute(params![seq, lease.node_id.as_bytes(), all, numbers])
            .or_store()?;
        connection
            .prepare_cached("DELETE FROM cuts WHERE seq < ?1")
            .or_store()?
            .execute([seq.saturating_sub(REMEMBERED_CUTS)])
            .or_store()?;
    }
    // Removes the rows of nodes that died.
    connection
        .prepare_cached("DELETE FROM leases WHERE boot_id <> ?1 OR NOT held")
        .or_store()?
        .execute([boot_id])
        .or_store()?;
    Ok(Renewal::Held)
}

fn nanos(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn end_lease(connection: &Connection, node_id: Uuid) -> Result<(), StoreError> {
    let sql = "DELETE FROM leases WHERE node_id = ?1";
    connection.execute(sql, [node_id.as_bytes()]).or_store().map(drop)
}

/// Returns the holders that lack an entry. Processes of an earlier boot no longer run. A renewal
/// cannot be in progress: the change has waited for it, and this query runs after the change.
pub(crate) fn holders_behind(
    connection: &Connection,
    seq: u64,
    except: Option<Uuid>,
    boot_id: &str,
) -> Result<Vec<Holder>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT node_id, claim, length FROM leases WHERE boot_id = ?1 AND held AND applied_seq < ?2 AND node_id IS NOT ?3",
        )
        .or_store()?;
    // SQLite's integers are signed.
    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
    let holders = statement
        .query_map(params![boot_id, seq, except.map(Uuid::into_bytes)], |row| {
            let length = Duration::from_nanos(row.get(2)?);
            Ok(Holder { node_id: rows::id(row, 0)?, claim: row.get(1)?, length })
        })
        .or_store()?;
    holders.collect::<rusqlite::Result<_>>().or_store()
}

pub(crate) fn let_go(connection: &Connection, holders: &[Holder]) -> Result<(), StoreError> {
    for holder in holders {
        connection
            .prepare_cached("UPDATE leases SET held = 0 WHERE node_id = ?1 AND claim = ?2")
            .or_store()?
            .execute(params![holder.node_id.as_bytes(), holder.claim])
            .or_store()?;
    }
    Ok(())
}

pub(crate) fn nodes(connection: &Connection, boot_id: &str) -> Result<Vec<NodeRecord>, StoreError> {
    let now = since_boot();
    let mut statement = connection
        .prepare_cached(
            "SELECT node_id, name, applied_seq, held, renewed_at, length, url, claim FROM leases WHERE boot_id = ?1 ORDER BY name, node_id",
        )
        .or_store()?;
    let nodes = statement
        .query_map([boot_id], |row| {
            let (held, until) = (row.get(3)?, row.get::<_, i64>(4)?.saturating_add(row.get(5)?));
            let left = u64::try_from(until.saturating_sub(now)).ok().filter(|left| held && *left > 0);
            Ok(NodeRecord {
                node_id: rows::id(row, 0)?,
                name: row.get(1)?,
                url: row.get(6)?,
                claim: row.get(7)?,
                applied_seq: row.get(2)?,
                lease_left: left.map(Duration::from_nanos),
            })
        })
        .or_store()?;
    nodes.collect::<rusqlite::Result<_>>().or_store()
}

pub(crate) fn cuts(
    connection: &Connection,
    seq: u64,
    except: Option<Uuid>,
) -> Result<Terminated, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT sessions, numbers FROM cuts WHERE seq = ?1 AND node_id IS NOT ?2")
        .or_store()?;
    let of_nodes = statement
        .query_map(params![seq, except.map(Uuid::into_bytes)], |row| {
            let (all, numbers): (u64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let (numbers, _) = numbers.as_chunks();
            let sessions: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
            Ok(Terminated { requests: all.saturating_sub(sessions.len() as u64), sessions })
        })
        .or_store()?;
    let mut ended = Terminated::default();
    for of_node in of_nodes {
        ended.extend([of_node.or_store()?]);
    }
    Ok(ended)
}
