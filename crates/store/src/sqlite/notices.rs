//! Notices, deliveries and webhooks.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use trustrelay_authority::{
    AuditEntry, Channel, Claim, Delivery, DeliveryRecord, DeliveryState, Expiring, NewNotice, Notice,
    NoticeFacts, NoticeKind, NoticeStore, Outcome, PatRecord, StoreError, Target, ToldNotice, WebhookRecord,
};
use trustrelay_token::KeyId;
use uuid::Uuid;

use crate::sqlite::SqliteStore;
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows::is_enabled;
use crate::sqlite::rows::{self, PAT, id, optional_time, time, unreadable};

const WEBHOOK: &str = "w.webhook_id, w.user_id, w.url, w.origin, w.key_id, w.created_at";
const NOTICE: &str = "n.notice_id, n.user_id, n.pat_id, n.kind, n.created_at, n.facts";
const DELIVERY: &str = "d.delivery_id, d.channel, d.webhook_id, d.is_shared, d.target, d.attempts, d.next_at, d.state, d.error, d.done_at";

fn optional_id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Uuid>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(Uuid::from_bytes))
}

/// Reads a column that contains one of a few known words.
fn word<T>(row: &Row<'_>, at: usize, named: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let word: String = row.get(at)?;
    named(&word).ok_or_else(|| unreadable(at, std::io::Error::other(format!("`{word}` is not known"))))
}

fn webhook(row: &Row<'_>) -> rusqlite::Result<WebhookRecord> {
    webhook_after(row, 0)
}

fn webhook_after(row: &Row<'_>, skip: usize) -> rusqlite::Result<WebhookRecord> {
    Ok(WebhookRecord {
        webhook_id: id(row, skip)?,
        user_id: optional_id(row, skip + 1)?,
        url: row.get(skip + 2)?,
        origin: row.get(skip + 3)?,
        key_id: KeyId(row.get(skip + 4)?),
        created_at: time(row, skip + 5)?,
    })
}

fn notice(row: &Row<'_>) -> rusqlite::Result<Notice> {
    let facts: String = row.get(5)?;
    Ok(Notice {
        notice_id: id(row, 0)?,
        user_id: id(row, 1)?,
        pat_id: optional_id(row, 2)?,
        kind: word(row, 3, NoticeKind::named)?,
        created_at: time(row, 4)?,
        facts: serde_json::from_str(&facts).map_err(|error| unreadable(5, error))?,
    })
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    Ok(DeliveryRecord {
        delivery_id: id(row, 0)?,
        channel: word(row, 1, Channel::named)?,
        webhook_id: optional_id(row, 2)?,
        is_shared: row.get(3)?,
        target: row.get(4)?,
        attempts: row.get(5)?,
        next_at: time(row, 6)?,
        state: word(row, 7, DeliveryState::named)?,
        error: row.get(8)?,
        done_at: optional_time(row, 9)?,
    })
}

pub(crate) fn facts_to_text(facts: &NoticeFacts) -> Result<String, StoreError> {
    serde_json::to_string(facts).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn insert_webhook(
    connection: &Connection,
    webhook: &WebhookRecord,
    limit: u64,
    audit: &AuditEntry,
) -> Result<(), StoreError> {
    let permit = audit::permit(connection, audit)?;
    if let Some(user_id) = webhook.user_id
        && !is_enabled(connection, user_id)?
    {
        return Err(StoreError::UserGone);
    }
    let user_id = webhook.user_id.map(Uuid::into_bytes);
    let there: u64 = connection
        .query_row("SELECT count(*) FROM webhooks WHERE user_id IS ?1", params![user_id], |row| row.get(0))
        .or_store()?;
    if there >= limit {
        return Err(StoreError::TooManyWebhooks(there));
    }
    connection
        .execute(
            "INSERT INTO webhooks (webhook_id, user_id, url, origin, key_id, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                webhook.webhook_id.as_bytes(),
                user_id,
                webhook.url,
                webhook.origin,
                webhook.key_id.0,
                webhook.created_at.as_microsecond(),
            ],
        )
        .or_store()?;
    audit::append(connection, audit, permit)
}

