//! Notices, deliveries and webhooks.

use async_trait::async_trait;
use futures_util::future::{try_join, try_join_all, try_join3};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use trustrelay_authority::{
    AuditEntry, Channel, Claim, Delivery, DeliveryRecord, DeliveryState, Expiring, NewNotice, Notice,
    NoticeKind, NoticeStore, Outcome, PatRecord, StoreError, Target, ToldNotice, WebhookRecord,
};
use trustrelay_token::KeyId;
use uuid::Uuid;

use super::PostgresStore;
use super::audit::Entry;
use super::errors::Failure;
use super::link::{Link, Links};
use super::rows::{self, PAT, corrupt, get, number, optional_time, time, whole};
use crate::sqlite::notices::facts_to_text;

const WEBHOOK: &str = "w.webhook_id, w.user_id, w.url, w.origin, w.key_id, w.created_at";
const NOTICE: &str = "n.notice_id, n.user_id, n.pat_id, n.kind, n.created_at, n.facts";
const DELIVERY: &str = "d.delivery_id, d.channel, d.webhook_id, d.is_shared, d.target, d.attempts, d.next_at, d.state, d.error, d.done_at";
/// Additions to an account are serialized by its row's lock. Additions that concern all accounts
/// use this advisory lock instead, whose key belongs to no account.
const ALL_ACCOUNTS: i64 = 0x7472_5f68_6f6f_6b73;

/// Reads a column that contains one of a few known words.
fn word<T>(row: &Row, at: usize, named: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    let word: &str = get(row, at)?;
    named(word).ok_or_else(|| corrupt(format!("`{word}` is not known")))
}

fn count(row: &Row, at: usize) -> Result<u32, Failure> {
    u32::try_from(get::<i64>(row, at)?).map_err(corrupt)
}

fn webhook(row: &Row, skip: usize) -> Result<WebhookRecord, Failure> {
    Ok(WebhookRecord {
        webhook_id: get(row, skip)?,
        user_id: get(row, skip + 1)?,
        url: get(row, skip + 2)?,
        origin: get(row, skip + 3)?,
        key_id: KeyId(count(row, skip + 4)?),
        created_at: time(row, skip + 5)?,
    })
}

fn notice(row: &Row) -> Result<Notice, Failure> {
    Ok(Notice {
        notice_id: get(row, 0)?,
        user_id: get(row, 1)?,
        pat_id: get(row, 2)?,
        kind: word(row, 3, NoticeKind::named)?,
        created_at: time(row, 4)?,
        facts: serde_json::from_str(get(row, 5)?).map_err(corrupt)?,
    })
}

fn delivery(row: &Row) -> Result<DeliveryRecord, Failure> {
    Ok(DeliveryRecord {
        delivery_id: get(row, 0)?,
        channel: word(row, 1, Channel::named)?,
        webhook_id: get(row, 2)?,
        is_shared: get(row, 3)?,
        target: get(row, 4)?,
        attempts: count(row, 5)?,
        next_at: time(row, 6)?,
        state: word(row, 7, DeliveryState::named)?,
        error: get(row, 8)?,
        done_at: optional_time(row, 9)?,
    })
}

async fn insert_webhook(
    links: &Links,
    webhook: &WebhookRecord,
    limit: u64,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let lock = link
        .prepare("SELECT 1 FROM users WHERE user_id = $1 AND disabled_at IS NULL FOR NO KEY UPDATE")
        .await?;
    let lock_all = link.prepare("SELECT pg_advisory_xact_lock($1)").await?;
    // Runs after the lock, to see what earlier holders of the lock have added.
    let there = link.prepare("SELECT count(*) FROM webhooks WHERE user_id IS NOT DISTINCT FROM $1").await?;
    let insert = link
        .prepare(
            "INSERT INTO webhooks (webhook_id, user_id, url, origin, key_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .await?;
    let (link, permit) = entry.begin(link).await?;
    let locked = async {
        match &webhook.user_id {
            Some(user_id) => link.row(&lock, &[user_id]).await,
            None => link.row(&lock_all, &[&ALL_ACCOUNTS]).await,
        }
    };
    let (locked, there) = try_join(locked, link.row(&there, &[&webhook.user_id])).await?;
    if locked.is_none() {
        return link.undo(Err(StoreError::UserGone.into())).await?;
    }
    let there = number(&there.ok_or_else(|| corrupt("a count has no row"))?, 0)?;
    if there >= limit {
        return link.undo(Err(StoreError::TooManyWebhooks(there).into())).await?;
    }
    let (key_id, at) = (i64::from(webhook.key_id.0), webhook.created_at.as_microsecond());
    let values: [&(dyn ToSql + Sync); 6] =
        [&webhook.webhook_id, &webhook.user_id, &webhook.url, &webhook.origin, &key_id, &at];
    try_join3(link.count(&insert, &values), entry.append(&link, &append, permit), link.batch("COMMIT"))
        .await?;
    link.keep(Ok(()))
}

async fn webhooks(links: &Links, user_id: Option<Uuid>) -> Result<Vec<WebhookRecord>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "SELECT {WEBHOOK} FROM webhooks w WHERE w.user_id IS NOT DISTINCT FROM $1 ORDER BY w.created_at, w.webhook_id"
    );
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &[&user_id]).await?;
    link.keep(found.iter().map(|row| webhook(row, 0)).collect())
}

