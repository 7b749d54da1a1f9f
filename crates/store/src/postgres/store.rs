//! The store's methods. Each is one transaction.

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use trustrelay_authority::{
    AuditEntry, Holder, KeptActivity, Lease, LogEntry, NodeRecord, PatRecord, Renewal, Revocation,
    RevokeOutcome, SessionRecord, Store, StoreError, Terminated, TokenCalls, Usage, UserRecord,
};
use uuid::Uuid;

use super::PostgresStore;
use super::errors::Failure;
use super::link::Links;
use super::rows::{corrupt, get};
use super::{activity, leases, log, migrate, pats, sessions, users};

async fn bind_secret(links: &Links, fingerprint: &[u8; 16]) -> Result<bool, Failure> {
    let link = links.link().await?;
    let insert = link
        .prepare(
            "INSERT INTO meta (key, value) VALUES ('secret_fingerprint', $1) ON CONFLICT (key) DO NOTHING",
        )
        .await?;
    // A separate statement, so that a concurrent binding is committed by then.
    let same = link.prepare("SELECT value = $1 FROM meta WHERE key = 'secret_fingerprint'").await?;
    let fingerprint = &fingerprint[..];
    link.count(&insert, &[&fingerprint]).await?;
    let row = link.row(&same, &[&fingerprint]).await?;
    let same = get(&row.ok_or_else(|| corrupt("the secret was not bound"))?, 0)?;
    Ok(link.keep(same))
}

#[async_trait]
impl Store for PostgresStore {
    async fn insert_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        self.links.run(|| users::insert(&self.links, user, audit)).await
    }

    async fn insert_first_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<bool, StoreError> {
        self.links.run(|| users::insert_first(&self.links, user, audit)).await
    }

    async fn user_by_id(&self, user_id: Uuid) -> Result<Option<UserRecord>, StoreError> {
        self.links.run(|| users::by_id(&self.links, user_id)).await
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<UserRecord>, StoreError> {
        self.links.run(|| users::by_email(&self.links, email)).await
    }

    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError> {
        self.links.run(|| users::list(&self.links)).await
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        self.links.run(|| users::exist(&self.links)).await
    }

    async fn set_user_disabled(
        &self,
        user_id: Uuid,
        at: Option<Timestamp>,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.links.run(|| users::set_disabled(&self.links, user_id, at, now, audit)).await
    }

    async fn set_password(
        &self,
        user_id: Uuid,
        password_hash: &str,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        self.links.run(|| users::set_password(&self.links, user_id, password_hash, keep, audit)).await
    }

    async fn insert_pat(&self, pat: &PatRecord, limit: u64, audit: &AuditEntry) -> Result<(), StoreError> {
        self.links.run(|| pats::insert(&self.links, pat, limit, audit)).await
    }

    async fn pat_by_id(&self, pat_id: Uuid) -> Result<Option<PatRecord>, StoreError> {
        self.links.run(|| pats::by_id(&self.links, pat_id)).await
    }

    async fn active_pats(&self, user_id: Uuid, now: Timestamp) -> Result<Vec<PatRecord>, StoreError> {
        self.links.run(|| pats::active(&self.links, user_id, now)).await
    }

    async fn revoke_pats(
        &self,
        pats: &[Revocation],
        at: Timestamp,
        mail: bool,
    ) -> Result<Vec<Option<RevokeOutcome>>, StoreError> {
        self.links.run(|| pats::revoke(&self.links, pats, at, mail)).await
    }

    async fn record_usage(&self, notes: &[Usage]) -> Result<(), StoreError> {
        self.links.run(|| pats::record_usage(&self.links, notes)).await
    }

    async fn record_calls(&self, notes: &[TokenCalls]) -> Result<(), StoreError> {
        self.links.run(|| activity::record(&self.links, notes)).await
    }

    async fn activity(&self, pat_id: Uuid, since: Date) -> Result<KeptActivity, StoreError> {
        self.links.run(|| activity::read(&self.links, pat_id, since)).await
    }

    async fn forget_calls(&self, before: Date, limit: u64) -> Result<u64, StoreError> {
        self.links.run(|| activity::forget(&self.links, before, limit)).await
    }

    async fn insert_session(&self, session: &SessionRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        self.links.run(|| sessions::insert(&self.links, session, audit)).await
    }

    async fn session_by_digest(
        &self,
        digest: &[u8; 32],
    ) -> Result<Option<(SessionRecord, UserRecord)>, StoreError> {
        self.links.run(|| sessions::by_digest(&self.links, digest)).await
    }

    async fn delete_session(&self, digest: &[u8; 32], audit: &AuditEntry) -> Result<bool, StoreError> {
        self.links.run(|| sessions::delete(&self.links, digest, audit)).await
    }

    async fn delete_sessions_of(
        &self,
        user_id: Uuid,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<u64, StoreError> {
        self.links.run(|| sessions::delete_of(&self.links, user_id, keep, audit)).await
    }

    async fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.links.run(|| sessions::delete_expired(&self.links, now)).await
    }

    async fn log_head(&self) -> Result<u64, StoreError> {
        self.links.run(|| log::head(&self.links)).await
    }

    async fn log_after(&self, seq: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.links.run(|| log::read(&self.links, seq)).await
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<Renewal, StoreError> {
        self.lease_links.once(leases::renew(&self.lease_links, lease)).await
    }

    async fn end_lease(&self, node_id: Uuid) -> Result<(), StoreError> {
        self.links.run(|| leases::end(&self.links, node_id)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.links.run(|| leases::list(&self.links)).await
    }

    async fn cuts(&self, seq: u64, except: Option<Uuid>) -> Result<Terminated, StoreError> {
        self.links.run(|| leases::cuts(&self.links, seq, except)).await
    }

    async fn log_grew(&self) {
        self.ear.hear().await;
    }

    async fn holders_behind(&self, seq: u64, except: Option<Uuid>) -> Result<Vec<Holder>, StoreError> {
        self.links.run(|| leases::behind(&self.links, seq, except)).await
    }

    async fn let_go(&self, holders: &[Holder]) -> Result<(), StoreError> {
        self.links.run(|| leases::let_go(&self.links, holders)).await
    }

    async fn bind_secret(&self, fingerprint: &[u8; 16]) -> Result<bool, StoreError> {
        self.links.run(|| bind_secret(&self.links, fingerprint)).await
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        self.lease_links.once(leases::clock(&self.lease_links)).await.map(Some)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.links.run(|| migrate::is_current(&self.links)).await
    }
}
