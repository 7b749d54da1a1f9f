//! Revoke: when the answer is sent, no node accepts the token.

use jiff::Timestamp;
use trustrelay_token::{Principal, Scope};
use uuid::Uuid;

use crate::audit::{Actor, AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::PatRecord;
use crate::store::{Revocation, RevokeOutcome};

/// Which token is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatRef {
    /// The one that makes the request (`self` in a path).
    Own,
    /// This one.
    Id(Uuid),
}

/// A revocation that holds everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The token.
    pub pat_id: Uuid,
    /// When it was first revoked.
    pub revoked_at: Timestamp,
    /// How many open MCP sessions it ended here.
    pub sessions_terminated: usize,
}

impl Authority {
    /// Which token the caller means, if the caller may manage it.
    pub(crate) fn resolve(&self, by: &Principal, which: PatRef) -> Result<Uuid, AuthorityError> {
        match (which, by.pat_id()) {
            (PatRef::Own, Some(own)) => Ok(own),
            (PatRef::Own, None) => Err(AuthorityError::Invalid {
                field: "pat_id",
                message: "`self` means the token that makes the request, but this request has a browser session; use the token's id".into(),
            }),
            (PatRef::Id(id), Some(own)) if id == own => Ok(own),
            (PatRef::Id(id), Some(_)) => self.require(by, &Scope::Tokens).map(|()| id),
            (PatRef::Id(id), None) => Ok(id),
        }
    }

    /// Revokes one of the caller's tokens and all that were made with it. A token may always revoke
    /// itself; others need `tokens`. Again: the first outcome, and the same promise.
    pub async fn revoke(&self, by: &By, which: PatRef) -> Result<Revoked, AuthorityError> {
        let pat_id = self.resolve(by, which)?;
        match self.store.pat_by_id(pat_id).await? {
            Some(pat) if pat.user_id == by.user_id => self.revoke_as(by.actor(), "token.revoked", &pat).await,
            _ => Err(AuthorityError::NotFound("token")),
        }
    }

    /// Revokes a token, whoever's it is: what the operator at the machine may do.
    pub async fn revoke_any(&self, pat_id: Uuid) -> Result<Revoked, AuthorityError> {
        let pat = self.store.pat_by_id(pat_id).await?.ok_or(AuthorityError::NotFound("token"))?;
        self.revoke_as(Actor::OPERATOR, "token.revoked", &pat).await
    }

    /// Revokes a token in somebody's name.
    pub(crate) async fn revoke_as(
        &self,
        actor: Actor,
        action: &'static str,
        pat: &PatRecord,
    ) -> Result<Revoked, AuthorityError> {
        let me = self.me.upgrade().ok_or_else(|| AuthorityError::Internal("shutting down".into()))?;
        let pat_id = pat.pat_id;
        let now = self.clock.now();
        let audit =
            AuditEntry::new(now, actor, action).of_user(pat.user_id).of_pat(pat_id).with("name", &pat.name);
        // A task of its own: once begun it is carried through, also if the caller goes away.
        let done = tokio::spawn(async move {
            let (mut outcomes, cut) = me.revoke_all(&[Revocation::untold(pat_id, audit)], now).await?;
            let outcome = outcomes.pop().flatten().ok_or(AuthorityError::NotFound("token"))?;
            if outcome.newly {
                tracing::info!(%pat_id, sessions_terminated = cut, "revoked a token");
            }
            let sessions_terminated = if outcome.newly { cut } else { 0 };
            Ok(Revoked { pat_id, revoked_at: outcome.revoked_at, sessions_terminated })
        });
        done.await.map_err(|error| AuthorityError::Internal(error.to_string()))?
    }

    /// Revokes tokens in one log entry, keeps their notices with it, and waits until it holds
    /// everywhere. Their outcomes, in the same order, and how many sessions were cut. Once begun it
    /// has to be carried through: whoever may go away meanwhile calls it in a task of its own.
    pub(crate) async fn revoke_all(
        &self,
        pats: &[Revocation],
        now: Timestamp,
    ) -> Result<(Vec<Option<RevokeOutcome>>, usize), AuthorityError> {
        let outcomes = self.store.revoke_pats(pats, now, self.has_mail()).await?;
        if pats.iter().any(|pat| pat.notice.is_some()) {
            self.notices.wake.notify_one();
        }
        // Those that were revoked before may have been so a moment ago.
        let cut = match outcomes.iter().flatten().map(|outcome| outcome.seq).max() {
            Some(seq) => self.wait_for_fence(seq).await?,
            None => 0,
        };
        Ok((outcomes, cut))
    }
}