async fn delete_webhook(
    links: &Links,
    webhook_id: Uuid,
    at: Timestamp,
    audit: &AuditEntry,
) -> Result<bool, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let delete = link.prepare("DELETE FROM webhooks WHERE webhook_id = $1").await?;
    let give_up = link
        .prepare(
            "UPDATE deliveries SET state = 'failed', error = 'the webhook was removed', done_at = $2 \
             WHERE state = 'pending' AND webhook_id = $1",
        )
        .await?;
    let (link, permit) = entry.begin(link).await?;
    let gone = link.count(&delete, &[&webhook_id]).await?;
    if gone == 0 {
        return link.undo(false).await;
    }
    let at = at.as_microsecond();
    let values: [&(dyn ToSql + Sync); 2] = [&webhook_id, &at];
    try_join3(link.count(&give_up, &values), entry.append(&link, &append, permit), link.batch("COMMIT"))
        .await?;
    Ok(link.keep(true))
}

async fn expiring(links: &Links, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "SELECT {PAT} FROM pats p JOIN users u USING (user_id) \
         WHERE p.revoked_at IS NULL AND p.expires_at > $2 AND p.expires_at <= $3 AND p.expires_at - p.created_at > $4 \
         AND u.disabled_at IS NULL AND NOT EXISTS ( \
         SELECT 1 FROM notices WHERE once = $1::text || ':' || replace(p.pat_id::text, '-', '') || ':' || p.expires_at) \
         ORDER BY p.expires_at, p.pat_id LIMIT $5"
    );
    let select = link.prepare(&sql).await?;
    let (after, until) = (lacking.after.as_microsecond(), lacking.until.as_microsecond());
    let values: [&(dyn ToSql + Sync); 5] =
        [&lacking.kind.name(), &after, &until, &lacking.made_before, &whole(limit)];
    let found = link.rows(&select, &values).await?;
    link.keep(found.iter().map(rows::pat).collect())
}

/// A notice to be written, with the values of [`Telling::statement`].
pub(super) struct Telling<'a> {
    new: &'a NewNotice,
    at: i64,
    facts: String,
    mail: bool,
}

impl<'a> Telling<'a> {
    pub(super) fn of(new: &'a NewNotice, mail: bool) -> Result<Self, StoreError> {
        let at = new.notice.created_at.as_microsecond();
        Ok(Self { new, at, facts: facts_to_text(&new.notice.facts)?, mail })
    }

    /// Returns the key by which every node must order several notices, so that nodes which write
    /// the same notices do not deadlock.
    pub(super) fn order(&self) -> &'a str {
        &self.new.once
    }

    /// Inserts the notice, if it is new, with a delivery for each destination.
    pub(super) async fn statement(link: &Link) -> Result<Statement, Failure> {
        link.prepare(
            "WITH n AS ( \
             INSERT INTO notices (notice_id, user_id, pat_id, kind, once, created_at, facts) SELECT $1, $2, $3, $4, $5, $6, $7 \
             WHERE EXISTS (SELECT 1 FROM users WHERE user_id = $2 AND disabled_at IS NULL) \
             ON CONFLICT (once) DO NOTHING RETURNING notice_id, user_id, created_at \
             ), d AS ( \
             INSERT INTO deliveries (delivery_id, notice_id, channel, webhook_id, is_shared, target, attempts, next_at, state) \
             SELECT gen_random_uuid(), n.notice_id, 'mail', NULL::uuid, FALSE, u.email, 0, n.created_at, 'pending' \
             FROM n JOIN users u USING (user_id) WHERE $8 AND $9::uuid IS NULL \
             UNION ALL \
             SELECT gen_random_uuid(), n.notice_id, 'webhook', w.webhook_id, w.user_id IS NULL, w.origin, 0, n.created_at, 'pending' \
             FROM n, webhooks w \
             WHERE CASE WHEN $9::uuid IS NULL THEN w.user_id = n.user_id OR w.user_id IS NULL ELSE w.webhook_id = $9 END \
             ) SELECT count(*) FROM n",
        )
        .await
    }

    /// Returns the number of new notices: 1 or 0. Sent when first polled.
    pub(super) async fn keep(&self, link: &Link, statement: &Statement) -> Result<u64, Failure> {
        let NewNotice { notice, once, only } = self.new;
        let kind = notice.kind.name();
        let values: [&(dyn ToSql + Sync); 9] = [
            &notice.notice_id,
            &notice.user_id,
            &notice.pat_id,
            &kind,
            once,
            &self.at,
            &self.facts,
            &self.mail,
            only,
        ];
        let row = link.row(statement, &values).await?;
        number(&row.ok_or_else(|| corrupt("a count has no row"))?, 0)
    }
}