fn delete_webhook(
    connection: &Connection,
    webhook_id: Uuid,
    at: Timestamp,
    audit: &AuditEntry,
) -> Result<bool, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let webhook_id = webhook_id.as_bytes();
    if connection.execute("DELETE FROM webhooks WHERE webhook_id = ?1", [webhook_id]).or_store()? == 0 {
        return Ok(false);
    }
    let sql = "UPDATE deliveries SET state = 'failed', error = 'the webhook was removed', done_at = ?2 \
               WHERE state = 'pending' AND webhook_id = ?1";
    connection.execute(sql, params![webhook_id, at.as_microsecond()]).or_store()?;
    audit::append(connection, audit, permit)?;
    Ok(true)
}

/// Counts the tokens that expire within a time span.
pub(crate) const ENDING: &str =
    "SELECT count(*) FROM pats WHERE revoked_at IS NULL AND expires_at > ?1 AND expires_at <= ?2";

/// Selects the tokens that expire within a time span and whose owners were not notified.
pub(crate) fn untold() -> String {
    format!(
        "SELECT {PAT} FROM pats p JOIN users u USING (user_id) \
         WHERE p.revoked_at IS NULL AND p.expires_at > ?2 AND p.expires_at <= ?3 AND p.expires_at - p.created_at > ?4 \
         AND u.disabled_at IS NULL AND NOT EXISTS ( \
         SELECT 1 FROM notices WHERE once = ?1 || ':' || lower(hex(p.pat_id)) || ':' || p.expires_at) \
         ORDER BY p.expires_at, p.pat_id LIMIT ?5"
    )
}

fn expiring(connection: &Connection, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, StoreError> {
    let sql = untold();
    let mut statement = connection.prepare_cached(&sql).or_store()?;
    let values = params![
        lacking.kind.name(),
        lacking.after.as_microsecond(),
        lacking.until.as_microsecond(),
        lacking.made_before,
        limit
    ];
    statement.query_map(values, rows::pat).or_store()?.collect::<rusqlite::Result<_>>().or_store()
}

/// Stores a notice unless one with the same key exists. Returns whether it is new.
pub(crate) fn add_notice(connection: &Connection, new: &NewNotice, mail: bool) -> Result<bool, StoreError> {
    let NewNotice { notice, once, only } = new;
    let at = notice.created_at.as_microsecond();
    let kept = connection
        .prepare_cached(
            "INSERT INTO notices (notice_id, user_id, pat_id, kind, once, created_at, facts) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 \
             WHERE EXISTS (SELECT 1 FROM users WHERE user_id = ?2 AND disabled_at IS NULL) ON CONFLICT (once) DO NOTHING",
        )
        .or_store()?
        .execute(params![
            notice.notice_id.as_bytes(),
            notice.user_id.as_bytes(),
            notice.pat_id.map(Uuid::into_bytes),
            notice.kind.name(),
            once,
            at,
            facts_to_text(&notice.facts)?,
        ])
        .or_store()?;
    if kept == 0 {
        return Ok(false);
    }
    type Way = (&'static str, Option<[u8; 16]>, bool, String);
    let mut ways: Vec<Way> = Vec::new();
    if mail && only.is_none() {
        let sql = "SELECT email FROM users WHERE user_id = ?1";
        let email = connection.query_row(sql, [notice.user_id.as_bytes()], |row| row.get(0)).or_store()?;
        ways.push((Channel::Mail.name(), None, false, email));
    }
    let mut webhooks = connection
        .prepare_cached(
            "SELECT webhook_id, user_id IS NULL, origin FROM webhooks \
             WHERE CASE WHEN ?2 IS NULL THEN user_id = ?1 OR user_id IS NULL ELSE webhook_id = ?2 END",
        )
        .or_store()?;
    let found = webhooks
        .query_map(params![notice.user_id.as_bytes(), only.map(Uuid::into_bytes)], |row| {
            Ok((Channel::Webhook.name(), Some(row.get(0)?), row.get(1)?, row.get(2)?))
        })
        .or_store()?;
    ways.extend(found.collect::<rusqlite::Result<Vec<Way>>>().or_store()?);
    for (channel, webhook_id, is_shared, target) in ways {
        connection
            .prepare_cached(
                "INSERT INTO deliveries (delivery_id, notice_id, channel, webhook_id, is_shared, target, attempts, next_at, state) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, 'pending')",
            )
            .or_store()?
            .execute(params![
                Uuid::now_v7().as_bytes(),
                notice.notice_id.as_bytes(),
                channel,
                webhook_id,
                is_shared,
                target,
                at
            ])
            .or_store()?;
    }
    Ok(true)
}

/// Returns the ids of the deliveries that are due.
fn due(connection: &Connection, claim: &Claim) -> Result<Vec<[u8; 16]>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT delivery_id FROM deliveries WHERE state = 'pending' AND next_at <= ?1 AND (?2 IS NULL OR notice_id = ?2) \
             ORDER BY next_at, delivery_id LIMIT ?3",
        )
        .or_store()?;
    let notice_id = claim.notice_id.map(Uuid::into_bytes);
    let found = statement
        .query_map(params![claim.now.as_microsecond(), notice_id, claim.limit], |row| row.get(0))
        .or_store()?;
    found.collect::<rusqlite::Result<_>>().or_store()
}

