//! The store for administration. A change that may remove an administrator first locks the rows of
//! all enabled administrators, in the order of their ids. So concurrent changes cannot remove the
//! last two administrators, and cannot deadlock.

use async_trait::async_trait;
use futures_util::future::{try_join, try_join3, try_join4};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use trustrelay_authority::{
    AdminStore, AuditEntry, Cursor, InviteRecord, PatFilter, PatPage, StoreError, UserChange, UserFilter,
    UserPage, UserRecord,
};
use uuid::Uuid;

use super::PostgresStore;
use super::audit::Entry;
use super::errors::Failure;
use super::link::Links;
use super::log;
use super::rows::{self, PAT, PAT_COLUMNS, USER, USER_COLUMNS, bytes, get, number, time};
use super::users::{NewRow, insertion, lock_administrators, locked};
use crate::sql::search::{Given, fits_nothing, pat_page, pats, pats_counted, user_page, users};

const INVITE: &str = "invite_id, digest, email, is_admin, created_by, created_at, expires_at";

fn invite(row: &Row) -> Result<InviteRecord, Failure> {
    Ok(InviteRecord {
        invite_id: get(row, 0)?,
        digest: bytes(row, 1)?,
        email: get(row, 2)?,
        is_admin: get(row, 3)?,
        created_by: get(row, 4)?,
        created_at: time(row, 5)?,
        expires_at: time(row, 6)?,
    })
}

async fn insert_invite(
    links: &Links,
    invite: &InviteRecord,
    limit: u64,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let look = link
        .prepare(
            "SELECT EXISTS (SELECT 1 FROM users WHERE email = $1), \
             (SELECT COUNT(*) FROM invites WHERE email <> $1 AND expires_at > $2)",
        )
        .await?;
    let clear = link.prepare("DELETE FROM invites WHERE email = $1 OR expires_at <= $2").await?;
    let insert =
        link.prepare(&format!("INSERT INTO invites ({INVITE}) VALUES ($1, $2, $3, $4, $5, $6, $7)")).await?;
    let (now, expires) = (invite.created_at.as_microsecond(), invite.expires_at.as_microsecond());
    // The lock keeps out concurrent invitations and acceptances, so the count stays valid.
    let (link, permit) = entry.begin(link).await?;
    let lock = link.batch("LOCK TABLE invites IN SHARE ROW EXCLUSIVE MODE");
    let ((), found) = try_join(lock, link.row(&look, &[&invite.email, &now])).await?;
    let found = found.ok_or_else(|| rows::corrupt("a count has no row"))?;
    if get::<bool>(&found, 0)? {
        return link.undo(Err(StoreError::EmailTaken.into())).await?;
    }
    let others = number(&found, 1)?;
    if others >= limit {
        return link.undo(Err(StoreError::TooManyInvites(others).into())).await?;
    }
    let digest = &invite.digest[..];
    let values: [&(dyn ToSql + Sync); 7] =
        [&invite.invite_id, &digest, &invite.email, &invite.is_admin, &invite.created_by, &now, &expires];
    try_join(
        link.count(&clear, &[&invite.email, &now]),
        try_join3(link.count(&insert, &values), entry.append(&link, &append, permit), link.batch("COMMIT")),
    )
    .await?;
    link.keep(Ok(()))
}

async fn accept_invite(
    links: &Links,
    digest: &[u8; 32],
    user: &UserRecord,
    audit: &AuditEntry,
) -> Result<bool, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let take = link.prepare("DELETE FROM invites WHERE digest = $1 AND expires_at > $2").await?;
    let insert = insertion(&link).await?;
    let row = NewRow::of(user);
    let (link, permit) = entry.begin(link).await?;
    let taken = link.count(&take, &[&&digest[..], &user.created_at.as_microsecond()]).await?;
    if taken == 0 {
        return link.undo(false).await;
    }
    if link.count(&insert, &row.values()).await? == 0 {
        return link.undo(Err(StoreError::EmailTaken.into())).await?;
    }
    try_join(entry.append(&link, &append, permit), link.batch("COMMIT")).await?;
    Ok(link.keep(true))
}

async fn invite_by_digest(links: &Links, digest: &[u8; 32]) -> Result<Option<InviteRecord>, Failure> {
    let link = links.link().await?;
    let select = link.prepare(&format!("SELECT {INVITE} FROM invites WHERE digest = $1")).await?;
    let found = link.row(&select, &[&&digest[..]]).await?;
    link.keep(found.map(|row| invite(&row)).transpose())
}

async fn open_invites(links: &Links, now: Timestamp) -> Result<Vec<InviteRecord>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "SELECT {INVITE} FROM invites WHERE expires_at > $1 ORDER BY created_at DESC, invite_id DESC"
    );
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &[&now.as_microsecond()]).await?;
    link.keep(found.iter().map(invite).collect())
}

async fn delete_invite(links: &Links, invite_id: Uuid, audit: &AuditEntry) -> Result<bool, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let delete = link.prepare("DELETE FROM invites WHERE invite_id = $1").await?;
    let (link, permit) = entry.begin(link).await?;
    let deleted = link.count(&delete, &[&invite_id]).await?;
    if deleted == 0 {
        return link.undo(false).await;
    }
    try_join(entry.append(&link, &append, permit), link.batch("COMMIT")).await?;
    Ok(link.keep(true))
}