async fn add_notices(links: &Links, notices: &[NewNotice], mail: bool) -> Result<u64, Failure> {
    let all = notices.iter().map(|new| Telling::of(new, mail));
    let mut all = all.collect::<Result<Vec<_>, StoreError>>()?;
    all.sort_by_key(Telling::order);
    let link = links.link().await?;
    let statement = Telling::statement(&link).await?;
    let kept = try_join_all(all.iter().map(|one| one.keep(&link, &statement)));
    let ((), (new, ())) = try_join(link.batch("BEGIN"), try_join(kept, link.batch("COMMIT"))).await?;
    Ok(link.keep(new.into_iter().sum()))
}

async fn claim(links: &Links, claim: &Claim) -> Result<Vec<Delivery>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "WITH due AS ( \
         SELECT delivery_id FROM deliveries WHERE state = 'pending' AND next_at <= $1 AND ($3::uuid IS NULL OR notice_id = $3) \
         ORDER BY next_at, delivery_id LIMIT $4 FOR UPDATE SKIP LOCKED \
         ), d AS ( \
         UPDATE deliveries d SET next_at = $2, attempts = attempts + 1 FROM due WHERE d.delivery_id = due.delivery_id \
         RETURNING d.delivery_id, d.notice_id, d.attempts, d.channel, d.target, d.webhook_id \
         ) SELECT {NOTICE}, d.attempts, u.email, d.channel, d.target, w.webhook_id IS NOT NULL, {WEBHOOK}, d.delivery_id \
         FROM d JOIN notices n USING (notice_id) JOIN users u ON u.user_id = n.user_id \
         LEFT JOIN webhooks w ON w.webhook_id = d.webhook_id ORDER BY d.delivery_id"
    );
    let update = link.prepare(&sql).await?;
    let (now, until) = (claim.now.as_microsecond(), claim.until.as_microsecond());
    let found = link.rows(&update, &[&now, &until, &claim.notice_id, &whole(claim.limit)]).await?;
    let claimed = |row: &Row| {
        let target = match word(row, 8, Channel::named)? {
            Channel::Mail => Target::Mail(get(row, 9)?),
            Channel::Webhook if get(row, 10)? => Target::Webhook(webhook(row, 11)?),
            Channel::Webhook => Target::Gone,
        };
        Ok(Delivery {
            delivery_id: get(row, 17)?,
            attempt: count(row, 6)?,
            notice: notice(row)?,
            email: get(row, 7)?,
            target,
        })
    };
    link.keep(found.iter().map(claimed).collect())
}

async fn finish(
    links: &Links,
    delivery_id: Uuid,
    attempt: u32,
    at: Timestamp,
    outcome: &Outcome,
) -> Result<bool, Failure> {
    let at = at.as_microsecond();
    let (state, next_at, error, done_at) = match outcome {
        Outcome::Done => (DeliveryState::Done, None, None, Some(at)),
        Outcome::Failed(error) => (DeliveryState::Failed, None, Some(error), Some(at)),
        Outcome::Later { next_at, error } => {
            (DeliveryState::Pending, Some(next_at.as_microsecond()), Some(error), None)
        }
    };
    let link = links.link().await?;
    let update = link
        .prepare(
            "UPDATE deliveries SET state = $3, next_at = coalesce($4, next_at), error = $5, done_at = $6 \
             WHERE delivery_id = $1 AND attempts = $2 AND state = 'pending'",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 6] =
        [&delivery_id, &i64::from(attempt), &state.name(), &next_at, &error, &done_at];
    let changed = link.count(&update, &values).await?;
    Ok(link.keep(changed > 0))
}

