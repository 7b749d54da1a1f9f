//! Export and import of the policy, if one was ever set.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{Policy, StoreError};

use super::{Archive, Line, read};
use crate::postgres::{Failure, Link, get};
use crate::sqlite::errors::OrStoreError;

/// A policy. `version` is the log entry that set it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    pub(super) version: i64,
    pub(super) entry: String,
}

const DECIDED: &str = "SELECT version, entry FROM policy WHERE version > 0";

impl Archive {
    /// Returns the line of the policy.
    pub(super) fn policy_line(&self) -> impl Iterator<Item = Line> + '_ {
        self.policy.iter().cloned().map(Line::Policy)
    }

    /// Returns the policy for the import. Refuses a policy that this program could not apply.
    fn checked_policy(&self) -> Result<Option<&Decided>, StoreError> {
        let Some(decided) = &self.policy else { return Ok(None) };
        Policy::from_json(&decided.entry).map_err(StoreError::Corrupt)?;
        Ok(Some(decided))
    }
}

pub(super) fn from_sqlite(connection: &Connection, archive: &mut Archive) -> Result<(), StoreError> {
    let decided = read::from_sqlite(connection, DECIDED, |row| {
        Ok(Decided { version: row.get(0)?, entry: row.get(1)? })
    })?;
    archive.policy = decided.into_iter().next();
    Ok(())
}

pub(super) fn into_sqlite(connection: &Connection, archive: &Archive) -> Result<(), StoreError> {
    if let Some(Decided { version, entry }) = archive.checked_policy()? {
        let sql = "UPDATE policy SET version = ?1, entry = ?2";
        connection.execute(sql, params![version, entry]).or_store()?;
    }
    Ok(())
}

pub(super) async fn from_postgres(link: &Link, archive: &mut Archive) -> Result<(), Failure> {
    let decided =
        read::from_postgres(link, DECIDED, |row| Ok(Decided { version: get(row, 0)?, entry: get(row, 1)? }))
            .await?;
    archive.policy = decided.into_iter().next();
    Ok(())
}

pub(super) async fn into_postgres(link: &Link, archive: &Archive) -> Result<(), Failure> {
    if let Some(Decided { version, entry }) = archive.checked_policy()? {
        let update = link.prepare("UPDATE policy SET version = $1, entry = $2").await?;
        link.count(&update, &[version, entry]).await?;
    }
    Ok(())
}
