//! Browser sessions.

use futures_util::future::try_join;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use trustrelay_authority::{AuditEntry, SessionRecord, StoreError, UserRecord};
use uuid::Uuid;

use super::audit::Entry;
use super::errors::Failure;
use super::link::Links;
use super::rows::{self, USER};

pub(super) async fn insert(
    links: &Links,
    session: &SessionRecord,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    // The account's row is locked. A concurrent transaction that disables the account either comes
    // first or ends this session too.
    let sql = "INSERT INTO browser_sessions (digest, user_id, created_at, expires_at) SELECT $1, u.user_id, $3, $4 FROM users u \
               WHERE u.user_id = $2 AND u.disabled_at IS NULL FOR SHARE OF u";
    let (created, expires) = (session.created_at.as_microsecond(), session.expires_at.as_microsecond());
    let values: [&(dyn ToSql + Sync); 4] = [&&session.digest[..], &session.user_id, &created, &expires];
    match told(links, sql, &values, audit).await? {
        0 => Err(StoreError::UserGone.into()),
        _ => Ok(()),
    }
}

pub(super) async fn by_digest(
    links: &Links,
    digest: &[u8; 32],
) -> Result<Option<(SessionRecord, UserRecord)>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "SELECT s.digest, s.user_id, s.created_at, s.expires_at, {USER} FROM browser_sessions s JOIN users u USING (user_id) \
         WHERE s.digest = $1"
    );
    let select = link.prepare(&sql).await?;
    let found = link.row(&select, &[&&digest[..]]).await?;
    link.keep(found.map(|row| Ok((rows::session(&row)?, rows::user(&row, 4)?))).transpose())
}

pub(super) async fn delete(links: &Links, digest: &[u8; 32], audit: &AuditEntry) -> Result<bool, Failure> {
    Ok(told(links, "DELETE FROM browser_sessions WHERE digest = $1", &[&&digest[..]], audit).await? > 0)
}

pub(super) async fn delete_of(
    links: &Links,
    user_id: Uuid,
    keep: Option<[u8; 32]>,
    audit: &AuditEntry,
) -> Result<u64, Failure> {
    let sql = "DELETE FROM browser_sessions WHERE user_id = $1 AND digest IS DISTINCT FROM $2";
    told(links, sql, &[&user_id, &keep.as_ref().map(|digest| &digest[..])], audit).await
}

pub(super) async fn delete_expired(links: &Links, now: Timestamp) -> Result<u64, Failure> {
    let link = links.link().await?;
    let delete = link.prepare("DELETE FROM browser_sessions WHERE expires_at <= $1").await?;
    let deleted = link.count(&delete, &[&now.as_microsecond()]).await?;
    Ok(link.keep(deleted))
}

/// Runs a change, and appends its audit entry if any row changed. Returns the number of changed
/// rows.
pub(super) async fn told(
    links: &Links,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
    audit: &AuditEntry,
) -> Result<u64, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let change = link.prepare(sql).await?;
    let append = Entry::statement(&link).await?;
    let (link, permit) = entry.begin(link).await?;
    let changed = link.count(&change, values).await?;
    if changed == 0 {
        return link.undo(0).await;
    }
    try_join(entry.append(&link, &append, permit), link.batch("COMMIT")).await?;
    Ok(link.keep(changed))
}