async fn change_user(
    links: &Links,
    user_id: Uuid,
    change: &UserChange,
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
            "UPDATE users SET is_admin = $2, upstreams = $3, changed_seq = (SELECT seq FROM log_head) WHERE user_id = $1",
        )
        .await?;
    let (link, permit) = entry.begin(link).await?;
    let found = link.rows(&lock, &[&user_id]).await?;
    let Some(own) = locked(&found, user_id)? else { return link.undo(None).await };
    let (kind, is_admin, upstreams) = match change {
        UserChange::Admin(is_admin) => ("admin", *is_admin, own.upstreams.clone()),
        UserChange::Upstreams(names) => {
            ("upstreams", own.is_admin, names.as_ref().map(|names| names.join(" ")))
        }
        UserChange::NarrowUpstreams(names) => ("upstreams", own.is_admin, Some(names.join(" "))),
    };
    if is_admin == own.is_admin && upstreams == own.upstreams {
        return link.undo(Some(own.changed_seq)).await;
    }
    if own.is_last && !is_admin {
        return link.undo(Err(StoreError::LastAdministrator.into())).await?;
    }
    let current = own.upstreams.as_deref().map(str::split_ascii_whitespace);
    if let Err(widens) = change.check_narrowing(current) {
        return link.undo(Err(widens.into())).await?;
    }
    // Pipelined in one round trip, so that the log's head is not locked while this node is busy.
    let (seq, _, (), ()) = try_join4(
        link.row(&append, &[&now.as_microsecond(), &kind, &Some(user_id)]),
        link.count(&update, &[&user_id, &is_admin, &upstreams]),
        entry.append(&link, &append_audit, permit),
        link.batch(log::TELL_AND_COMMIT),
    )
    .await?;
    let seq = log::numbered(seq)?;
    Ok(link.keep(Some(seq)))
}

/// Converts values for PostgreSQL.
pub(super) fn given(values: &[Given]) -> Vec<&(dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| match value {
            Given::Int(int) => int as &(dyn ToSql + Sync),
            Given::Text(text) => text,
            Given::Id(id) => id,
        })
        .collect()
}

async fn search_users(
    links: &Links,
    filter: &UserFilter,
    after: Option<&Cursor>,
    limit: u64,
    now: Timestamp,
) -> Result<UserPage, Failure> {
    let (sql, values) = users('$', USER, filter, after, limit, now);
    let link = links.link().await?;
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &given(&values)).await?;
    let users = found.iter().map(|row| Ok((rows::user(row, 0)?, number(row, USER_COLUMNS)?)));
    let users = users.collect::<Result<_, Failure>>()?;
    Ok(link.keep(user_page(users, limit)))
}

async fn search_pats(
    links: &Links,
    filter: &PatFilter,
    after: Option<&Cursor>,
    limit: u64,
    now: Timestamp,
) -> Result<PatPage, Failure> {
    let (sql, values) = pats('$', PAT, filter, after, limit, now);
    let link = links.link().await?;
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &given(&values)).await?;
    let found = found.iter().map(|row| Ok((rows::pat(row)?, get(row, PAT_COLUMNS)?)));
    let found = found.collect::<Result<_, Failure>>()?;
    Ok(link.keep(pat_page(found, filter.order(), limit)))
}

async fn count_pats(links: &Links, filter: &PatFilter, most: u64, now: Timestamp) -> Result<u64, Failure> {
    let (sql, values) = pats_counted('$', filter, most, now);
    let link = links.link().await?;
    let select = link.prepare(&sql).await?;
    let found = link.row(&select, &given(&values)).await?;
    let counted = number(&found.ok_or_else(|| rows::corrupt("a count has no row"))?, 0)?;
    Ok(link.keep(counted))
}

#[async_trait]
impl AdminStore for PostgresStore {
    async fn insert_invite(
        &self,
        invite: &InviteRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        self.links().run(|| insert_invite(self.links(), invite, limit, audit)).await
    }

    async fn invite_by_digest(&self, digest: &[u8; 32]) -> Result<Option<InviteRecord>, StoreError> {
        self.links().run(|| invite_by_digest(self.links(), digest)).await
    }

    async fn invites(&self, now: Timestamp) -> Result<Vec<InviteRecord>, StoreError> {
        self.links().run(|| open_invites(self.links(), now)).await
    }

    async fn delete_invite(&self, invite_id: Uuid, audit: &AuditEntry) -> Result<bool, StoreError> {
        self.links().run(|| delete_invite(self.links(), invite_id, audit)).await
    }

    async fn accept_invite(
        &self,
        digest: &[u8; 32],
        user: &UserRecord,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.links().run(|| accept_invite(self.links(), digest, user, audit)).await
    }

    async fn change_user(
        &self,
        user_id: Uuid,
        change: &UserChange,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.links().run(|| change_user(self.links(), user_id, change, now, audit)).await
    }

    async fn search_users(
        &self,
        filter: &UserFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<UserPage, StoreError> {
        // PostgreSQL cannot store this character in text, and a query with it fails.
        if filter.email.as_ref().is_some_and(|text| text.contains('\0')) {
            return Ok(UserPage::default());
        }
        self.links().run(|| search_users(self.links(), filter, after, limit, now)).await
    }

    async fn search_pats(
        &self,
        filter: &PatFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<PatPage, StoreError> {
        if fits_nothing(filter) {
            return Ok(PatPage::default());
        }
        self.links().run(|| search_pats(self.links(), filter, after, limit, now)).await
    }

    async fn count_pats(&self, filter: &PatFilter, most: u64, now: Timestamp) -> Result<u64, StoreError> {
        if fits_nothing(filter) {
            return Ok(0);
        }
        self.links().run(|| count_pats(self.links(), filter, most, now)).await
    }
}
