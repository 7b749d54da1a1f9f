//! The audit log. The writer is alone in its transaction, so numbers have no gaps and the chain no forks.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use trustrelay_authority::{AuditEntry, AuditRecord, AuditStore, StoreError, chained};
use uuid::Uuid;

use crate::errors::OrStoreError;
use crate::sqlite::SqliteStore;

/// Appends an entry, within the transaction of the change that it tells of.
pub(crate) fn append(connection: &Connection, entry: &AuditEntry) -> Result<(), StoreError> {
    let (last, before): (u64, [u8; 32]) = connection
        .prepare_cached("SELECT seq, hash FROM audit_head")
        .or_store()?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .or_store()?;
    let seq = last + 1;
    let bytes = entry.to_bytes()?;
    let hash = chained(&before, seq, &bytes);
    let id = |id: Option<Uuid>| id.map(Uuid::into_bytes);
    connection
        .prepare_cached(
            "INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .or_store()?
        .execute(params![
            seq,
            entry.at.as_microsecond(),
            entry.action,
            id(entry.actor.user_id),
            id(entry.actor.pat_id),
            id(entry.user_id),
            id(entry.pat_id),
            bytes,
            hash,
        ])
        .or_store()?;
    connection
        .prepare_cached("UPDATE audit_head SET seq = ?1, hash = ?2")
        .or_store()?
        .execute(params![seq, hash])
        .or_store()?;
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    Ok(AuditRecord { seq: row.get(0)?, entry: row.get(1)?, hash: row.get(2)? })
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let entries = entries.to_vec();
        self.threads()
            .write(move |connection| entries.iter().try_for_each(|entry| append(connection, entry)))
            .await
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        self.threads()
            .read(move |connection| {
                let mut statement = connection
                    .prepare_cached("SELECT seq, entry, hash FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")
                    .or_store()?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let records = statement.query_map(params![seq, limit], record).or_store()?;
                records.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }
}