async fn list(
    links: &Links,
    user_id: Option<Uuid>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<ToldNotice>, Failure> {
    let link = links.link().await?;
    // Two separate statements, so that each can use its own index.
    let of = if user_id.is_some() { "n.user_id = $1" } else { "$1::uuid IS NULL" };
    let sql = format!(
        "SELECT {NOTICE}, u.email FROM notices n JOIN users u USING (user_id) WHERE {of} AND n.notice_id < $2 \
         ORDER BY n.notice_id DESC LIMIT $3"
    );
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &[&user_id, &before.unwrap_or(Uuid::max()), &whole(limit)]).await?;
    let told = |row: &Row| {
        Ok::<_, Failure>(ToldNotice { notice: notice(row)?, email: get(row, 6)?, deliveries: Vec::new() })
    };
    let mut told = found.iter().map(told).collect::<Result<Vec<_>, _>>()?;
    let sql = format!(
        "SELECT {DELIVERY}, d.notice_id FROM deliveries d WHERE d.notice_id = ANY ($1) ORDER BY d.channel, d.target, d.delivery_id"
    );
    let select = link.prepare(&sql).await?;
    let ids: Vec<Uuid> = told.iter().map(|one| one.notice.notice_id).collect();
    for row in link.rows(&select, &[&ids]).await? {
        let of: Uuid = get(&row, 10)?;
        let one = told.iter_mut().find(|one| one.notice.notice_id == of);
        one.ok_or_else(|| corrupt("a delivery of nothing"))?.deliveries.push(delivery(&row)?);
    }
    Ok(link.keep(told))
}

async fn forget(links: &Links, before: Timestamp, limit: u64) -> Result<u64, Failure> {
    let link = links.link().await?;
    let delete = link
        .prepare(
            "DELETE FROM notices WHERE notice_id IN (SELECT notice_id FROM notices WHERE created_at < $1 \
             ORDER BY created_at, notice_id LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    let gone = link.count(&delete, &[&before.as_microsecond(), &whole(limit)]).await?;
    Ok(link.keep(gone))
}

async fn by_end(links: &Links, now: Timestamp, ends: &[Timestamp]) -> Result<Vec<u64>, Failure> {
    let link = links.link().await?;
    let select = link
        .prepare(
            "SELECT count(*) FROM pats WHERE revoked_at IS NULL AND expires_at > $1 AND expires_at <= $2",
        )
        .await?;
    let now = now.as_microsecond();
    let mut counts = Vec::with_capacity(ends.len());
    for end in ends {
        let row = link.row(&select, &[&now, &end.as_microsecond()]).await?;
        counts.push(number(&row.ok_or_else(|| corrupt("a count has no row"))?, 0)?);
    }
    Ok(link.keep(counts))
}

#[async_trait]
impl NoticeStore for PostgresStore {
    async fn insert_webhook(
        &self,
        webhook: &WebhookRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        self.links().run(|| insert_webhook(self.links(), webhook, limit, audit)).await
    }

    async fn webhooks(&self, user_id: Option<Uuid>) -> Result<Vec<WebhookRecord>, StoreError> {
        self.links().run(|| webhooks(self.links(), user_id)).await
    }

    async fn delete_webhook(
        &self,
        webhook_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.links().run(|| delete_webhook(self.links(), webhook_id, at, audit)).await
    }

    async fn expiring(&self, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, StoreError> {
        self.links().run(|| expiring(self.links(), lacking, limit)).await
    }

    async fn add_notices(&self, notices: &[NewNotice], mail: bool) -> Result<u64, StoreError> {
        if notices.is_empty() {
            return Ok(0);
        }
        self.links().run(|| add_notices(self.links(), notices, mail)).await
    }

    async fn claim_deliveries(&self, asked: &Claim) -> Result<Vec<Delivery>, StoreError> {
        self.links().run(|| claim(self.links(), asked)).await
    }

    async fn finish_delivery(
        &self,
        delivery_id: Uuid,
        attempt: u32,
        at: Timestamp,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        self.links().run(|| finish(self.links(), delivery_id, attempt, at, outcome)).await
    }

    async fn notices(
        &self,
        user_id: Option<Uuid>,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<ToldNotice>, StoreError> {
        self.links().run(|| list(self.links(), user_id, before, limit)).await
    }

    async fn forget_notices(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.links().run(|| forget(self.links(), before, limit)).await
    }

    async fn pats_by_end(&self, now: Timestamp, ends: &[Timestamp]) -> Result<Vec<u64>, StoreError> {
        self.links().run(|| by_end(self.links(), now, ends)).await
    }
}