fn claim_one(
    connection: &Connection,
    delivery_id: [u8; 16],
    until: Timestamp,
) -> Result<Delivery, StoreError> {
    connection
        .prepare_cached("UPDATE deliveries SET next_at = ?2, attempts = attempts + 1 WHERE delivery_id = ?1")
        .or_store()?
        .execute(params![delivery_id, until.as_microsecond()])
        .or_store()?;
    let sql = format!(
        "SELECT {NOTICE}, d.attempts, u.email, d.channel, d.target, {WEBHOOK} FROM deliveries d JOIN notices n USING (notice_id) \
         JOIN users u ON u.user_id = n.user_id LEFT JOIN webhooks w ON w.webhook_id = d.webhook_id WHERE d.delivery_id = ?1"
    );
    let claimed = |row: &Row<'_>| {
        let is_there = row.get::<_, Option<[u8; 16]>>(10)?.is_some();
        let target = match word(row, 8, Channel::named)? {
            Channel::Mail => Target::Mail(row.get(9)?),
            Channel::Webhook if is_there => Target::Webhook(webhook_after(row, 10)?),
            Channel::Webhook => Target::Gone,
        };
        Ok(Delivery {
            delivery_id: Uuid::from_bytes(delivery_id),
            attempt: row.get(6)?,
            notice: notice(row)?,
            email: row.get(7)?,
            target,
        })
    };
    connection.prepare_cached(&sql).or_store()?.query_row([delivery_id], claimed).or_store()
}

fn finish(
    connection: &Connection,
    delivery_id: Uuid,
    attempt: u32,
    at: Timestamp,
    outcome: &Outcome,
) -> Result<bool, StoreError> {
    let (state, next_at, error, done_at) = match outcome {
        Outcome::Done => (DeliveryState::Done, None, None, Some(at)),
        Outcome::Failed(error) => (DeliveryState::Failed, None, Some(error), Some(at)),
        Outcome::Later { next_at, error } => (DeliveryState::Pending, Some(next_at), Some(error), None),
    };
    let changed = connection
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, next_at = coalesce(?4, next_at), error = ?5, done_at = ?6 \
             WHERE delivery_id = ?1 AND attempts = ?2 AND state = 'pending'",
        )
        .or_store()?
        .execute(params![
            delivery_id.as_bytes(),
            attempt,
            state.name(),
            next_at.map(|at| at.as_microsecond()),
            error,
            done_at.map(Timestamp::as_microsecond),
        ])
        .or_store()?;
    Ok(changed > 0)
}

