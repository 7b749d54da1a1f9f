//! Accounts. An account's row is also the lock that serializes the changes of its tokens (`pats`).

use futures_util::future::{try_join, try_join3, try_join5};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use trustrelay_authority::{AuditEntry, StoreError, UserRecord};
use uuid::Uuid;

use super::audit::Entry;
use super::errors::Failure;
use super::link::{Link, Links};
use super::log;
use super::rows::{self, USER, get, number};

pub(super) async fn insert(links: &Links, user: &UserRecord, audit: &AuditEntry) -> Result<(), Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let insert = insertion(&link).await?;
    let row = NewRow::of(user);
    let values = row.values();
    let (link, permit) = entry.begin(link).await?;
    let inserted = link.count(&insert, &values).await?;
    if inserted == 0 {
        return link.undo(Err(StoreError::EmailTaken.into())).await?;
    }
    try_join(entry.append(&link, &append, permit), link.batch("COMMIT")).await?;
    link.keep(Ok(()))
}

/// Inserts an account unless its address is taken. The values come from a [`NewRow`].
pub(super) async fn insertion(link: &Link) -> Result<Statement, Failure> {
    link.prepare(
        "INSERT INTO users (user_id, email, password_hash, is_admin, created_at, disabled_at, upstreams) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (email) DO NOTHING",
    )
    .await
}

/// An account to be inserted.
pub(super) struct NewRow<'a> {
    user: &'a UserRecord,
    created: i64,
    disabled: Option<i64>,
    upstreams: Option<String>,
}

impl<'a> NewRow<'a> {
    pub(super) fn of(user: &'a UserRecord) -> Self {
        Self {
            user,
            created: user.created_at.as_microsecond(),
            disabled: user.disabled_at.map(Timestamp::as_microsecond),
            upstreams: user.upstreams.as_ref().map(|names| names.join(" ")),
        }
    }

    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 7] {
        let user = self.user;
        [
            &user.user_id,
            &user.email,
            &user.password_hash,
            &user.is_admin,
            &self.created,
            &self.disabled,
            &self.upstreams,
        ]
    }
}

pub(super) async fn insert_first(
    links: &Links,
    user: &UserRecord,
    audit: &AuditEntry,
) -> Result<bool, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let insert = link
        .prepare(
            "INSERT INTO users (user_id, email, password_hash, is_admin, created_at, disabled_at, upstreams) \
             SELECT $1, $2, $3, $4, $5, $6, $7 \
             WHERE NOT EXISTS (SELECT 1 FROM users)",
        )
        .await?;
    let row = NewRow::of(user);
    let values = row.values();
    // The table lock keeps out concurrent insertions: there is no row yet that could be locked
    // instead.
    let (link, permit) = entry.begin(link).await?;
    let lock = link.batch("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE");
    let ((), inserted) = try_join(lock, link.count(&insert, &values)).await?;
    if inserted == 0 {
        return link.undo(false).await;
    }
    try_join(entry.append(&link, &append, permit), link.batch("COMMIT")).await?;
    Ok(link.keep(true))
}

pub(super) async fn by_id(links: &Links, user_id: Uuid) -> Result<Option<UserRecord>, Failure> {
    one(links, &format!("SELECT {USER} FROM users u WHERE u.user_id = $1"), &user_id).await
}

pub(super) async fn by_email(links: &Links, email: &str) -> Result<Option<UserRecord>, Failure> {
    // PostgreSQL cannot store this character in text, and a query with it fails.
    if email.contains('\0') {
        return Ok(None);
    }
    one(links, &format!("SELECT {USER} FROM users u WHERE u.email = $1"), &email).await
}

async fn one(links: &Links, sql: &str, key: &(dyn ToSql + Sync)) -> Result<Option<UserRecord>, Failure> {
    let link = links.link().await?;
    let select = link.prepare(sql).await?;
    let found = link.row(&select, &[key]).await?;
    link.keep(found.map(|row| rows::user(&row, 0)).transpose())
}

pub(super) async fn list(links: &Links) -> Result<Vec<UserRecord>, Failure> {
    let link = links.link().await?;
    let select =
        link.prepare(&format!("SELECT {USER} FROM users u ORDER BY u.created_at, u.user_id")).await?;
    let found = link.rows(&select, &[]).await?;
    link.keep(found.iter().map(|row| rows::user(row, 0)).collect())
}

pub(super) async fn exist(links: &Links) -> Result<bool, Failure> {
    let link = links.link().await?;
    let select = link.prepare("SELECT 1 FROM users LIMIT 1").await?;
    let found = link.row(&select, &[]).await?;
    Ok(link.keep(found.is_some()))
}

