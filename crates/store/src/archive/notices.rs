//! Export and import of webhooks, notices and deliveries.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use trustrelay_authority::StoreError;
use uuid::Uuid;

use super::Archive;
use crate::postgres::{Failure, Link, get};
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows::id;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) webhook_id: Uuid,
    pub(super) user_id: Option<Uuid>,
    pub(super) url: String,
    pub(super) origin: String,
    pub(super) key_id: i64,
    pub(super) created_at: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    pub(super) notice_id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) pat_id: Option<Uuid>,
    pub(super) kind: String,
    pub(super) once: String,
    pub(super) created_at: i64,
    pub(super) facts: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Way {
    pub(super) delivery_id: Uuid,
    pub(super) notice_id: Uuid,
    pub(super) channel: String,
    pub(super) webhook_id: Option<Uuid>,
    pub(super) is_shared: bool,
    pub(super) target: String,
    pub(super) attempts: i64,
    pub(super) next_at: i64,
    pub(super) state: String,
    pub(super) error: Option<String>,
    pub(super) done_at: Option<i64>,
}

const HOOKS: &str =
    "SELECT webhook_id, user_id, url, origin, key_id, created_at FROM webhooks ORDER BY webhook_id";
const TOLD: &str =
    "SELECT notice_id, user_id, pat_id, kind, once, created_at, facts FROM notices ORDER BY notice_id";
const WAYS: &str = "SELECT delivery_id, notice_id, channel, webhook_id, is_shared, target, attempts, next_at, state, error, done_at \
                    FROM deliveries ORDER BY delivery_id";
const NEW_HOOK: &str = "INSERT INTO webhooks (webhook_id, user_id, url, origin, key_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
const NEW_TOLD: &str = "INSERT INTO notices (notice_id, user_id, pat_id, kind, once, created_at, facts) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7)";
const NEW_WAY: &str = "INSERT INTO deliveries (delivery_id, notice_id, channel, webhook_id, is_shared, target, attempts, next_at, \
                       state, error, done_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

fn all<T>(
    connection: &Connection,
    sql: &str,
    one: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql).or_store()?;
    let rows = statement.query_map([], one).or_store()?;
    rows.collect::<rusqlite::Result<_>>().or_store()
}

fn optional_id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Uuid>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(Uuid::from_bytes))
}

pub(super) fn from_sqlite(connection: &Connection, archive: &mut Archive) -> Result<(), StoreError> {
    archive.hooks = all(connection, HOOKS, |row| {
        Ok(Hook {
            webhook_id: id(row, 0)?,
            user_id: optional_id(row, 1)?,
            url: row.get(2)?,
            origin: row.get(3)?,
            key_id: row.get(4)?,
            created_at: row.get(5)?,
        })
    })?;
    archive.told = all(connection, TOLD, |row| {
        Ok(Told {
            notice_id: id(row, 0)?,
            user_id: id(row, 1)?,
            pat_id: optional_id(row, 2)?,
            kind: row.get(3)?,
            once: row.get(4)?,
            created_at: row.get(5)?,
            facts: row.get(6)?,
        })
    })?;
    archive.ways = all(connection, WAYS, |row| {
        Ok(Way {
            delivery_id: id(row, 0)?,
            notice_id: id(row, 1)?,
            channel: row.get(2)?,
            webhook_id: optional_id(row, 3)?,
            is_shared: row.get(4)?,
            target: row.get(5)?,
            attempts: row.get(6)?,
            next_at: row.get(7)?,
            state: row.get(8)?,
            error: row.get(9)?,
            done_at: row.get(10)?,
        })
    })?;
    Ok(())
}

