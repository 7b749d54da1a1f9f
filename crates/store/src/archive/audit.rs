//! The audit log in an archive. Entries keep their bytes and hashes, so that the chain and the
//! seals still verify after an import.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{AUDIT_BEGINNING, AuditColumns, AuditEntry, StoreError};

use super::{Archive, Bytes, Line, read};
use crate::postgres::{Failure, Link, corrupt, get};
use crate::sqlite::errors::OrStoreError;

/// A link of the chain without its entry: the last one that was cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) seq: i64,
    pub(super) hash: Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audited {
    pub(super) seq: i64,
    pub(super) entry: Bytes,
    pub(super) hash: Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seal {
    pub(super) seq: i64,
    pub(super) at: i64,
    pub(super) mac: Bytes,
}

impl Archive {
    /// Returns the lines of the audit log.
    pub(super) fn audit_lines(&self) -> impl Iterator<Item = Line> + '_ {
        let cut = self.audit_cut.iter().cloned().map(Line::AuditCut);
        let audit = self.audit.iter().cloned().map(Line::Audit);
        cut.chain(audit).chain(self.seals.iter().cloned().map(Line::AuditSeal))
    }

    fn cut(&self) -> Mark {
        self.audit_cut.clone().unwrap_or(Mark { seq: 0, hash: Bytes(AUDIT_BEGINNING.to_vec()) })
    }

    /// Returns the last entry, or the mark at which the next entry continues.
    fn head(&self) -> Mark {
        match self.audit.last() {
            Some(last) => Mark { seq: last.seq, hash: last.hash.clone() },
            None => self.cut(),
        }
    }
}

fn columns(entry: &Audited) -> Result<AuditColumns, StoreError> {
    Ok(AuditColumns::of(&AuditEntry::from_bytes(&entry.entry.0)?))
}

fn mark(row: &Row<'_>) -> rusqlite::Result<Mark> {
    Ok(Mark { seq: row.get(0)?, hash: Bytes(row.get(1)?) })
}

pub(super) fn from_sqlite(connection: &Connection, archive: &mut Archive) -> Result<(), StoreError> {
    let cut = connection.query_row("SELECT seq, hash FROM audit_cut WHERE seq > 0", [], mark);
    archive.audit_cut = cut.optional().or_store()?;
    let audited =
        |row: &Row<'_>| Ok(Audited { seq: row.get(0)?, entry: Bytes(row.get(1)?), hash: Bytes(row.get(2)?) });
    let sql = "SELECT seq, entry, hash FROM audit ORDER BY seq";
    archive.audit = read::from_sqlite(connection, sql, audited)?;
    let seal = |row: &Row<'_>| Ok(Seal { seq: row.get(0)?, at: row.get(1)?, mac: Bytes(row.get(2)?) });
    archive.seals = read::from_sqlite(connection, "SELECT seq, at, mac FROM audit_seals ORDER BY seq", seal)?;
    Ok(())
}

pub(super) fn into_sqlite(connection: &Connection, archive: &Archive) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut insert = connection.prepare(sql).or_store()?;
    for entry in &archive.audit {
        let columns = columns(entry)?;
        let [by_user, by_pat, user, pat] =
            [columns.actor_user_id, columns.actor_pat_id, columns.user_id, columns.pat_id]
                .map(|id| id.map(uuid::Uuid::into_bytes));
        let values = params![
            entry.seq,
            columns.at,
            columns.action,
            by_user,
            by_pat,
            user,
            pat,
            entry.entry.0,
            entry.hash.0
        ];
        insert.execute(values).or_store()?;
    }
    for (sql, mark) in [
        ("UPDATE audit_cut SET seq = ?1, hash = ?2", archive.cut()),
        ("UPDATE audit_head SET seq = ?1, hash = ?2", archive.head()),
    ] {
        connection.execute(sql, params![mark.seq, mark.hash.0]).or_store()?;
    }
    for seal in &archive.seals {
        let sql = "INSERT INTO audit_seals (seq, at, mac) VALUES (?1, ?2, ?3)";
        connection
            .prepare_cached(sql)
            .or_store()?
            .execute(params![seal.seq, seal.at, seal.mac.0])
            .or_store()?;
    }
    Ok(())
}

pub(super) async fn from_postgres(link: &Link, archive: &mut Archive) -> Result<(), Failure> {
    let select = link.prepare("SELECT seq, hash FROM audit_cut WHERE seq > 0").await?;
    let mark =
        |row: &tokio_postgres::Row| Ok::<_, Failure>(Mark { seq: get(row, 0)?, hash: Bytes(get(row, 1)?) });
    archive.audit_cut = link.row(&select, &[]).await?.as_ref().map(mark).transpose()?;
    archive.audit = read::from_postgres(link, "SELECT seq, entry, hash FROM audit ORDER BY seq", |row| {
        Ok(Audited { seq: get(row, 0)?, entry: Bytes(get(row, 1)?), hash: Bytes(get(row, 2)?) })
    })
    .await?;
    archive.seals = read::from_postgres(link, "SELECT seq, at, mac FROM audit_seals ORDER BY seq", |row| {
        Ok(Seal { seq: get(row, 0)?, at: get(row, 1)?, mac: Bytes(get(row, 2)?) })
    })
    .await?;
    Ok(())
}

pub(super) async fn into_postgres(link: &Link, archive: &Archive) -> Result<(), Failure> {
    let insert = link
        .prepare(
            "INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .await?;
    for entry in &archive.audit {
        let AuditColumns { at, action, actor_user_id, actor_pat_id, user_id, pat_id } =
            columns(entry).map_err(corrupt)?;
        let (bytes, hash) = (&entry.entry.0, &entry.hash.0);
        link.count(
            &insert,
            &[&entry.seq, &at, &action, &actor_user_id, &actor_pat_id, &user_id, &pat_id, bytes, hash],
        )
        .await?;
    }
    for (sql, mark) in [
        ("UPDATE audit_cut SET seq = $1, hash = $2", archive.cut()),
        ("UPDATE audit_head SET seq = $1, hash = $2", archive.head()),
    ] {
        let update = link.prepare(sql).await?;
        link.count(&update, &[&mark.seq, &mark.hash.0]).await?;
    }
    let insert = link.prepare("INSERT INTO audit_seals (seq, at, mac) VALUES ($1, $2, $3)").await?;
    for seal in &archive.seals {
        link.count(&insert, &[&seal.seq, &seal.at, &seal.mac.0]).await?;
    }
    Ok(())
}
