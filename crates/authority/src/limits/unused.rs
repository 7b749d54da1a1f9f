//! Tokens that nobody uses end, if they are held to being used.

use std::num::NonZeroU16;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::audit::{Actor, AuditEntry};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::notices::{NewNotice, NoticeFacts, NoticeKind};
use crate::record::PatRecord;
use crate::store::{Revocation, StoreError};

/// How much longer than its days a token is left alone: another node may have noted a use that it
/// could not write down yet. A node that cannot reach the store for longer than its lease accepts
/// nothing, so an hour is ample.
const SLACK: Duration = Duration::from_secs(3600);
/// How many are looked for at a time: at some 600 bytes each, 60 KB.
const BATCH: u64 = 100;

/// Knows which tokens are not used.
#[async_trait]
pub trait UnusedStore: Send + Sync + 'static {
    /// Tokens that are neither revoked nor expired at `now` and are held to being used, whose days
    /// had gone by at `by`: since their last use, or, of those that never were used, since they
    /// were made. A token's days are its own or, if they are fewer, those `of_all`. A token that
    /// was made with them counts for them: as long as it is used, so are they. Those first whose
    /// days went by first, to the day; at most `limit`.
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        of_all: Option<NonZeroU16>,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError>;
}

/// The end of a token, under a policy of so many days.
fn unused_end(pat: &PatRecord, of_all: Option<NonZeroU16>, now: Timestamp) -> Revocation {
    let audit = AuditEntry::new(now, Actor::SYSTEM, "token.unused").of_user(pat.user_id).of_pat(pat.pat_id);
    let own = pat.limits.as_ref().and_then(|limits| limits.unused_days);
    let unused_days = own.into_iter().chain(of_all).min().map(NonZeroU16::get);
    let facts = NoticeFacts { unused_days, ..NoticeFacts::default() };
    Revocation {
        pat_id: pat.pat_id,
        audit: audit.with("name", &pat.name),
        notice: Some(NewNotice::to_owner(pat, NoticeKind::UnusedEnded, facts, now)),
    }
}

impl Authority {
    /// Ends the tokens that were not used for as many days as they may; how many. Any node may do
    /// so at any time.
    pub async fn end_unused(&self) -> Result<usize, AuthorityError> {
        let by = self
            .clock
            .now()
            .checked_sub(SLACK)
            .map_err(|error| AuthorityError::Internal(error.to_string()))?;
        let mut ended = 0;
        // What this node has noted counts, whatever the slack.
        self.flush_usage().await;
        loop {
            // Each time anew: what was decided meanwhile holds.
            let (now, of_all) = (self.clock.now(), self.store.policy().await?.policy.unused_days);
            let unused = self.store.unused_pats(now, by, of_all, BATCH).await?;
            let revocations: Vec<_> = unused.iter().map(|pat| unused_end(pat, of_all, now)).collect();
            let (outcomes, _) = self.revoke_all(&revocations, now).await?;
            // Several nodes may end it at the same time: one of them does.
            ended += outcomes.iter().flatten().filter(|outcome| outcome.newly).count();
            if (unused.len() as u64) < BATCH {
                return Ok(ended);
            }
        }
    }
}

/// Ends unused tokens, now and then, until it is stopped or nobody uses the authority any more.
pub(crate) async fn end_unused(authority: Weak<Authority>) {
    let Some((every, stop)) =
        authority.upgrade().map(|me| (me.config.unused_sweep, Arc::clone(&me.stop_sweep)))
    else {
        return;
    };
    loop {
        tokio::select! {
            () = stop.notified() => return,
            () = tokio::time::sleep(every) => {}
        }
        let Some(authority) = authority.upgrade() else { return };
        if let Err(error) = authority.end_unused().await {
            tracing::warn!(%error, "could not revoke unused tokens; trying again later");
        }
    }
}
