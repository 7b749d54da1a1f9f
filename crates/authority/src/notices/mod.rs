//! Notices: what the owners of tokens are told, once, and how it reaches them.
//!
//! A notice is kept first, with a delivery for each place that it goes to, in one transaction. Any
//! node then claims what is due, tries it, and writes down how that went: a node that dies in
//! between leaves a claim that runs out, and another tries again. So a notice is made once and
//! arrives at least once.

mod backoff;
mod courier;
mod dispatch;
mod list;
mod record;
mod sweep;
mod tell;
mod webhooks;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::audit::AuditEntry;
use crate::record::PatRecord;
use crate::store::StoreError;

pub use courier::{CheckedUrl, Courier, Nobody, Outgoing, To, Undelivered, WebhookSecret};
pub(crate) use dispatch::{Dispatch, keep_notices};
pub use list::MAX_NOTICES_LISTED;
pub use record::{
    Channel, Claim, Delivery, DeliveryRecord, DeliveryState, Expiring, NewNotice, Notice, NoticeFacts,
    NoticeKind, Outcome, Target, ToldNotice, WebhookRecord, once_for_end,
};
pub use sweep::{DUE_SOON_DAYS, is_due_soon};
pub use webhooks::{AddedWebhook, MAX_WEBHOOKS, TestedWebhook, Whose};

/// Keeps notices, deliveries and webhooks. As in [`Store`](crate::Store), each method is one
/// transaction, and what takes an [`AuditEntry`] appends it if it changes anything.
#[async_trait]
pub trait NoticeStore: Send + Sync + 'static {
    /// Adds a webhook. In the same transaction: its account, if it is one account's, must be there
    /// and not disabled ([`StoreError::UserGone`]), and there must be fewer than `limit` of the
    /// same account, or for all ([`StoreError::TooManyWebhooks`]).
    async fn insert_webhook(
        &self,
        webhook: &WebhookRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError>;
    /// The webhooks of an account, or those for all accounts (`None`), oldest first.
    async fn webhooks(&self, user_id: Option<Uuid>) -> Result<Vec<WebhookRecord>, StoreError>;
    /// Removes a webhook, and gives up what is pending for it; whether there was one.
    async fn delete_webhook(
        &self,
        webhook_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;

    /// Tokens that are not revoked, whose owners are not disabled, and that lack a notice of their
    /// end; at most `limit`, those that expire first.
    async fn expiring(&self, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, StoreError>;
    /// Keeps notices, each with a delivery, due at once, for each place that it goes to: by mail if
    /// `mail` says so, and to the webhooks of its account and for all. What was told before, by
    /// [`NewNotice::once`], is passed over, and so is who is not there or disabled. How many are
    /// new.
    async fn add_notices(&self, notices: &[NewNotice], mail: bool) -> Result<u64, StoreError>;
    /// Claims deliveries that are pending and due: nobody else gets them until the claim runs out.
    async fn claim_deliveries(&self, claim: &Claim) -> Result<Vec<Delivery>, StoreError>;
    /// Writes down how a try went, if the claim still is the last; whether it was.
    async fn finish_delivery(
        &self,
        delivery_id: Uuid,
        attempt: u32,
        at: Timestamp,
        outcome: &Outcome,
    ) -> Result<bool, StoreError>;
    /// An account's notices, or everybody's (`None`), newest first (by id), at most `limit`;
    /// `before`: from the one before this on.
    async fn notices(
        &self,
        user_id: Option<Uuid>,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<ToldNotice>, StoreError>;
    /// Forgets notices that were made before a time, with their deliveries, at most `limit`; how
    /// many.
    async fn forget_notices(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError>;

    /// For each of these times, how many tokens are active at `now` and expire by then.
    async fn pats_by_end(&self, now: Timestamp, ends: &[Timestamp]) -> Result<Vec<u64>, StoreError>;
}
