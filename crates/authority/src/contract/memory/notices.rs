//! The notices of the store in memory.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::{append, permit};
use super::{Data, MemoryStore, is_active};
use crate::audit::AuditEntry;
use crate::notices::{
    Channel, Claim, Delivery, DeliveryRecord, DeliveryState, Expiring, NewNotice, NoticeStore, Outcome,
    Target, ToldNotice, WebhookRecord, once_for_end,
};
use crate::record::PatRecord;
use crate::store::StoreError;

#[derive(Default)]
pub(super) struct Notices {
    pub(super) webhooks: Vec<WebhookRecord>,
    told: Vec<NewNotice>,
    /// With the notice that each is of.
    deliveries: Vec<(Uuid, DeliveryRecord)>,
}

/// Keeps a notice; whether it is new.
pub(super) fn add(data: &mut Data, one: &NewNotice, mail: bool) -> bool {
    let user_id = one.notice.user_id;
    let user = data.users.iter().find(|user| user.user_id == user_id && user.disabled_at.is_none());
    let Some(user) = user else { return false };
    if data.notices.told.iter().any(|told| told.once == one.once) {
        return false;
    }
    let delivery = |channel, webhook: Option<&WebhookRecord>, target: &str| DeliveryRecord {
        delivery_id: Uuid::now_v7(),
        channel,
        webhook_id: webhook.map(|webhook| webhook.webhook_id),
        is_shared: webhook.is_some_and(|webhook| webhook.user_id.is_none()),
        target: target.to_owned(),
        attempts: 0,
        next_at: one.notice.created_at,
        state: DeliveryState::Pending,
        error: None,
        done_at: None,
    };
    let by_mail = (mail && one.only.is_none()).then(|| delivery(Channel::Mail, None, &user.email));
    let by_webhook = data
        .notices
        .webhooks
        .iter()
        .filter(|webhook| match one.only {
            Some(only) => webhook.webhook_id == only,
            None => webhook.user_id.is_none_or(|of| of == user_id),
        })
        .map(|webhook| delivery(Channel::Webhook, Some(webhook), &webhook.origin));
    let all: Vec<_> =
        by_mail.into_iter().chain(by_webhook).map(|delivery| (one.notice.notice_id, delivery)).collect();
    data.notices.deliveries.extend(all);
    data.notices.told.push(one.clone());
    true
}

#[async_trait]
impl NoticeStore for MemoryStore {
    async fn insert_webhook(
        &self,
        webhook: &WebhookRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let is_enabled = |id| data.users.iter().any(|user| user.user_id == id && user.disabled_at.is_none());
        if !webhook.user_id.is_none_or(is_enabled) {
            return Err(StoreError::UserGone);
        }
        let there =
            data.notices.webhooks.iter().filter(|other| other.user_id == webhook.user_id).count() as u64;
        if there >= limit {
            return Err(StoreError::TooManyWebhooks(there));
        }
        data.notices.webhooks.push(webhook.clone());
        append(&mut data, audit)
    }

    async fn webhooks(&self, user_id: Option<Uuid>) -> Result<Vec<WebhookRecord>, StoreError> {
        let mut webhooks = self.data()?.notices.webhooks.clone();
        webhooks.retain(|webhook| webhook.user_id == user_id);
        webhooks.sort_by_key(|webhook| (webhook.created_at, webhook.webhook_id));
        Ok(webhooks)
    }

    async fn delete_webhook(
        &self,
        webhook_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let before = data.notices.webhooks.len();
        data.notices.webhooks.retain(|webhook| webhook.webhook_id != webhook_id);
        if data.notices.webhooks.len() == before {
            return Ok(false);
        }
        for (_, delivery) in &mut data.notices.deliveries {
            if delivery.webhook_id == Some(webhook_id) && delivery.state == DeliveryState::Pending {
                delivery.state = DeliveryState::Failed;
                delivery.error = Some("the webhook was removed".into());
                delivery.done_at = Some(at);
            }
        }
        append(&mut data, audit)?;
        Ok(true)
    }

    async fn expiring(&self, lacking: &Expiring, limit: u64) -> Result<Vec<PatRecord>, StoreError> {
        let data = self.data()?;
        let lives = |pat: &PatRecord| pat.expires_at.as_microsecond() - pat.created_at.as_microsecond();
        let mut pats: Vec<_> = data
            .pats
            .iter()
            .filter(|pat| is_active(pat, lacking.after) && pat.expires_at <= lacking.until)
            .filter(|pat| lives(pat) > lacking.made_before)
            .filter(|pat| {
                data.users.iter().any(|user| user.user_id == pat.user_id && user.disabled_at.is_none())
            })
            .filter(|pat| {
                let once = once_for_end(lacking.kind, pat.pat_id, pat.expires_at);
                !data.notices.told.iter().any(|told| told.once == once)
            })
            .cloned()
            .collect();
        pats.sort_by_key(|pat| (pat.expires_at, pat.pat_id));
        pats.truncate(limit as usize);
        Ok(pats)
    }

