//! The use of a secret that its token had before, after its end: a sign of a leak.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;
use trustrelay_token::TokenDigest;

use crate::audit::Actor;
use crate::authority::Authority;
use crate::notices::{NewNotice, NoticeFacts, NoticeKind};
use crate::recent::Recent;
use crate::record::PatRecord;

/// How many retired secrets are remembered as used lately: at some 160 bytes each, 1.6 MB. Past
/// that the oldest is forgotten, which costs one write more: rotating a token and using its retired
/// secrets must not keep the leak of another token quiet.
pub(crate) const MAX_USES: usize = 10_000;
/// For how long the store is not asked again about the same.
const NEWS: Duration = Duration::from_secs(3600);

/// The retired secrets that were used lately, so that a flood of them costs no writes.
pub(crate) struct RetiredUses(Mutex<Recent<TokenDigest, ()>>);

impl Default for RetiredUses {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MAX_USES)))
    }
}

impl RetiredUses {
    pub(crate) fn is_news(&self, digest: &TokenDigest, now: Duration) -> bool {
        let mut uses = self.0.lock();
        let is_news = uses.since(digest).is_none_or(|at| now.saturating_sub(at) >= NEWS);
        if is_news {
            uses.insert(*digest, (), now);
        }
        is_news
    }

    fn forget(&self, digest: &TokenDigest) {
        self.0.lock().remove(digest);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Authority {
    /// A secret was used after its end: somebody has a copy of it, or forgot to replace it. Its
    /// owner is told once a day.
    pub(crate) async fn note_retired_use(
        self: &Arc<Self>,
        pat: &PatRecord,
        digest: &TokenDigest,
        hint: &str,
        address: Option<IpAddr>,
    ) {
        let (now, since_boot) = (self.clock.now(), self.clock.since_boot());
        if !self.retired_uses.is_news(digest, since_boot) {
            return;
        }
        let Ok(since) = now.checked_sub(SignedDuration::from_hours(24)) else { return };
        let facts = NoticeFacts {
            pat_hint: Some(hint.to_owned()),
            seen_at: address.map(|address| address.to_string()),
            ..NoticeFacts::default()
        };
        let once = format!("retired_secret_used {} {now}", pat.pat_id);
        let new = NewNotice { once, ..NewNotice::to_owner(pat, NoticeKind::RetiredSecretUsed, facts, now) };
        let (me, pat, digest) = (Arc::clone(self), pat.clone(), *digest);
        // A task of its own: who has used it may hang up at once, so that nobody is told.
        let noted = tokio::spawn(async move {
            match me.store.note_retired_use(&digest, since, &new, me.has_mail()).await {
                Ok(true) => {
                    me.notices.wake.notify_one();
                    tracing::warn!(pat_id = %pat.pat_id, "an old secret of a token was used; it may have leaked");
                    let (actor, details) = (Actor::anonymous(address), [("name", pat.name.as_str())]);
                    let (user_id, pat_id) = (Some(pat.user_id), Some(pat.pat_id));
                    me.note_refusal("refused.retired_secret", actor, user_id, pat_id, &details);
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, pat_id = %pat.pat_id, "could not record the use of an old secret; the next use will be recorded");
                    me.retired_uses.forget(&digest);
                }
            }
        });
        if noted.await.is_err() {
            tracing::error!("could not record the use of an old secret");
        }
    }
}