/// Imports into a store that already contains the accounts.
pub(super) fn into_sqlite(connection: &Connection, archive: &Archive) -> Result<(), StoreError> {
    let bytes = |id: &Option<Uuid>| id.map(Uuid::into_bytes);
    for hook in &archive.hooks {
        connection
            .prepare_cached(NEW_HOOK)
            .or_store()?
            .execute(params![
                hook.webhook_id.as_bytes(),
                bytes(&hook.user_id),
                hook.url,
                hook.origin,
                hook.key_id,
                hook.created_at
            ])
            .or_store()?;
    }
    for told in &archive.told {
        connection
            .prepare_cached(NEW_TOLD)
            .or_store()?
            .execute(params![
                told.notice_id.as_bytes(),
                told.user_id.as_bytes(),
                bytes(&told.pat_id),
                told.kind,
                told.once,
                told.created_at,
                told.facts
            ])
            .or_store()?;
    }
    for way in &archive.ways {
        connection
            .prepare_cached(NEW_WAY)
            .or_store()?
            .execute(params![
                way.delivery_id.as_bytes(),
                way.notice_id.as_bytes(),
                way.channel,
                bytes(&way.webhook_id),
                way.is_shared,
                way.target,
                way.attempts,
                way.next_at,
                way.state,
                way.error,
                way.done_at
            ])
            .or_store()?;
    }
    Ok(())
}

pub(super) async fn from_postgres(link: &Link, archive: &mut Archive) -> Result<(), Failure> {
    let select = link.prepare(HOOKS).await?;
    for row in link.rows(&select, &[]).await? {
        archive.hooks.push(Hook {
            webhook_id: get(&row, 0)?,
            user_id: get(&row, 1)?,
            url: get(&row, 2)?,
            origin: get(&row, 3)?,
            key_id: get(&row, 4)?,
            created_at: get(&row, 5)?,
        });
    }
    let select = link.prepare(TOLD).await?;
    for row in link.rows(&select, &[]).await? {
        archive.told.push(Told {
            notice_id: get(&row, 0)?,
            user_id: get(&row, 1)?,
            pat_id: get(&row, 2)?,
            kind: get(&row, 3)?,
            once: get(&row, 4)?,
            created_at: get(&row, 5)?,
            facts: get(&row, 6)?,
        });
    }
    let select = link.prepare(WAYS).await?;
    for row in link.rows(&select, &[]).await? {
        archive.ways.push(Way {
            delivery_id: get(&row, 0)?,
            notice_id: get(&row, 1)?,
            channel: get(&row, 2)?,
            webhook_id: get(&row, 3)?,
            is_shared: get(&row, 4)?,
            target: get(&row, 5)?,
            attempts: get(&row, 6)?,
            next_at: get(&row, 7)?,
            state: get(&row, 8)?,
            error: get(&row, 9)?,
            done_at: get(&row, 10)?,
        });
    }
    Ok(())
}

/// Imports into a store that already contains the accounts.
pub(super) async fn into_postgres(link: &Link, archive: &Archive) -> Result<(), Failure> {
    let insert = link.prepare(NEW_HOOK).await?;
    for hook in &archive.hooks {
        let Hook { webhook_id, user_id, url, origin, key_id, created_at } = hook;
        link.count(&insert, &[webhook_id, user_id, url, origin, key_id, created_at]).await?;
    }
    let insert = link.prepare(NEW_TOLD).await?;
    for told in &archive.told {
        let Told { notice_id, user_id, pat_id, kind, once, created_at, facts } = told;
        link.count(&insert, &[notice_id, user_id, pat_id, kind, once, created_at, facts]).await?;
    }
    let insert = link.prepare(NEW_WAY).await?;
    for way in &archive.ways {
        let Way { delivery_id, notice_id, channel, webhook_id, is_shared, target, .. } = way;
        let Way { attempts, next_at, state, error, done_at, .. } = way;
        link.count(
            &insert,
            &[
                delivery_id,
                notice_id,
                channel,
                webhook_id,
                is_shared,
                target,
                attempts,
                next_at,
                state,
                error,
                done_at,
            ],
        )
        .await?;
    }
    Ok(())
}