    async fn add_notices(&self, notices: &[NewNotice], mail: bool) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        Ok(notices.iter().map(|one| u64::from(add(&mut data, one, mail))).sum())
    }

    async fn claim_deliveries(&self, claim: &Claim) -> Result<Vec<Delivery>, StoreError> {
        let mut data = self.data()?;
        let data = &mut *data;
        let mut due: Vec<_> = data
            .notices
            .deliveries
            .iter_mut()
            .filter(|(_, delivery)| delivery.state == DeliveryState::Pending && delivery.next_at <= claim.now)
            .filter(|(notice_id, _)| claim.notice_id.is_none_or(|only| *notice_id == only))
            .collect();
        due.sort_by_key(|(_, delivery)| (delivery.next_at, delivery.delivery_id));
        due.truncate(claim.limit as usize);
        let claimed = due.into_iter().map(|(notice_id, delivery)| {
            delivery.next_at = claim.until;
            delivery.attempts += 1;
            let told =
                data.notices.told.iter().find(|told| told.notice.notice_id == *notice_id).expect("told");
            let user = data.users.iter().find(|user| user.user_id == told.notice.user_id).expect("owner");
            let webhook =
                data.notices.webhooks.iter().find(|webhook| Some(webhook.webhook_id) == delivery.webhook_id);
            let target = match (delivery.channel, webhook) {
                (Channel::Mail, _) => Target::Mail(delivery.target.clone()),
                (Channel::Webhook, Some(webhook)) => Target::Webhook(webhook.clone()),
                (Channel::Webhook, None) => Target::Gone,
            };
            Delivery {
                delivery_id: delivery.delivery_id,
                attempt: delivery.attempts,
                notice: told.notice.clone(),
                email: user.email.clone(),
                target,
            }
        });
        Ok(claimed.collect())
    }

    async fn finish_delivery(
        &self,
        delivery_id: Uuid,
        attempt: u32,
        at: Timestamp,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        let claimed = data.notices.deliveries.iter_mut().map(|(_, delivery)| delivery).find(|delivery| {
            delivery.delivery_id == delivery_id
                && delivery.attempts == attempt
                && delivery.state == DeliveryState::Pending
        });
        let Some(delivery) = claimed else { return Ok(false) };
        match outcome {
            Outcome::Done => (delivery.state, delivery.error) = (DeliveryState::Done, None),
            Outcome::Failed(error) => {
                (delivery.state, delivery.error) = (DeliveryState::Failed, Some(error.clone()));
            }
            Outcome::Later { next_at, error } => {
                (delivery.next_at, delivery.error) = (*next_at, Some(error.clone()));
                return Ok(true);
            }
        }
        delivery.done_at = Some(at);
        Ok(true)
    }

    async fn notices(
        &self,
        user_id: Option<Uuid>,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<ToldNotice>, StoreError> {
        let data = self.data()?;
        let mut told: Vec<_> = data
            .notices
            .told
            .iter()
            .map(|told| &told.notice)
            .filter(|notice| user_id.is_none_or(|of| notice.user_id == of))
            .filter(|notice| before.is_none_or(|before| notice.notice_id < before))
            .map(|notice| {
                let user = data.users.iter().find(|user| user.user_id == notice.user_id).expect("owner");
                let of = data.notices.deliveries.iter().filter(|(of, _)| *of == notice.notice_id);
                let mut deliveries: Vec<_> = of.map(|(_, delivery)| delivery.clone()).collect();
                deliveries.sort_by(|a, b| {
                    let key = |one: &DeliveryRecord| (one.channel, one.target.clone(), one.delivery_id);
                    key(a).cmp(&key(b))
                });
                ToldNotice { notice: notice.clone(), email: user.email.clone(), deliveries }
            })
            .collect();
        told.sort_by_key(|told| std::cmp::Reverse(told.notice.notice_id));
        told.truncate(limit as usize);
        Ok(told)
    }

    async fn forget_notices(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let notices = &mut data.notices;
        let old = notices.told.iter().map(|told| &told.notice).filter(|notice| notice.created_at < before);
        let old: Vec<_> = old.map(|notice| notice.notice_id).take(limit as usize).collect();
        notices.told.retain(|told| !old.contains(&told.notice.notice_id));
        notices.deliveries.retain(|(of, _)| !old.contains(of));
        Ok(old.len() as u64)
    }

    async fn pats_by_end(&self, now: Timestamp, ends: &[Timestamp]) -> Result<Vec<u64>, StoreError> {
        let data = self.data()?;
        let count = |end: &Timestamp| {
            data.pats.iter().filter(|pat| is_active(pat, now) && pat.expires_at <= *end).count() as u64
        };
        Ok(ends.iter().map(count).collect())
    }
}
