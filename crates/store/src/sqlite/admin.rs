//! The store for administration. The writer is alone in its transaction, so concurrent changes
//! cannot remove the last two administrators.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use trustrelay_authority::{
    AdminStore, AuditEntry, Cursor, InviteRecord, PatFilter, PatPage, StoreError, UserChange, UserFilter,
    UserPage, UserRecord,
};
use uuid::Uuid;

use crate::sql::search::{Given, pat_page, pats, pats_counted, users};
use crate::sqlite::SqliteStore;
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::log::append;
use crate::sqlite::rows::{self, PAT, PAT_COLUMNS, USER, USER_COLUMNS};
use crate::sqlite::users::{insert_user, spare_the_last_administrator};

const INVITE: &str = "invite_id, digest, email, is_admin, created_by, created_at, expires_at";

fn invite(row: &Row<'_>) -> rusqlite::Result<InviteRecord> {
    Ok(InviteRecord {
        invite_id: rows::id(row, 0)?,
        digest: row.get(1)?,
        email: row.get(2)?,
        is_admin: row.get(3)?,
        created_by: row.get::<_, Option<[u8; 16]>>(4)?.map(Uuid::from_bytes),
        created_at: rows::time(row, 5)?,
        expires_at: rows::time(row, 6)?,
    })
}

