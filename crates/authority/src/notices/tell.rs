//! Tells the owners of tokens.

use jiff::Timestamp;
use uuid::Uuid;

use super::{NewNotice, Notice, NoticeFacts, NoticeKind};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::PatRecord;

impl NewNotice {
    /// What a token's owner is told of it: of each kind once, unless another word is given to
    /// `once`. The token's name and hint are told too.
    pub(crate) fn to_owner(pat: &PatRecord, kind: NoticeKind, facts: NoticeFacts, now: Timestamp) -> Self {
        let facts = NoticeFacts {
            pat_name: facts.pat_name.or_else(|| Some(pat.name.clone())),
            pat_hint: facts.pat_hint.or_else(|| Some(pat.hint.clone())),
            ..facts
        };
        let notice = Notice {
            notice_id: Uuid::now_v7(),
            user_id: pat.user_id,
            pat_id: Some(pat.pat_id),
            kind,
            created_at: now,
            facts,
        };
        let once = format!("{}:{}", kind.name(), pat.pat_id.simple());
        Self { notice, once, only: None }
    }
}

impl Authority {
    /// Keeps notices, and has them sent.
    pub(crate) async fn add_notices(&self, notices: &[NewNotice]) -> Result<u64, AuthorityError> {
        if notices.is_empty() {
            return Ok(0);
        }
        let new = self.store.add_notices(notices, self.has_mail()).await?;
        if new > 0 {
            self.notices.wake.notify_one();
        }
        Ok(new)
    }

    /// Tells an owner of what has happened already, and comes to nothing with it: a notice that
    /// cannot be kept is a line in the log. What happens now takes its notice along
    /// ([`Revocation`](crate::Revocation)).
    pub(crate) async fn tell(&self, new: NewNotice) {
        let (kind, pat_id) = (new.notice.kind.name(), new.notice.pat_id);
        if let Err(error) = self.add_notices(&[new]).await {
            tracing::error!(%error, ?pat_id, kind, "could not store a notice");
        }
    }
}
