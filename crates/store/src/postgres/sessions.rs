//! Browser sessions.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use trustrelay_authority::{SessionRecord, StoreError, UserRecord};
use uuid::Uuid;

use super::errors::Failure;
use super::link::Links;
use super::rows::{self, USER};

pub(super) async fn insert(links: &Links, session: &SessionRecord) -> Result<(), Failure> {
    let link = links.link().await?;
    // With the account's row locked: whoever disables it at the same time either comes first, or ends this session too.
    let insert = link
        .prepare(
            "INSERT INTO browser_sessions (digest, user_id, created_at, expires_at) SELECT $1, u.user_id, $3, $4 FROM users u \
             WHERE u.user_id = $2 AND u.disabled_at IS NULL FOR SHARE OF u",
        )
        .await?;
    let (created, expires) = (session.created_at.as_microsecond(), session.expires_at.as_microsecond());
    let values: [&(dyn ToSql + Sync); 4] = [&&session.digest[..], &session.user_id, &created, &expires];
    let inserted = link.count(&insert, &values).await?;
    link.keep(if inserted == 0 { Err(StoreError::UserGone.into()) } else { Ok(()) })
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

pub(super) async fn delete(links: &Links, digest: &[u8; 32]) -> Result<bool, Failure> {
    Ok(change(links, "DELETE FROM browser_sessions WHERE digest = $1", &[&&digest[..]]).await? > 0)
}

pub(super) async fn delete_of(links: &Links, user_id: Uuid, keep: Option<[u8; 32]>) -> Result<u64, Failure> {
    let sql = "DELETE FROM browser_sessions WHERE user_id = $1 AND digest IS DISTINCT FROM $2";
    change(links, sql, &[&user_id, &keep.as_ref().map(|digest| &digest[..])]).await
}

pub(super) async fn delete_expired(links: &Links, now: Timestamp) -> Result<u64, Failure> {
    change(links, "DELETE FROM browser_sessions WHERE expires_at <= $1", &[&now.as_microsecond()]).await
}

async fn change(links: &Links, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
    let link = links.link().await?;
    let delete = link.prepare(sql).await?;
    let deleted = link.count(&delete, values).await?;
    Ok(link.keep(deleted))
}