fn insert_invite(
    connection: &Connection,
    invite: &InviteRecord,
    limit: u64,
    audit: &AuditEntry,
) -> Result<(), StoreError> {
    let permit = audit::permit(connection, audit)?;
    let taken = "SELECT EXISTS (SELECT 1 FROM users WHERE email = ?1)";
    if connection.query_row(taken, [&invite.email], |row| row.get(0)).or_store()? {
        return Err(StoreError::EmailTaken);
    }
    let now = invite.created_at.as_microsecond();
    let others: u64 = connection
        .query_row(
            "SELECT COUNT(*) FROM invites WHERE email <> ?1 AND expires_at > ?2",
            params![invite.email, now],
            |row| row.get(0),
        )
        .or_store()?;
    if others >= limit {
        return Err(StoreError::TooManyInvites(others));
    }
    let old = "DELETE FROM invites WHERE email = ?1 OR expires_at <= ?2";
    connection.execute(old, params![invite.email, now]).or_store()?;
    connection
        .execute(
            &format!("INSERT INTO invites ({INVITE}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
            params![
                invite.invite_id.as_bytes(),
                invite.digest,
                invite.email,
                invite.is_admin,
                invite.created_by.map(Uuid::into_bytes),
                now,
                invite.expires_at.as_microsecond(),
            ],
        )
        .or_store()?;
    audit::append(connection, audit, permit)
}

fn accept_invite(
    connection: &Connection,
    digest: &[u8; 32],
    user: &UserRecord,
    audit: &AuditEntry,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM invites WHERE digest = ?1 AND expires_at > ?2";
    if connection.execute(sql, params![digest, user.created_at.as_microsecond()]).or_store()? == 0 {
        return Ok(false);
    }
    insert_user(connection, user, audit)?;
    Ok(true)
}

fn change_user(
    connection: &Connection,
    user_id: Uuid,
    change: &UserChange,
    now: Timestamp,
    audit: &AuditEntry,
) -> Result<Option<u64>, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let id = user_id.as_bytes();
    let (kind, column, value) = match change {
        UserChange::Admin(is_admin) => ("admin", "is_admin", Value::from(*is_admin)),
        UserChange::Upstreams(upstreams) => {
            ("upstreams", "upstreams", upstreams.as_ref().map(|names| names.join(" ")).into())
        }
        UserChange::NarrowUpstreams(names) => ("upstreams", "upstreams", names.join(" ").into()),
    };
    let sql = format!("SELECT {column} IS ?2, changed_seq, upstreams FROM users WHERE user_id = ?1");
    let found: Option<(bool, u64, Option<String>)> = connection
        .query_row(&sql, params![id, value], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
        .or_store()?;
    match found {
        None => return Ok(None),
        Some((true, seq, _)) => return Ok(Some(seq)),
        Some((false, _, upstreams)) => {
            change.check_narrowing(upstreams.as_deref().map(str::split_ascii_whitespace))?;
        }
    }
    if *change == UserChange::Admin(false) {
        spare_the_last_administrator(connection, user_id)?;
    }
    let seq = append(connection, now, kind, Some(user_id))?;
    let sql = format!("UPDATE users SET {column} = ?2, changed_seq = ?3 WHERE user_id = ?1");
    connection.execute(&sql, params![id, value, seq]).or_store()?;
    audit::append(connection, audit, permit)?;
    Ok(Some(seq))
}

/// Converts a value for the database.
pub(crate) fn given(given: Given) -> Value {
    match given {
        Given::Int(int) => int.into(),
        Given::Text(text) => text.into(),
        Given::Id(id) => id.as_bytes().to_vec().into(),
    }
}

#[async_trait]
impl AdminStore for SqliteStore {
    async fn insert_invite(
        &self,
        invite: &InviteRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let (invite, audit) = (invite.clone(), audit.clone());
        self.threads().write(move |connection| insert_invite(connection, &invite, limit, &audit)).await
    }

    async fn invite_by_digest(&self, digest: &[u8; 32]) -> Result<Option<InviteRecord>, StoreError> {
        let digest = *digest;
        let sql = format!("SELECT {INVITE} FROM invites WHERE digest = ?1");
        self.threads()
            .read(move |connection| connection.query_row(&sql, [digest], invite).optional().or_store())
            .await
    }

    async fn invites(&self, now: Timestamp) -> Result<Vec<InviteRecord>, StoreError> {
        let sql = format!(
            "SELECT {INVITE} FROM invites WHERE expires_at > ?1 ORDER BY created_at DESC, invite_id DESC"
        );
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let found = statement.query_map([now.as_microsecond()], invite).or_store()?;
                found.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }

    async fn delete_invite(&self, invite_id: Uuid, audit: &AuditEntry) -> Result<bool, StoreError> {
        let audit = audit.clone();
        self.threads()
            .write(move |connection| {
                let permit = audit::permit(connection, &audit)?;
                let sql = "DELETE FROM invites WHERE invite_id = ?1";
                let was_there = connection.execute(sql, [invite_id.as_bytes()]).or_store()? > 0;
                if was_there {
                    audit::append(connection, &audit, permit)?;
                }
                Ok(was_there)
            })
            .await
    }

    async fn accept_invite(
        &self,
        digest: &[u8; 32],
        user: &UserRecord,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let (digest, user, audit) = (*digest, user.clone(), audit.clone());
        self.threads().write(move |connection| accept_invite(connection, &digest, &user, &audit)).await
    }

    async fn change_user(
        &self,
        user_id: Uuid,
        change: &UserChange,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let (change, audit) = (change.clone(), audit.clone());
        self.threads().write(move |connection| change_user(connection, user_id, &change, now, &audit)).await
    }

    async fn search_users(
        &self,
        filter: &UserFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<UserPage, StoreError> {
        let (sql, values) = users('?', USER, filter, after, limit, now);
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let values = params_from_iter(values.into_iter().map(given));
                let found = statement
                    .query_map(values, |row| Ok((rows::user(row, 0)?, row.get(USER_COLUMNS)?)))
                    .or_store()?;
                let users = found.collect::<rusqlite::Result<Vec<_>>>().or_store()?;
                Ok(crate::sql::search::user_page(users, limit))
            })
            .await
    }

    async fn search_pats(
        &self,
        filter: &PatFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<PatPage, StoreError> {
        let (sql, values) = pats('?', PAT, filter, after, limit, now);
        let order = filter.order();
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let values = params_from_iter(values.into_iter().map(given));
                let found = statement
                    .query_map(values, |row| Ok((rows::pat(row)?, row.get(PAT_COLUMNS)?)))
                    .or_store()?;
                let found = found.collect::<rusqlite::Result<Vec<_>>>().or_store()?;
                Ok(pat_page(found, order, limit))
            })
            .await
    }

    async fn count_pats(&self, filter: &PatFilter, most: u64, now: Timestamp) -> Result<u64, StoreError> {
        let (sql, values) = pats_counted('?', filter, most, now);
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let values = params_from_iter(values.into_iter().map(given));
                statement.query_row(values, |row| row.get(0)).or_store()
            })
            .await
    }
}
