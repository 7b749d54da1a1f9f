//! What administrators ask about the policy, and how they change it.

use jiff::{SignedDuration, Timestamp};
use trustrelay_token::{Principal, Scope};

use super::{Policy, PolicyRecord};
use crate::admin::{MAX_PATS_COUNTED, PatFilter, PatState};
use crate::audit::{AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;

/// How often a change is tried again that another one came before, where it does not matter which
/// was first.
const TRIES: usize = 3;

/// The policy, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    /// What holds.
    pub record: PolicyRecord,
    /// How many active tokens have not been used for as long as the policy lets them, up to
    /// [`MAX_PATS_COUNTED`]: they end with the next sweep, but for those that other tokens were
    /// made with and which are used through them.
    pub unused: u64,
}

/// What somebody wants the policy to be.
#[derive(Debug, Clone, Default)]
pub struct PolicyChange {
    /// All of it.
    pub policy: Policy,
    /// Only if it is the one that this log entry made: so that nobody overwrites what they have not
    /// seen.
    pub replaces: Option<u64>,
    /// How many tokens the change may end for not having been used.
    pub ends: Option<u64>,
}

impl Authority {
    /// The policy, as whoever makes a token has to know it.
    pub async fn standing_policy(&self) -> Result<Policy, AuthorityError> {
        Ok(self.judging_policy().await?.policy)
    }

    /// The policy that a token is judged by, with its number. From the store, which knows one that
    /// was answered a moment ago on any node, whether this one holds its lease or not.
    pub(crate) async fn judging_policy(&self) -> Result<PolicyRecord, AuthorityError> {
        Ok(self.store.policy().await?)
    }

    /// The policy, for administrators.
    pub async fn policy(&self, by: &Principal) -> Result<PolicyState, AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead])?;
        let record = self.store.policy().await?;
        let unused = self.unused_under(&record.policy).await?;
        Ok(PolicyState { record, unused })
    }

    /// Refuses who may not change the policy at all; widening it takes more
    /// ([`Authority::change_policy`]).
    pub fn may_change_policy(&self, by: &Principal) -> Result<(), AuthorityError> {
        self.require_admin(by, &[Scope::Api])
    }

    /// Changes the policy. When it is answered, it holds on every node. Tokens that it would end
    /// for not having been used must be no more than whoever asks knows of: they do not come back.
    ///
    /// A token needs `api`, and `tokens` beside it if the change widens any rule.
    pub async fn change_policy(&self, by: &By, change: PolicyChange) -> Result<PolicyState, AuthorityError> {
        self.may_change_policy(by)?;
        for _ in 0..TRIES {
            let before = self.store.policy().await?;
            if change.replaces.is_some_and(|seen| seen != before.seq) {
                break;
            }
            // The store replaces this very policy or nothing, so it cannot be a narrower one by
            // then.
            if change.policy.widens(&before.policy) {
                self.require(by, &Scope::Tokens)?;
            }
            let unused = self.may_end(&before.policy, &change).await?;
            let seq = if before.policy == change.policy {
                // Perhaps of a change that is on its way to the other nodes.
                self.wait_for_fence(before.seq).await?;
                before.seq
            } else {
                let now = self.clock.now();
                let audit = AuditEntry::new(now, by.administrator(), "policy.changed")
                    .with("before", before.policy.to_json())
                    .with("after", change.policy.to_json());
                match self.settle_policy(change.policy.clone(), before.seq, now, audit).await? {
                    Some(seq) => seq,
                    None => continue,
                }
            };
            return Ok(PolicyState { record: PolicyRecord { seq, policy: change.policy }, unused });
        }
        Err(AuthorityError::Conflict(
            "someone else changed the policy in the meantime; review it and try again".into(),
        ))
    }

    /// Refuses a change that would end more tokens than whoever asks knows of; how many it ends.
    async fn may_end(&self, before: &Policy, change: &PolicyChange) -> Result<u64, AuthorityError> {
        let unused = self.unused_under(&change.policy).await?;
        let shorter = match (change.policy.unused_days, before.unused_days) {
            (Some(days), Some(before)) => days < before,
            (days, _) => days.is_some(),
        };
        if let Some(days) = change.policy.unused_days
            && shorter
            && unused > change.ends.unwrap_or(0)
        {
            return Err(AuthorityError::TooManyEnd { days: days.get(), tokens: unused });
        }
        Ok(unused)
    }

    async fn unused_under(&self, policy: &Policy) -> Result<u64, AuthorityError> {
        let Some(days) = policy.unused_days else { return Ok(0) };
        let now = self.clock.now();
        let since = now
            .checked_sub(SignedDuration::from_hours(24 * i64::from(days.get())))
            .map_err(|error| AuthorityError::Internal(error.to_string()))?;
        let filter =
            PatFilter { state: Some(PatState::Active), unused_since: Some(since), ..PatFilter::default() };
        // What this node has noted counts.
        self.flush_usage().await;
        Ok(self.store.count_pats(&filter, MAX_PATS_COUNTED, now).await?)
    }

    async fn settle_policy(
        &self,
        policy: Policy,
        replaces: u64,
        now: Timestamp,
        audit: AuditEntry,
    ) -> Result<Option<u64>, AuthorityError> {
        let me = self.me.upgrade().ok_or_else(|| AuthorityError::Internal("shutting down".into()))?;
        // A task of its own: once begun it is carried through, also if the caller goes away.
        let done = tokio::spawn(async move {
            let Some(seq) = me.store.set_policy(&policy, replaces, now, &audit).await? else {
                return Ok(None);
            };
            me.wait_for_fence(seq).await?;
            tracing::info!(seq, "changed the policy");
            Ok(Some(seq))
        });
        done.await.map_err(|error| AuthorityError::Internal(error.to_string()))?
    }
}
