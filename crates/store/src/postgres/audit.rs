//! The audit log. The database chains the entries itself, so that nobody holds the head's row while a node thinks, or is stopped.

use async_trait::async_trait;
use futures_util::future::{try_join, try_join_all};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use trustrelay_authority::{AuditEntry, AuditRecord, AuditStore, StoreError};
use uuid::Uuid;

use super::errors::Failure;
use super::link::{Link, Links};
use super::rows::{bytes, get, number, whole};
use super::store::PostgresStore;

/// An entry on its way: the values of [`Entry::append`]'s statement.
pub(super) struct Entry<'a> {
    bytes: Vec<u8>,
    at: i64,
    action: &'a str,
    actor: (Option<Uuid>, Option<Uuid>),
    concerns: (Option<Uuid>, Option<Uuid>),
}

impl<'a> Entry<'a> {
    pub(super) fn of(entry: &'a AuditEntry) -> Result<Self, StoreError> {
        Ok(Self {
            bytes: entry.to_bytes()?,
            at: entry.at.as_microsecond(),
            action: &entry.action,
            actor: (entry.actor.user_id, entry.actor.pat_id),
            concerns: (entry.user_id, entry.pat_id),
        })
    }

    /// Takes the next number, chains and writes. The head's row stays locked until the commit.
    pub(super) async fn statement(link: &Link) -> Result<Statement, Failure> {
        link.prepare(
            "WITH head AS (UPDATE audit_head SET seq = seq + 1, hash = sha256(hash || int8send(seq + 1) || $1) RETURNING seq, hash) \
             INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
             SELECT seq, $2, $3, $4, $5, $6, $7, $1, hash FROM head",
        )
        .await
    }

    /// Sent when first polled.
    pub(super) async fn append(&self, link: &Link, statement: &Statement) -> Result<(), Failure> {
        let (by_user, by_pat) = &self.actor;
        let (user, pat) = &self.concerns;
        let values: [&(dyn ToSql + Sync); 7] =
            [&self.bytes, &self.at, &self.action, by_user, by_pat, user, pat];
        link.count(statement, &values).await.map(drop)
    }
}

async fn append(links: &Links, entries: &[AuditEntry]) -> Result<(), Failure> {
    let entries = entries.iter().map(Entry::of).collect::<Result<Vec<_>, _>>()?;
    let link = links.link().await?;
    let statement = Entry::statement(&link).await?;
    let all = try_join_all(entries.iter().map(|entry| entry.append(&link, &statement)));
    let ((), (_, ())) = try_join(link.batch("BEGIN"), try_join(all, link.batch("COMMIT"))).await?;
    link.keep(Ok(()))
}

fn record(row: &Row) -> Result<AuditRecord, Failure> {
    Ok(AuditRecord { seq: number(row, 0)?, entry: get(row, 1)?, hash: bytes(row, 2)? })
}

async fn after(links: &Links, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, Failure> {
    let link = links.link().await?;
    let select =
        link.prepare("SELECT seq, entry, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2").await?;
    let found = link.rows(&select, &[&whole(seq), &whole(limit)]).await?;
    link.keep(found.iter().map(record).collect())
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.links().run(|| append(self.links(), entries)).await
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        self.links().run(|| after(self.links(), seq, limit)).await
    }
}