/// Locks the rows of `$1` and of all enabled administrators: id, is_admin, whether disabled,
/// changed_seq, upstreams. A transaction that waited for a row sees it as it is after the wait.
pub(super) async fn lock_administrators(link: &Link) -> Result<Statement, Failure> {
    link.prepare(
        "SELECT user_id, is_admin, disabled_at IS NOT NULL, changed_seq, upstreams FROM users \
         WHERE user_id = $1 OR (is_admin AND disabled_at IS NULL) ORDER BY user_id FOR NO KEY UPDATE",
    )
    .await
}

/// An account among the locked rows.
pub(super) struct Locked {
    pub(super) is_admin: bool,
    pub(super) is_disabled: bool,
    pub(super) changed_seq: u64,
    pub(super) upstreams: Option<String>,
    /// True if the account is the only enabled administrator.
    pub(super) is_last: bool,
}

/// Returns the row of `user_id` among the rows found by [`lock_administrators`].
pub(super) fn locked(found: &[Row], user_id: Uuid) -> Result<Option<Locked>, Failure> {
    let (mut own, mut enabled) = (None, 0);
    for row in found {
        let (is_admin, is_disabled): (bool, bool) = (get(row, 1)?, get(row, 2)?);
        enabled += usize::from(is_admin && !is_disabled);
        if get::<Uuid>(row, 0)? == user_id {
            let (changed_seq, upstreams) = (number(row, 3)?, get(row, 4)?);
            own = Some(Locked {
                is_admin,
                is_disabled,
                changed_seq,
                upstreams,
                is_last: is_admin && !is_disabled,
            });
        }
    }
    Ok(own.map(|own| Locked { is_last: own.is_last && enabled == 1, ..own }))
}

pub(super) async fn set_disabled(
    links: &Links,
    user_id: Uuid,
    at: Option<Timestamp>,
    now: Timestamp,
    audit: &AuditEntry,
) -> Result<Option<u64>, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append_audit = Entry::statement(&link).await?;
    let lock = lock_administrators(&link).await?;
    let append = log::append(&link).await?;
    let update = link
        .prepare(
            "UPDATE users SET disabled_at = $2, changed_seq = (SELECT seq FROM log_head) WHERE user_id = $1",
        )
        .await?;
    let sign_out = link.prepare("DELETE FROM browser_sessions WHERE user_id = $1 AND $2").await?;

    let (link, permit) = entry.begin(link).await?;
    let found = link.rows(&lock, &[&user_id]).await?;
    let Some(own) = locked(&found, user_id)? else { return link.undo(None).await };
    if own.is_disabled == at.is_some() {
        return link.undo(Some(own.changed_seq)).await;
    }
    if own.is_last && at.is_some() {
        return link.undo(Err(StoreError::LastAdministrator.into())).await?;
    }
    let kind = if at.is_some() { "disabled" } else { "enabled" };
    // Pipelined in one round trip, so that the log's head is not locked while this node is busy.
    let (seq, _, _, (), ()) = try_join5(
        link.row(&append, &[&now.as_microsecond(), &kind, &Some(user_id)]),
        link.count(&update, &[&user_id, &at.map(Timestamp::as_microsecond)]),
        link.count(&sign_out, &[&user_id, &at.is_some()]),
        entry.append(&link, &append_audit, permit),
        link.batch(log::TELL_AND_COMMIT),
    )
    .await?;
    let seq = log::numbered(seq)?;
    Ok(link.keep(Some(seq)))
}

pub(super) async fn set_password(
    links: &Links,
    user_id: Uuid,
    password_hash: &str,
    keep: Option<[u8; 32]>,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let update = link.prepare("UPDATE users SET password_hash = $2 WHERE user_id = $1").await?;
    let sign_out = link
        .prepare("DELETE FROM browser_sessions WHERE user_id = $1 AND digest IS DISTINCT FROM $2")
        .await?;
    let keep = keep.as_ref().map(|digest| &digest[..]);
    let (link, permit) = entry.begin(link).await?;
    let updated = link.count(&update, &[&user_id, &password_hash]).await?;
    if updated == 0 {
        return link.undo(Err(StoreError::UserGone.into())).await?;
    }
    try_join3(
        link.count(&sign_out, &[&user_id, &keep]),
        entry.append(&link, &append, permit),
        link.batch("COMMIT"),
    )
    .await?;
    link.keep(Ok(()))
}
