//! One error for all that the authority does; `web` maps it to HTTP in one table.

use std::time::Duration;

use trustrelay_token::{Denied, Scope};

use crate::limits::OffLimits;
use crate::power::Powerless;
use crate::store::StoreError;

/// Why the authority did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// An input is wrong: which, and what to do.
    #[error("{message}")]
    Invalid {
        /// The field's name, as the REST API has it.
        field: &'static str,
        /// What was wrong and what to do.
        message: String,
    },
    /// The policy does not allow it.
    #[error("{message}")]
    Policy {
        /// The field's name, as the REST API has it.
        field: &'static str,
        /// What it does not allow, and what it does.
        message: String,
    },
    /// Not there, or not the caller's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The credential is good but does not hold this scope.
    #[error("this requires the scope `{scope}`")]
    InsufficientScope {
        /// The scope that is missing.
        scope: String,
    },
    /// The credential is good, and this is for administrators.
    #[error("only administrators can do this; ask an administrator")]
    NotAdministrator,
    /// An idempotency key came again with another request.
    #[error(
        "this `Idempotency-Key` was already used for another rotation of this token; use a new key for each rotation"
    )]
    IdempotencyKeyReused,
    /// The credential is good, and this takes a browser session.
    #[error("{0}")]
    SessionOnly(&'static str),
    /// It is there already.
    #[error("{0}")]
    Conflict(String),
    /// The policy would end tokens that were not used, more than whoever asks knows of.
    #[error(
        "`unused_days` {days} would revoke {tokens} tokens that were not used for that long, and revoked tokens cannot be restored; to confirm, send their number as `ends_tokens`"
    )]
    TooManyEnd {
        /// After how many days without a use.
        days: u16,
        /// How many it ends; [`MAX_PATS_COUNTED`](crate::MAX_PATS_COUNTED) stands for that many and
        /// more.
        tokens: u64,
    },
    /// E-mail address or password is wrong, or the account is disabled.
    #[error("the email address or the password is wrong")]
    WrongCredentials,
    /// Too many tries.
    #[error("too many attempts; try again in {}", waiting_time(.retry_after.as_secs()))]
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// The caller's own credential does not stand.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The caller's token is held to limits, and this is off them.
    #[error(transparent)]
    OffLimits(#[from] OffLimits),
    /// The caller's browser session has ended since the request began.
    #[error("the browser session has ended; sign in again")]
    SignedOut,
    /// It cannot be done now: the store does not answer. Nothing was accepted.
    #[error("the database is not available right now; try again")]
    Unavailable(#[source] StoreError),
    /// Something that should not happen; the cause is for the log.
    #[error("internal error")]
    Internal(String),
}

/// A time to wait, as people say it: in seconds, and from a minute on in minutes, rounded up.
pub(crate) fn waiting_time(seconds: u64) -> String {
    let (number, unit) = match seconds.max(1) {
        seconds @ 0..60 => (seconds, "second"),
        seconds => (seconds.div_ceil(60), "minute"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

impl From<StoreError> for AuthorityError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => Self::Conflict(error.to_string()),
            StoreError::UserGone => Self::NotFound("active account"),
            StoreError::ParentGone => Self::Invalid {
                field: "parent",
                message: "the token used to create this one is no longer active, or expires before it".into(),
            },
            StoreError::TooManyPats(limit) => Self::Conflict(format!(
                "this account has {limit} active tokens, which is the maximum; revoke tokens that are no longer used"
            )),
            StoreError::LastAdministrator => Self::Conflict(
                "this is the last enabled administrator; make another account an administrator first".into(),
            ),
            StoreError::TooManyInvites(limit) => Self::Conflict(format!(
                "there are {limit} open invitations, which is the maximum; revoke invitations that are no longer needed"
            )),
            StoreError::TooManyWebhooks(limit) => Self::Conflict(format!(
                "there are {limit} webhooks, which is the maximum; remove one that is no longer used"
            )),
            StoreError::Powerless(Powerless::Denied(denied)) => Self::Denied(denied),
            StoreError::Powerless(Powerless::SignedOut) => Self::SignedOut,
            StoreError::Powerless(Powerless::NotAdministrator) => Self::NotAdministrator,
            StoreError::PolicyChanged => {
                Self::Conflict("the policy was changed several times at the same time; try again".into())
            }
            // Only a credential without `tokens` asks for a change that may narrow alone.
            StoreError::WidensUpstreams => Self::InsufficientScope { scope: Scope::Tokens.to_string() },
            StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::Corrupt(what) => Self::Internal(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_rounded_up_to_minutes_from_a_minute_on() {
        for (seconds, says) in [
            (0, "1 second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (61, "2 minutes"),
            (897, "15 minutes"),
        ] {
            let error = AuthorityError::Throttled { retry_after: Duration::from_secs(seconds) };
            assert_eq!(error.to_string(), format!("too many attempts; try again in {says}"));
        }
    }
}
