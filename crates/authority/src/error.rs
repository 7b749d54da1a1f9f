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
    #[error("this needs the scope `{scope}`")]
    InsufficientScope {
        /// The scope that is missing.
        scope: String,
    },
    /// The credential is good, and this is for administrators.
    #[error("this is for administrators; ask one of them")]
    NotAdministrator,
    /// An idempotency key came again with another request.
    #[error("this `Idempotency-Key` was used for another rotation of this token; give each its own")]
    IdempotencyKeyReused,
    /// The credential is good, and this takes a browser session.
    #[error("{0}")]
    SessionOnly(&'static str),
    /// It is there already.
    #[error("{0}")]
    Conflict(String),
    /// The policy would end tokens that were not used, more than whoever asks knows of.
    #[error(
        "with `unused_days` {days} the policy ends {tokens} tokens that were not used for so long, and they do not come back; if that is meant, give their number as `ends_tokens`"
    )]
    TooManyEnd {
        /// After how many days without a use.
        days: u16,
        /// How many it ends; [`MAX_PATS_COUNTED`](crate::MAX_PATS_COUNTED) stands for that many and more.
        tokens: u64,
    },
    /// E-mail address or password is wrong, or the account is disabled.
    #[error("the e-mail address or the password is wrong")]
    WrongCredentials,
    /// Too many tries.
    #[error("too many attempts; try again in {} s", .retry_after.as_secs().max(1))]
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
    #[error("the store does not answer right now; try again")]
    Unavailable(#[source] StoreError),
    /// Something that should not happen; the cause is for the log.
    #[error("internal error")]
    Internal(String),
}

impl From<StoreError> for AuthorityError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => Self::Conflict(error.to_string()),
            StoreError::UserGone => Self::NotFound("active account"),
            StoreError::ParentGone => Self::Invalid {
                field: "parent",
                message:
                    "the token that this one would be made with is no longer active, or would end before it"
                        .into(),
            },
            StoreError::TooManyPats(limit) => Self::Conflict(format!(
                "this account has {limit} active tokens, the most there can be; revoke some that are no longer used"
            )),
            StoreError::LastAdministrator => Self::Conflict(
                "this is the last administrator that is enabled; make somebody else one first".into(),
            ),
            StoreError::TooManyInvites(limit) => Self::Conflict(format!(
                "there are {limit} open invitations, the most there can be; take some back that are no longer meant"
            )),
            StoreError::TooManyWebhooks(limit) => Self::Conflict(format!(
                "there are {limit} webhooks, the most there can be; remove one that is no longer used"
            )),
            StoreError::Powerless(Powerless::Denied(denied)) => Self::Denied(denied),
            StoreError::Powerless(Powerless::SignedOut) => Self::SignedOut,
            StoreError::Powerless(Powerless::NotAdministrator) => Self::NotAdministrator,
            StoreError::PolicyChanged => {
                Self::Conflict("the policy was changed at the same time, more than once; ask again".into())
            }
            // Only a credential without `tokens` asks for a change that may narrow alone.
            StoreError::WidensUpstreams => Self::InsufficientScope { scope: Scope::Tokens.to_string() },
            StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::Corrupt(what) => Self::Internal(what),
        }
    }
}