fn list(
    connection: &Connection,
    user_id: Option<Uuid>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<ToldNotice>, StoreError> {
    // Two separate statements, so that each can use its own index.
    let of = if user_id.is_some() { "n.user_id = ?1" } else { "?1 IS NULL" };
    let sql = format!(
        "SELECT {NOTICE}, u.email FROM notices n JOIN users u USING (user_id) WHERE {of} AND n.notice_id < ?2 \
         ORDER BY n.notice_id DESC LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql).or_store()?;
    let before = before.unwrap_or(Uuid::max());
    let told = statement
        .query_map(params![user_id.map(Uuid::into_bytes), before.as_bytes(), limit], |row| {
            Ok(ToldNotice { notice: notice(row)?, email: row.get(6)?, deliveries: Vec::new() })
        })
        .or_store()?;
    let mut told = told.collect::<rusqlite::Result<Vec<_>>>().or_store()?;
    let sql = format!(
        "SELECT {DELIVERY} FROM deliveries d WHERE d.notice_id = ?1 ORDER BY d.channel, d.target, d.delivery_id"
    );
    let mut statement = connection.prepare_cached(&sql).or_store()?;
    for one in &mut told {
        let found = statement.query_map([one.notice.notice_id.as_bytes()], delivery).or_store()?;
        one.deliveries = found.collect::<rusqlite::Result<_>>().or_store()?;
    }
    Ok(told)
}

#[async_trait]
impl NoticeStore for SqliteStore {
    async fn insert_webhook(
        &self,
        webhook: &WebhookRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let (webhook, audit) = (webhook.clone(), audit.clone());
        self.threads().write(move |connection| insert_webhook(connection, &webhook, limit, &audit)).await
    }

    async fn webhooks(&self, user_id: Option<Uuid>) -> Result<Vec<WebhookRecord>, StoreError> {
        self.threads()
            .read(move |connection| {
                let sql = format!(
                    "SELECT {WEBHOOK} FROM webhooks w WHERE w.user_id IS ?1 ORDER BY w.created_at, w.webhook_id"
                );
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let found = statement.query_map([user_id.map(Uuid::into_bytes)], webhook).or_store()?;
                found.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }

    async fn delete_webhook(
        &self,
        webhook_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let audit = audit.clone();
        self.threads().write(move |connection| delete_webhook(connection, webhook_id, at, &audit)).await
    }

    async fn expiring(&self, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, StoreError> {
        let lacking = lacking.clone();
        self.threads().read(move |connection| expiring(connection, &lacking, limit)).await
    }

    async fn add_notices(&self, notices: &[NewNotice], mail: bool) -> Result<u64, StoreError> {
        let notices = notices.to_vec();
        self.threads()
            .write(move |connection| {
                let mut new = 0;
                for notice in &notices {
                    new += u64::from(add_notice(connection, notice, mail)?);
                }
                Ok(new)
            })
            .await
    }

    async fn claim_deliveries(&self, claim: &Claim) -> Result<Vec<Delivery>, StoreError> {
        // Usually nothing is due, so this read avoids a write transaction.
        let asked = claim.clone();
        if self.threads().read(move |connection| due(connection, &asked)).await?.is_empty() {
            return Ok(Vec::new());
        }
        let claim = claim.clone();
        self.threads()
            .write(move |connection| {
                let due = due(connection, &claim)?;
                due.into_iter().map(|delivery_id| claim_one(connection, delivery_id, claim.until)).collect()
            })
            .await
    }

    async fn finish_delivery(
        &self,
        delivery_id: Uuid,
        attempt: u32,
        at: Timestamp,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        let outcome = outcome.clone();
        self.threads().write(move |connection| finish(connection, delivery_id, attempt, at, &outcome)).await
    }

    async fn notices(
        &self,
        user_id: Option<Uuid>,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<ToldNotice>, StoreError> {
        self.threads().read(move |connection| list(connection, user_id, before, limit)).await
    }

    async fn forget_notices(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let before = before.as_microsecond();
        // Usually there is nothing to delete, so this read avoids a write transaction.
        let is_any = self
            .threads()
            .read(move |connection| {
                let sql = "SELECT 1 FROM notices WHERE created_at < ?1 LIMIT 1";
                let any = connection.prepare_cached(sql).or_store()?;
                { any }.query_row([before], |_| Ok(())).optional().or_store()
            })
            .await?;
        if is_any.is_none() {
            return Ok(0);
        }
        self.threads()
            .write(move |connection| {
                let sql = "DELETE FROM notices WHERE notice_id IN (SELECT notice_id FROM notices WHERE created_at < ?1 LIMIT ?2)";
                Ok(connection.execute(sql, params![before, limit]).or_store()? as u64)
            })
            .await
    }

    async fn pats_by_end(&self, now: Timestamp, ends: &[Timestamp]) -> Result<Vec<u64>, StoreError> {
        let ends = ends.to_vec();
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(ENDING).or_store()?;
                let mut count = |end: &Timestamp| {
                    let values = params![now.as_microsecond(), end.as_microsecond()];
                    statement.query_row(values, |row| row.get(0)).or_store()
                };
                ends.iter().map(&mut count).collect()
            })
            .await
    }
}
