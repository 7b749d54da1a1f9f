//! List: notices, and how they reached people.

use trustrelay_token::Principal;
use uuid::Uuid;

use super::{NoticeFacts, ToldNotice, Whose};
use crate::authority::Authority;
use crate::error::AuthorityError;

/// Most notices in one answer: with twenty-one deliveries each, at some 250 bytes, 500 KiB.
pub const MAX_NOTICES_LISTED: u64 = 100;

impl Authority {
    /// The caller's notices, or everybody's, newest first, at most `limit` ([`MAX_NOTICES_LISTED`]
    /// at most); `before`: from the one before this on. What goes to webhooks for all accounts is
    /// shown to administrators who ask for everybody's.
    pub async fn notices(
        &self,
        by: &Principal,
        whose: Whose,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<ToldNotice>, AuthorityError> {
        let of = self.may_see(by, whose)?;
        let mut told = self.store.notices(of, before, limit.min(MAX_NOTICES_LISTED)).await?;
        if whose == Whose::Own {
            told.iter_mut().for_each(|one| one.deliveries.retain(|delivery| !delivery.is_shared));
        }
        // Of other tokens a token without `tokens` learns neither name and hint nor where they
        // leaked.
        if let Some(own) = by.pat_id_without_tokens() {
            let of_others = told.iter_mut().filter(|one| one.notice.pat_id != Some(own));
            of_others.for_each(|one| one.notice.facts = NoticeFacts::default());
        }
        Ok(told)
    }

    /// Whether notices go by mail.
    pub fn has_mail(&self) -> bool {
        self.courier().has_mail()
    }
}
