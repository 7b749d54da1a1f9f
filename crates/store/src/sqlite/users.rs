//! Accounts and their browser sessions, within the writer's transaction.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use trustrelay_authority::{AuditEntry, StoreError, UserRecord};
use uuid::Uuid;

use super::audit;
use super::errors::OrStoreError;
use super::log::append;

pub(super) fn insert_user(
    connection: &Connection,
    user: &UserRecord,
    audit: &AuditEntry,
) -> Result<(), StoreError> {
    let permit = audit::permit(connection, audit)?;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO users (user_id, email, password_hash, is_admin, created_at, disabled_at, upstreams) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (email) DO NOTHING",
        )
        .or_store()?
        .execute(params![
            user.user_id.as_bytes(),
            user.email,
            user.password_hash,
            user.is_admin,
            user.created_at.as_microsecond(),
            user.disabled_at.map(Timestamp::as_microsecond),
            user.upstreams.as_ref().map(|names| names.join(" ")),
        ])
        .or_store()?;
    if inserted == 0 { Err(StoreError::EmailTaken) } else { audit::append(connection, audit, permit) }
}

pub(super) fn has_users(connection: &Connection) -> Result<bool, StoreError> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0)).or_store()
}

pub(super) fn delete_sessions(
    connection: &Connection,
    user_id: Uuid,
    keep: Option<[u8; 32]>,
) -> Result<usize, StoreError> {
    connection
        .prepare_cached("DELETE FROM browser_sessions WHERE user_id = ?1 AND digest IS NOT ?2")
        .or_store()?
        .execute(params![user_id.as_bytes(), keep])
        .or_store()
}

pub(super) fn set_user_disabled(
    connection: &Connection,
    user_id: Uuid,
    at: Option<Timestamp>,
    now: Timestamp,
    audit: &AuditEntry,
) -> Result<Option<u64>, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let found: Option<(bool, u64)> = connection
        .query_row(
            "SELECT disabled_at IS NOT NULL, changed_seq FROM users WHERE user_id = ?1",
            [user_id.as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .or_store()?;
    match found {
        None => return Ok(None),
        Some((is_disabled, seq)) if is_disabled == at.is_some() => return Ok(Some(seq)),
        Some(_) => {}
    }
    if at.is_some() {
        spare_the_last_administrator(connection, user_id)?;
    }
    let seq = append(connection, now, if at.is_some() { "disabled" } else { "enabled" }, Some(user_id))?;
    connection
        .execute(
            "UPDATE users SET disabled_at = ?2, changed_seq = ?3 WHERE user_id = ?1",
            params![user_id.as_bytes(), at.map(Timestamp::as_microsecond), seq],
        )
        .or_store()?;
    if at.is_some() {
        delete_sessions(connection, user_id, None)?;
    }
    audit::append(connection, audit, permit)?;
    Ok(Some(seq))
}

/// Returns an error if the account is the only enabled administrator.
pub(crate) fn spare_the_last_administrator(connection: &Connection, user_id: Uuid) -> Result<(), StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE user_id = ?1 AND is_admin AND disabled_at IS NULL) \
               AND NOT EXISTS (SELECT 1 FROM users WHERE user_id <> ?1 AND is_admin AND disabled_at IS NULL)";
    if connection.query_row(sql, [user_id.as_bytes()], |row| row.get(0)).or_store()? {
        Err(StoreError::LastAdministrator)
    } else {
        Ok(())
    }
}
