//! The store's methods. Each is one transaction.

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{OptionalExtension, params};
use trustrelay_authority::{
    AuditEntry, Holder, KeptActivity, Lease, LogEntry, NodeRecord, PatRecord, Renewal, Revocation,
    RevokeOutcome, SessionRecord, Store, StoreError, Terminated, TokenCalls, Usage, UserRecord,
};
use uuid::Uuid;

use crate::sqlite::SqliteStore;
use crate::sqlite::activity::{activity, forget_calls, record_calls};
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::leases;
use crate::sqlite::log::{head, log_after};
use crate::sqlite::rows::is_enabled;
use crate::sqlite::users::{delete_sessions, has_users, insert_user, set_user_disabled};

use crate::sqlite::pats::{active, insert_pat, record_usage, revoke_pats};
use crate::sqlite::rows::{self, PAT, USER};

#[async_trait]
impl Store for SqliteStore {
    async fn insert_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        let (user, audit) = (user.clone(), audit.clone());
        self.threads.write(move |connection| insert_user(connection, &user, &audit)).await
    }

    async fn insert_first_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<bool, StoreError> {
        let (user, audit) = (user.clone(), audit.clone());
        self.threads
            .write(move |connection| {
                let _asked = audit::permit(connection, &audit)?;
                let first = !has_users(connection)?;
                if first {
                    insert_user(connection, &user, &audit)?;
                }
                Ok(first)
            })
            .await
    }

    async fn user_by_id(&self, user_id: Uuid) -> Result<Option<UserRecord>, StoreError> {
        let sql = format!("SELECT {USER} FROM users u WHERE u.user_id = ?1");
        self.threads
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                statement.query_row([user_id.as_bytes()], |row| rows::user(row, 0)).optional().or_store()
            })
            .await
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<UserRecord>, StoreError> {
        let sql = format!("SELECT {USER} FROM users u WHERE u.email = ?1");
        let email = email.to_owned();
        self.threads
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                statement.query_row([email], |row| rows::user(row, 0)).optional().or_store()
            })
            .await
    }

    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError> {
        let sql = format!("SELECT {USER} FROM users u ORDER BY u.created_at, u.user_id");
        self.threads
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let users = statement.query_map([], |row| rows::user(row, 0)).or_store()?;
                users.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        self.threads.read(has_users).await
    }

    async fn set_user_disabled(
        &self,
        user_id: Uuid,
        at: Option<Timestamp>,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let audit = audit.clone();
        self.threads.write(move |connection| set_user_disabled(connection, user_id, at, now, &audit)).await
    }

    async fn set_password(
        &self,
        user_id: Uuid,
        password_hash: &str,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let (hash, audit) = (password_hash.to_owned(), audit.clone());
        self.threads
            .write(move |connection| {
                let permit = audit::permit(connection, &audit)?;
                let sql = "UPDATE users SET password_hash = ?2 WHERE user_id = ?1";
                if connection.execute(sql, params![user_id.as_bytes(), hash]).or_store()? == 0 {
                    return Err(StoreError::UserGone);
                }
                delete_sessions(connection, user_id, keep)?;
                audit::append(connection, &audit, permit)
            })
            .await
    }

    async fn insert_pat(&self, pat: &PatRecord, limit: u64, audit: &AuditEntry) -> Result<(), StoreError> {
        let (pat, audit) = (pat.clone(), audit.clone());
        self.threads.write(move |connection| insert_pat(connection, &pat, limit, &audit)).await
    }

    async fn pat_by_id(&self, pat_id: Uuid) -> Result<Option<PatRecord>, StoreError> {
        let sql = format!("SELECT {PAT} FROM pats p WHERE p.pat_id = ?1");
        self.threads
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                statement.query_row([pat_id.as_bytes()], rows::pat).optional().or_store()
            })
            .await
    }

    async fn active_pats(&self, user_id: Uuid, now: Timestamp) -> Result<Vec<PatRecord>, StoreError> {
        let sql = active();
        self.threads
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let pats = statement
                    .query_map(params![user_id.as_bytes(), now.as_microsecond()], rows::pat)
                    .or_store()?;
                pats.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }

    async fn revoke_pats(
        &self,
        pats: &[Revocation],
        at: Timestamp,
        mail: bool,
    ) -> Result<Vec<Option<RevokeOutcome>>, StoreError> {
        let pats = pats.to_vec();
        self.threads.write(move |connection| revoke_pats(connection, &pats, at, mail)).await
    }

    async fn record_usage(&self, notes: &[Usage]) -> Result<(), StoreError> {
        let notes = notes.to_vec();
        self.threads.write(move |connection| record_usage(connection, &notes)).await
    }

    async fn record_calls(&self, notes: &[TokenCalls]) -> Result<(), StoreError> {
        let notes = notes.to_vec();
        self.threads.write(move |connection| record_calls(connection, &notes)).await
    }

    async fn activity(&self, pat_id: Uuid, since: Date) -> Result<KeptActivity, StoreError> {
        self.threads.read(move |connection| activity(connection, pat_id, since)).await
    }

    async fn forget_calls(&self, before: Date, limit: u64) -> Result<u64, StoreError> {
        self.threads.write(move |connection| forget_calls(connection, before, limit)).await
    }

    async fn insert_session(&self, session: &SessionRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        let (session, audit) = (session.clone(), audit.clone());
        self.threads
            .write(move |connection| {
                let permit = audit::permit(connection, &audit)?;
                if !is_enabled(connection, session.user_id)? {
                    return Err(StoreError::UserGone);
                }
                connection
                    .prepare_cached(
                        "INSERT INTO browser_sessions (digest, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
                    )
                    .or_store()?
                    .execute(params![
                        session.digest,
                        session.user_id.as_bytes(),
                        session.created_at.as_microsecond(),
                        session.expires_at.as_microsecond(),
                    ])
                    .or_store()?;
                audit::append(connection, &audit, permit)
            })
            .await
    }

    async fn session_by_digest(
        &self,
        digest: &[u8; 32],
    ) -> Result<Option<(SessionRecord, UserRecord)>, StoreError> {
        let sql = format!(
            "SELECT s.digest, s.user_id, s.created_at, s.expires_at, {USER} FROM browser_sessions s JOIN users u USING (user_id) \
             WHERE s.digest = ?1"
        );
        let digest = *digest;
        self.threads
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let found =
                    statement.query_row([digest], |row| Ok((rows::session(row)?, rows::user(row, 4)?)));
                found.optional().or_store()
            })
            .await
    }

    async fn delete_session(&self, digest: &[u8; 32], audit: &AuditEntry) -> Result<bool, StoreError> {
        let (digest, audit) = (*digest, audit.clone());
        self.threads
            .write(move |connection| {
                let permit = audit::permit(connection, &audit)?;
                let sql = "DELETE FROM browser_sessions WHERE digest = ?1";
                let was_there = connection.execute(sql, [digest]).or_store()? > 0;
                if was_there {
                    audit::append(connection, &audit, permit)?;
                }
                Ok(was_there)
            })
            .await
    }

    async fn delete_sessions_of(
        &self,
        user_id: Uuid,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<u64, StoreError> {
        let audit = audit.clone();
        self.threads
            .write(move |connection| {
                let permit = audit::permit(connection, &audit)?;
                let ended = delete_sessions(connection, user_id, keep)?;
                if ended > 0 {
                    audit::append(connection, &audit, permit)?;
                }
                Ok(ended as u64)
            })
            .await
    }

    async fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.threads
            .write(move |connection| {
                let sql = "DELETE FROM browser_sessions WHERE expires_at <= ?1";
                Ok(connection.execute(sql, [now.as_microsecond()]).or_store()? as u64)
            })
            .await
    }

    async fn log_head(&self) -> Result<u64, StoreError> {
        self.threads.read(head).await
    }

    async fn log_after(&self, seq: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.threads.read(move |connection| log_after(connection, seq)).await
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<Renewal, StoreError> {
        let (lease, boot_id) = (lease.clone(), self.boot_id.clone());
        self.threads.write(move |connection| leases::renew_lease(connection, &lease, &boot_id)).await
    }

    async fn end_lease(&self, node_id: Uuid) -> Result<(), StoreError> {
        self.threads.write(move |connection| leases::end_lease(connection, node_id)).await
    }

    async fn holders_behind(&self, seq: u64, except: Option<Uuid>) -> Result<Vec<Holder>, StoreError> {
        let boot_id = self.boot_id.clone();
        self.threads.read(move |connection| leases::holders_behind(connection, seq, except, &boot_id)).await
    }

    async fn let_go(&self, holders: &[Holder]) -> Result<(), StoreError> {
        let holders = holders.to_vec();
        self.threads.write(move |connection| leases::let_go(connection, &holders)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let boot_id = self.boot_id.clone();
        self.threads.read(move |connection| leases::nodes(connection, &boot_id)).await
    }

    async fn cuts(&self, seq: u64, except: Option<Uuid>) -> Result<Terminated, StoreError> {
        self.threads.read(move |connection| leases::cuts(connection, seq, except)).await
    }

    async fn bind_secret(&self, fingerprint: &[u8; 16]) -> Result<bool, StoreError> {
        let fingerprint = *fingerprint;
        self.threads
            .write(move |connection| {
                let sql = "INSERT INTO meta (key, value) VALUES ('secret_fingerprint', ?1) ON CONFLICT (key) DO NOTHING";
                connection.execute(sql, [fingerprint]).or_store()?;
                let sql = "SELECT value = ?1 FROM meta WHERE key = 'secret_fingerprint'";
                connection.query_row(sql, [fingerprint], |row| row.get(0)).or_store()
            })
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.threads.read(|connection| connection.query_row("SELECT 1", [], |_| Ok(())).or_store()).await
    }
}
