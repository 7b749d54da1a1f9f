//! How long a token lives: as long as somebody asks for, within what the policy, the token that it
//! was made with and its own last life allow.

use hashbrown::HashSet;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::issue::invalid;
use crate::policy::Policy;
use crate::record::PatRecord;

/// When a new token expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// After the policy's days, or [`DEFAULT_DAYS`](crate::DEFAULT_DAYS), or with its parent if
    /// that is sooner.
    #[default]
    Default,
    /// After so many days, 1 to [`MAX_DAYS`](crate::MAX_DAYS) or as many as the policy allows.
    Days(i64),
    /// At this time: in the future, within as many days.
    At(Timestamp),
}

/// When a token expires, by what is asked for; `latest` is when the token ends that it is made
/// with.
pub(crate) fn expiry(
    asked: Expiry,
    now: Timestamp,
    latest: Option<Timestamp>,
    policy: &Policy,
) -> Result<Timestamp, AuthorityError> {
    let after = |days: i64| {
        now.checked_add(SignedDuration::from_hours(24 * days))
            .map_err(|error| AuthorityError::Internal(error.to_string()))
    };
    let most = policy.longest();
    let furthest = after(most)?;
    // Who asks for more is told who has decided so.
    let beyond = |field: &'static str, message: String| match policy.max_days {
        None => invalid(field, message),
        Some(_) => AuthorityError::Policy {
            field,
            message: format!("{message}; the policy does not allow a longer lifetime"),
        },
    };
    // As a store keeps it, so that the answer which shows the token says what later ones say.
    let asked = match asked {
        Expiry::At(at) => Expiry::At(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)),
        other => other,
    };
    let expires_at = match asked {
        Expiry::Default => {
            let usual = after(policy.usual())?;
            return Ok(latest.map_or(usual, |latest| latest.min(usual)));
        }
        Expiry::Days(days) if (1..=most).contains(&days) => after(days)?,
        Expiry::Days(days) => {
            let message = format!("`expires_in_days` must be a whole number from 1 to {most}");
            let is_beyond = days > most;
            return Err(if is_beyond {
                beyond("expires_in_days", message)
            } else {
                invalid("expires_in_days", message)
            });
        }
        Expiry::At(at) if at <= now => {
            return Err(invalid(
                "expires_at",
                format!("`expires_at` {at} is not in the future (it is {now} now)"),
            ));
        }
        Expiry::At(at) if at > furthest => {
            let message = format!(
                "`expires_at` {at} is more than {most} days away; the latest possible time is {furthest}"
            );
            return Err(beyond("expires_at", message));
        }
        Expiry::At(at) => at,
    };
    match latest {
        Some(latest) if expires_at > latest => {
            let field = if matches!(asked, Expiry::At(_)) { "expires_at" } else { "expires_in_days" };
            Err(invalid(
                field,
                format!(
                    "`{field}`: a token cannot outlive the token it was created with; the latest possible time is {latest}"
                ),
            ))
        }
        _ => Ok(expires_at),
    }
}

impl Authority {
    /// As long a life again as the token had, or what is asked for; no longer than the policy
    /// allows. One that was made with another does not outlive it, and one that rotates itself gets
    /// no longer life than its owner has given it.
    pub(crate) async fn next_expiry(
        &self,
        pat: &PatRecord,
        by_itself: bool,
        asked: Expiry,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<Timestamp, AuthorityError> {
        let begun = pat.rotated_at.unwrap_or(pat.created_at);
        let again = now
            .checked_add(pat.expires_at.duration_since(begun))
            .map_err(|error| AuthorityError::Internal(error.to_string()))?;
        let mut latest = by_itself.then_some(again);
        if let Some(parent) = pat.parent_id {
            let parent =
                self.store.pat_by_id(parent).await?.ok_or(AuthorityError::NotFound("parent token"))?;
            latest = Some(latest.map_or(parent.expires_at, |latest| latest.min(parent.expires_at)));
        }
        let below = self.last_below(pat, now).await?;
        match asked {
            // As long as it had; what the policy has as the usual life is for new ones. If that is
            // shorter by now, as long as what was made with it needs it: that is no longer than it
            // was to live anyway.
            Expiry::Default => {
                let policy = Policy { default_days: policy.max_days, ..policy.clone() };
                let expires_at = expiry(Expiry::Default, now, latest, &policy)?.min(again);
                let needed = below.map(|below| below.expires_at.min(pat.expires_at));
                Ok(needed.map_or(expires_at, |needed| needed.max(expires_at)))
            }
            asked => {
                let expires_at = expiry(asked, now, latest, policy)?;
                match below.filter(|below| below.expires_at > expires_at) {
                    None => Ok(expires_at),
                    Some(below) => {
                        let field =
                            if matches!(asked, Expiry::At(_)) { "expires_at" } else { "expires_in_days" };
                        Err(invalid(
                            field,
                            format!(
                                "`{field}`: the token {} was created with this token and would outlive it; choose {} or later, or revoke that token first",
                                below.pat_id, below.expires_at
                            ),
                        ))
                    }
                }
            }
        }
    }

    /// Of the active tokens that were made with this one, or with one that was, the one that lives
    /// longest.
    async fn last_below(&self, pat: &PatRecord, now: Timestamp) -> Result<Option<PatRecord>, AuthorityError> {
        let all = self.store.active_pats(pat.user_id, now).await?;
        let mut tree: HashSet<Uuid> = HashSet::new();
        tree.insert(pat.pat_id);
        let mut last: Option<PatRecord> = None;
        // Newest first: a token is older than what was made with it.
        for below in all.into_iter().rev() {
            if below.parent_id.is_some_and(|parent| tree.contains(&parent)) {
                tree.insert(below.pat_id);
                if last.as_ref().is_none_or(|last| last.expires_at < below.expires_at) {
                    last = Some(below);
                }
            }
        }
        Ok(last)
    }
}
