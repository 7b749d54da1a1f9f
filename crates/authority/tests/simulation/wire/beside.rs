//! What is beside the story: it goes the same way, and mostly straight through.

use std::num::NonZeroU16;

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_authority::*;
use uuid::Uuid;

use super::Wire;

#[async_trait]
impl AuditStore for Wire {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.store().append_audit(entries).await
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        self.store().audit_after(seq, limit).await
    }

    async fn audit_page(&self, look: &AuditLook) -> Result<Vec<AuditRecord>, StoreError> {
        self.store().audit_page(look).await
    }

    async fn audit_ends(&self) -> Result<AuditEnds, StoreError> {
        self.store().audit_ends().await
    }

    async fn seal_audit(&self, seal: &AuditSeal) -> Result<(), StoreError> {
        self.store().seal_audit(seal).await
    }

    async fn audit_seals(&self, seq: u64, limit: u64) -> Result<Vec<AuditSeal>, StoreError> {
        self.store().audit_seals(seq, limit).await
    }

    async fn cut_audit(&self, before: Timestamp, limit: u64, entry: &AuditEntry) -> Result<u64, StoreError> {
        self.store().cut_audit(before, limit, entry).await
    }
}

#[async_trait]
impl NoticeStore for Wire {
    async fn insert_webhook(
        &self,
        webhook: &WebhookRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        self.store().insert_webhook(webhook, limit, audit).await
    }

    async fn webhooks(&self, user_id: Option<Uuid>) -> Result<Vec<WebhookRecord>, StoreError> {
        self.store().webhooks(user_id).await
    }

    async fn delete_webhook(
        &self,
        webhook_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.store().delete_webhook(webhook_id, at, audit).await
    }

    async fn expiring(&self, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, StoreError> {
        self.store().expiring(lacking, limit).await
    }

    async fn add_notices(&self, notices: &[NewNotice], mail: bool) -> Result<u64, StoreError> {
        self.store().add_notices(notices, mail).await
    }

    async fn claim_deliveries(&self, claim: &Claim) -> Result<Vec<Delivery>, StoreError> {
        self.store().claim_deliveries(claim).await
    }

    async fn finish_delivery(
        &self,
        delivery_id: Uuid,
        attempt: u32,
        at: Timestamp,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        self.store().finish_delivery(delivery_id, attempt, at, outcome).await
    }

    async fn notices(
        &self,
        user_id: Option<Uuid>,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<ToldNotice>, StoreError> {
        self.store().notices(user_id, before, limit).await
    }

    async fn forget_notices(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.store().forget_notices(before, limit).await
    }

    async fn pats_by_end(&self, now: Timestamp, ends: &[Timestamp]) -> Result<Vec<u64>, StoreError> {
        self.store().pats_by_end(now, ends).await
    }
}

#[async_trait]
impl KeyStore for Wire {
    async fn replace_secret(
        &self,
        old: &[u8; 16],
        new: &[u8; 16],
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.carry(self.store().replace_secret(old, new, audit)).await
    }

    async fn rekey_pat(&self, rekey: &Rekey) -> Result<RekeyOutcome, StoreError> {
        self.carry(self.store().rekey_pat(rekey)).await
    }

    async fn key_counts(&self, now: Timestamp) -> Result<Vec<KeyCount>, StoreError> {
        self.carry(self.store().key_counts(now)).await
    }
}

#[async_trait]
impl AdminStore for Wire {
    async fn change_user(
        &self,
        user_id: Uuid,
        change: &UserChange,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.change(self.store().change_user(user_id, change, now, audit)).await
    }

    async fn insert_invite(
        &self,
        invite: &InviteRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        self.store().insert_invite(invite, limit, audit).await
    }

    async fn invite_by_digest(&self, digest: &[u8; 32]) -> Result<Option<InviteRecord>, StoreError> {
        self.store().invite_by_digest(digest).await
    }

    async fn invites(&self, now: Timestamp) -> Result<Vec<InviteRecord>, StoreError> {
        self.store().invites(now).await
    }

    async fn delete_invite(&self, invite_id: Uuid, audit: &AuditEntry) -> Result<bool, StoreError> {
        self.store().delete_invite(invite_id, audit).await
    }

    async fn accept_invite(
        &self,
        digest: &[u8; 32],
        user: &UserRecord,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.store().accept_invite(digest, user, audit).await
    }

    async fn search_users(
        &self,
        filter: &UserFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<UserPage, StoreError> {
        self.store().search_users(filter, after, limit, now).await
    }

    async fn search_pats(
        &self,
        filter: &PatFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<PatPage, StoreError> {
        self.store().search_pats(filter, after, limit, now).await
    }

    async fn count_pats(&self, filter: &PatFilter, most: u64, now: Timestamp) -> Result<u64, StoreError> {
        self.store().count_pats(filter, most, now).await
    }
}

#[async_trait]
impl UnusedStore for Wire {
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        of_all: Option<NonZeroU16>,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError> {
        self.carry(self.store().unused_pats(now, by, of_all, limit)).await
    }
}

#[async_trait]
impl PolicyStore for Wire {
    async fn policy(&self) -> Result<PolicyRecord, StoreError> {
        self.carry(self.store().policy()).await
    }

    async fn set_policy(
        &self,
        policy: &Policy,
        replaces: u64,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.change(self.store().set_policy(policy, replaces, now, audit)).await
    }
}
