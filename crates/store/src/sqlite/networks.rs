//! The networks from which tokens were used.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Row, params};
use trustrelay_authority::{KEPT_NETWORKS, NETWORK_STEP, NetworkUse, StoreError};
use trustrelay_token::Network;
use uuid::Uuid;

use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows;

pub(crate) fn record(
    connection: &Connection,
    uses: &BTreeMap<(Uuid, Network), NetworkUse>,
) -> Result<(), StoreError> {
    if uses.is_empty() {
        return Ok(());
    }
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO pat_networks AS n (pat_id, network, first_used_at, last_used_at) \
             SELECT pat_id, ?2, ?3, ?4 FROM pats WHERE pat_id = ?1 ON CONFLICT (pat_id, network) DO UPDATE SET \
             first_used_at = MIN(n.first_used_at, excluded.first_used_at), last_used_at = MAX(n.last_used_at, excluded.last_used_at) \
             WHERE excluded.last_used_at - n.last_used_at >= ?5 OR excluded.first_used_at < n.first_used_at",
        )
        .or_store()?;
    for ((pat_id, network), used) in uses {
        statement
            .execute(params![
                pat_id.as_bytes(),
                network.to_string(),
                used.first_used_at.as_microsecond(),
                used.last_used_at.as_microsecond(),
                step(),
            ])
            .or_store()?;
    }
    let mut cut = connection
        .prepare_cached(
            "DELETE FROM pat_networks WHERE pat_id = ?1 AND network IN (SELECT network FROM pat_networks WHERE pat_id = ?1 \
             ORDER BY last_used_at DESC, network LIMIT -1 OFFSET ?2)",
        )
        .or_store()?;
    let tokens: BTreeSet<Uuid> = uses.keys().map(|(pat_id, _)| *pat_id).collect();
    for pat_id in tokens {
        cut.execute(params![pat_id.as_bytes(), KEPT_NETWORKS]).or_store()?;
    }
    Ok(())
}

/// Returns [`NETWORK_STEP`] in microseconds.
pub(crate) fn step() -> i64 {
    i64::try_from(NETWORK_STEP.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the networks used at or after a time, in microseconds.
pub(crate) fn since(
    connection: &Connection,
    pat_id: Uuid,
    since: i64,
) -> Result<Vec<NetworkUse>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT network, first_used_at, last_used_at FROM pat_networks WHERE pat_id = ?1 AND last_used_at >= ?2 \
             ORDER BY last_used_at DESC, network",
        )
        .or_store()?;
    let networks = statement.query_map(params![pat_id.as_bytes(), since], network).or_store()?;
    networks.collect::<rusqlite::Result<_>>().or_store()
}

fn network(row: &Row<'_>) -> rusqlite::Result<NetworkUse> {
    let text: String = row.get(0)?;
    Ok(NetworkUse {
        network: text.parse().map_err(|error| rows::unreadable(0, error))?,
        first_used_at: rows::time(row, 1)?,
        last_used_at: rows::time(row, 2)?,
    })
}

/// Deletes the networks not used since a time, in microseconds. Returns their number.
pub(crate) fn forget(connection: &Connection, before: i64, limit: u64) -> Result<usize, StoreError> {
    connection
        .execute(
            "DELETE FROM pat_networks WHERE (pat_id, network) IN \
             (SELECT pat_id, network FROM pat_networks WHERE last_used_at < ?1 ORDER BY last_used_at LIMIT ?2)",
            params![before, limit],
        )
        .or_store()
}
