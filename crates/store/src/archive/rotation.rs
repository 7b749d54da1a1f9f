//! Export and import of rotations: the earlier secrets of tokens, so that their use is still
//! noticed after an import, and the log's references to them. The data for repeating the answer to
//! a rotation is left out, because it is useless with the data in another store.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use trustrelay_authority::StoreError;
use uuid::Uuid;

use super::{Archive, Bytes, Line, read};
use crate::postgres::{Failure, Link, get};
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows;

/// The time at which a token got its current secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotated {
    pub(super) pat_id: Uuid,
    pub(super) at: i64,
}

/// An earlier secret of a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retired {
    pub(super) digest: Bytes,
    pub(super) pat_id: Uuid,
    pub(super) key_id: i64,
    pub(super) hint: String,
    pub(super) retired_at: i64,
    pub(super) valid_until: i64,
    pub(super) until_first_use: bool,
    pub(super) used_after_at: Option<i64>,
    /// Omitted by earlier programs; the time then decides.
    #[serde(default)]
    pub(super) ended: bool,
}

/// A secret that a log entry names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) seq: i64,
    pub(super) digest: Bytes,
    pub(super) pat_id: Uuid,
    pub(super) valid_until: Option<i64>,
    #[serde(default)]
    pub(super) ended: bool,
}

const ROTATED: &str = "SELECT pat_id, rotated_at FROM pats WHERE rotated_at IS NOT NULL ORDER BY pat_id";
const RETIRED: &str = "SELECT digest, pat_id, key_id, hint, retired_at, valid_until, until_first_use, used_after_at, ended \
     FROM retired_secrets ORDER BY pat_id, retired_at, digest";
const NAMED: &str = "SELECT seq, digest, pat_id, valid_until, ended FROM log_secrets ORDER BY seq, digest";

impl Archive {
    /// Returns the lines of rotations.
    pub(super) fn rotation_lines(&self) -> impl Iterator<Item = Line> + '_ {
        let rotated = self.rotated.iter().cloned().map(Line::Rotated);
        let retired = self.retired.iter().cloned().map(Line::RetiredSecret);
        rotated.chain(retired).chain(self.named.iter().cloned().map(Line::LogSecret))
    }
}

pub(super) fn from_sqlite(connection: &Connection, archive: &mut Archive) -> Result<(), StoreError> {
    let rotated = |row: &Row<'_>| Ok(Rotated { pat_id: rows::id(row, 0)?, at: row.get(1)? });
    archive.rotated = read::from_sqlite(connection, ROTATED, rotated)?;
    archive.retired = read::from_sqlite(connection, RETIRED, |row| {
        Ok(Retired {
            digest: Bytes(row.get(0)?),
            pat_id: rows::id(row, 1)?,
            key_id: row.get(2)?,
            hint: row.get(3)?,
            retired_at: row.get(4)?,
            valid_until: row.get(5)?,
            until_first_use: row.get(6)?,
            used_after_at: row.get(7)?,
            ended: row.get(8)?,
        })
    })?;
    archive.named = read::from_sqlite(connection, NAMED, |row| {
        Ok(Named {
            seq: row.get(0)?,
            digest: Bytes(row.get(1)?),
            pat_id: rows::id(row, 2)?,
            valid_until: row.get(3)?,
            ended: row.get(4)?,
        })
    })?;
    Ok(())
}

pub(super) fn into_sqlite(connection: &Connection, archive: &Archive) -> Result<(), StoreError> {
    let mut update = connection.prepare("UPDATE pats SET rotated_at = ?2 WHERE pat_id = ?1").or_store()?;
    for one in &archive.rotated {
        update.execute(params![one.pat_id.as_bytes(), one.at]).or_store()?;
    }
    let mut insert = connection
        .prepare(
            "INSERT INTO retired_secrets (digest, pat_id, key_id, hint, retired_at, valid_until, until_first_use, used_after_at, ended) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .or_store()?;
    for one in &archive.retired {
        let values = params![
            one.digest.0,
            one.pat_id.as_bytes(),
            one.key_id,
            one.hint,
            one.retired_at,
            one.valid_until,
            one.until_first_use,
            one.used_after_at,
            one.ended
        ];
        insert.execute(values).or_store()?;
    }
    let sql = "INSERT INTO log_secrets (seq, digest, pat_id, valid_until, ended) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = connection.prepare(sql).or_store()?;
    for one in &archive.named {
        let values = params![one.seq, one.digest.0, one.pat_id.as_bytes(), one.valid_until, one.ended];
        insert.execute(values).or_store()?;
    }
    Ok(())
}

pub(super) async fn from_postgres(link: &Link, archive: &mut Archive) -> Result<(), Failure> {
    archive.rotated =
        read::from_postgres(link, ROTATED, |row| Ok(Rotated { pat_id: get(row, 0)?, at: get(row, 1)? }))
            .await?;
    archive.retired = read::from_postgres(link, RETIRED, |row| {
        Ok(Retired {
            digest: Bytes(get(row, 0)?),
            pat_id: get(row, 1)?,
            key_id: get(row, 2)?,
            hint: get(row, 3)?,
            retired_at: get(row, 4)?,
            valid_until: get(row, 5)?,
            until_first_use: get(row, 6)?,
            used_after_at: get(row, 7)?,
            ended: get(row, 8)?,
        })
    })
    .await?;
    archive.named = read::from_postgres(link, NAMED, |row| {
        Ok(Named {
            seq: get(row, 0)?,
            digest: Bytes(get(row, 1)?),
            pat_id: get(row, 2)?,
            valid_until: get(row, 3)?,
            ended: get(row, 4)?,
        })
    })
    .await?;
    Ok(())
}

pub(super) async fn into_postgres(link: &Link, archive: &Archive) -> Result<(), Failure> {
    let update = link.prepare("UPDATE pats SET rotated_at = $2 WHERE pat_id = $1").await?;
    for one in &archive.rotated {
        link.count(&update, &[&one.pat_id, &one.at]).await?;
    }
    let insert = link
        .prepare(
            "INSERT INTO retired_secrets (digest, pat_id, key_id, hint, retired_at, valid_until, until_first_use, used_after_at, ended) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .await?;
    for one in &archive.retired {
        let (id, key, hint) = (&one.pat_id, &one.key_id, &one.hint);
        let (first_use, used, ended) = (&one.until_first_use, &one.used_after_at, &one.ended);
        link.count(
            &insert,
            &[&one.digest.0, id, key, hint, &one.retired_at, &one.valid_until, first_use, used, ended],
        )
        .await?;
    }
    let insert = link
        .prepare(
            "INSERT INTO log_secrets (seq, digest, pat_id, valid_until, ended) VALUES ($1, $2, $3, $4, $5)",
        )
        .await?;
    for one in &archive.named {
        let (digest, until) = (&one.digest.0, &one.valid_until);
        link.count(&insert, &[&one.seq, digest, &one.pat_id, until, &one.ended]).await?;
    }
    Ok(())
}
