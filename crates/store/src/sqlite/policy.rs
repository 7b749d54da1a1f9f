//! The policy: a single row. Its version is the log entry that set it.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};
use trustrelay_authority::{AuditEntry, Policy, PolicyRecord, PolicyStore, StoreError};

use crate::sqlite::SqliteStore;
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::log::append;

/// Converts the row to a record.
pub(crate) fn record(seq: u64, entry: &str) -> Result<PolicyRecord, StoreError> {
    let policy = Policy::from_json(entry).map_err(StoreError::Corrupt)?;
    Ok(PolicyRecord { seq, policy })
}

fn set_policy(
    connection: &Connection,
    policy: &Policy,
    replaces: u64,
    now: Timestamp,
    audit: &AuditEntry,
) -> Result<Option<u64>, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let sql = "UPDATE policy SET version = (SELECT COALESCE(MAX(seq), 0) + 1 FROM log), entry = ?1 WHERE version = ?2";
    if connection.execute(sql, params![policy.to_json(), replaces]).or_store()? == 0 {
        return Ok(None);
    }
    let seq = append(connection, now, "policy", None)?;
    audit::append(connection, audit, permit)?;
    Ok(Some(seq))
}

#[async_trait]
impl PolicyStore for SqliteStore {
    async fn policy(&self) -> Result<PolicyRecord, StoreError> {
        self.threads()
            .read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT version, entry FROM policy").or_store()?;
                let (seq, entry): (u64, String) =
                    statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).or_store()?;
                record(seq, &entry)
            })
            .await
    }

    async fn set_policy(
        &self,
        policy: &Policy,
        replaces: u64,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let (policy, audit) = (policy.clone(), audit.clone());
        self.threads().write(move |connection| set_policy(connection, &policy, replaces, now, &audit)).await
    }
}
