//! Webhooks: add, list, remove, try.
//!
//! A token changes none of them, whatever it may do: who has stolen one must not be able to silence
//! what its owner is told.

use jiff::Timestamp;
use trustrelay_token::{Principal, Scope};
use uuid::Uuid;

use super::{
    Claim, Courier, NewNotice, Notice, NoticeFacts, NoticeKind, Outcome, Undelivered, WebhookRecord,
    WebhookSecret,
};
use crate::audit::{AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;

/// Most webhooks of one account, and most for all accounts: a notice is twenty requests at most.
pub const MAX_WEBHOOKS: u64 = 10;
/// From one try of a webhook to the next: whoever could try faster would have us call somebody for
/// him.
const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_secs(5);

/// Whose notices are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The caller's.
    Own,
    /// Everybody's: for administrators.
    Everybody,
}

/// A new webhook: the one time that its secret is shown.
#[derive(Debug)]
pub struct AddedWebhook {
    /// What is kept of it.
    pub record: WebhookRecord,
    /// What its requests are signed with.
    pub secret: WebhookSecret,
}

/// How a try of a webhook went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestedWebhook {
    /// The notice that was sent.
    pub notice_id: Uuid,
    /// What was wrong; `None`: it has arrived.
    pub error: Option<String>,
}

impl Authority {
    /// Whose notices the caller may see: its own, or, as an administrator, everybody's. A token
    /// needs `api:read`.
    pub(super) fn may_see(&self, by: &Principal, whose: Whose) -> Result<Option<Uuid>, AuthorityError> {
        self.require(by, &Scope::ApiRead)?;
        match whose {
            Whose::Own => Ok(Some(by.user_id)),
            Whose::Everybody if by.is_admin() => Ok(None),
            Whose::Everybody => Err(AuthorityError::NotAdministrator),
        }
    }

    /// The same for changes, which need a browser session.
    fn may_change(&self, by: &Principal, whose: Whose) -> Result<Option<Uuid>, AuthorityError> {
        let of = self.may_see(by, whose)?;
        if by.pat_id().is_some() {
            return Err(AuthorityError::SessionOnly(
                "webhooks cannot be managed with a token, so that a stolen token cannot silence its owner's notices; sign in with a browser instead",
            ));
        }
        Ok(of)
    }

    /// The webhooks that get the caller's notices, or everybody's, oldest first.
    pub async fn webhooks(&self, by: &Principal, whose: Whose) -> Result<Vec<WebhookRecord>, AuthorityError> {
        let of = self.may_see(by, whose)?;
        Ok(self.store.webhooks(of).await?)
    }

    /// Adds a webhook.
    pub async fn add_webhook(
        &self,
        by: &By,
        whose: Whose,
        url: &str,
    ) -> Result<AddedWebhook, AuthorityError> {
        let user_id = self.may_change(by, whose)?;
        let checked = self.courier().check_webhook(url.trim()).map_err(|why| AuthorityError::Invalid {
            field: "url",
            message: format!("`url`: the webhook's URL {why}"),
        })?;
        let Some(key) = self.webhook_keys.first() else {
            return Err(AuthorityError::Internal("no server secret".into()));
        };
        let now = self.clock.now();
        let webhook_id = Uuid::now_v7();
        let record = WebhookRecord {
            webhook_id,
            user_id,
            url: checked.url,
            origin: checked.origin,
            key_id: key.id(),
            created_at: now,
        };
        let audit = about(now, by, "webhook.added", &record);
        self.store.insert_webhook(&record, MAX_WEBHOOKS, &audit).await?;
        tracing::info!(%webhook_id, everybody = user_id.is_none(), "added a webhook");
        Ok(AddedWebhook { secret: key.secret_of(webhook_id), record })
    }

    /// Removes a webhook. What is pending for it is given up.
    pub async fn remove_webhook(
        &self,
        by: &By,
        whose: Whose,
        webhook_id: Uuid,
    ) -> Result<(), AuthorityError> {
        let record = self.webhook_to_change(by, whose, webhook_id).await?;
        let now = self.clock.now();
        let audit = about(now, by, "webhook.removed", &record);
        match self.store.delete_webhook(webhook_id, now, &audit).await? {
            true => Ok(()),
            false => Err(AuthorityError::NotFound("webhook")),
        }
    }

    /// Sends a notice to a webhook at once, so that its owner sees whether it arrives. If it does
    /// not, it is tried again like any other.
    pub async fn test_webhook(
        &self,
        by: &By,
        whose: Whose,
        webhook_id: Uuid,
    ) -> Result<TestedWebhook, AuthorityError> {
        let record = self.webhook_to_change(by, whose, webhook_id).await?;
        self.notices.may_test(webhook_id, self.clock.since_boot(), BETWEEN_TRIES)?;
        let now = self.clock.now();
        let notice_id = Uuid::now_v7();
        let notice = Notice {
            notice_id,
            user_id: by.user_id,
            pat_id: None,
            kind: NoticeKind::Test,
            created_at: now,
            facts: NoticeFacts::default(),
        };
        let once = format!("test:{}", notice_id.simple());
        self.store.add_notices(&[NewNotice { notice, once, only: Some(webhook_id) }], false).await?;
        self.store.append_audit(&[about(now, by, "webhook.tested", &record)]).await?;
        let claim =
            Claim { now, until: now + super::dispatch::CLAIMED, limit: 1, notice_id: Some(notice_id) };
        let mut error = None;
        // If a node was quicker than we are, it is on its way.
        for delivery in self.store.claim_deliveries(&claim).await? {
            error = match self.attempt(delivery).await {
                Outcome::Done => None,
                Outcome::Later { error, .. } | Outcome::Failed(error) => Some(error),
            };
        }
        Ok(TestedWebhook { notice_id, error })
    }

    async fn webhook_to_change(
        &self,
        by: &Principal,
        whose: Whose,
        webhook_id: Uuid,
    ) -> Result<WebhookRecord, AuthorityError> {
        let of = self.may_change(by, whose)?;
        let webhooks = self.store.webhooks(of).await?;
        let found = webhooks.into_iter().find(|webhook| webhook.webhook_id == webhook_id);
        found.ok_or(AuthorityError::NotFound("webhook"))
    }

    /// The secret of a webhook, if the server secret that it is derived from is still there.
    pub(super) fn webhook_secret(&self, webhook: &WebhookRecord) -> Result<WebhookSecret, Undelivered> {
        let key = self.webhook_keys.iter().find(|key| key.id() == webhook.key_id);
        key.map(|key| key.secret_of(webhook.webhook_id)).ok_or_else(|| {
            Undelivered::ForGood(
                "the signing secret was created with a server secret that is no longer in use; remove the webhook and add it again"
                    .into(),
            )
        })
    }

    /// Who carries notices.
    pub(super) fn courier(&self) -> &dyn Courier {
        self.courier.get().map_or(&super::Nobody, |courier| &**courier)
    }
}

fn about(now: Timestamp, by: &By, action: &'static str, webhook: &WebhookRecord) -> AuditEntry {
    let actor = if webhook.user_id.is_some() { by.actor() } else { by.administrator() };
    let entry = AuditEntry::new(now, actor, action)
        .with("webhook_id", webhook.webhook_id)
        .with("origin", &webhook.origin);
    match webhook.user_id {
        Some(user_id) => entry.of_user(user_id),
        None => entry.with("whose", "everybody"),
    }
}
