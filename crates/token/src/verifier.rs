//! The question a guard asks, and its answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::{Principal, Token};

/// The reason why a well-formed token is refused.
///
/// To a holder of the whole token these tell nothing new; nobody else can ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No such token.
    #[error("the token is not known to this server")]
    Unknown,
    /// It has passed its expiry.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// It was revoked.
    #[error("the token was revoked at {0}")]
    Revoked(Timestamp),
    /// It was rotated, and the time for the secret that it had before is over.
    #[error("the token was rotated, and its old secret ended at {0}; use the new secret")]
    Retired(Timestamp),
    /// Its owner's account is disabled.
    #[error("the account this token belongs to is disabled")]
    OwnerDisabled,
    /// It could not be judged now: nothing is accepted, and the caller may try again.
    #[error("tokens cannot be verified right now; try again in {} s", .retry_after.as_secs())]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// The answer to a verification: there already, or on its way.
///
/// A warm verification is `Ready` and allocates nothing.
pub enum Verification {
    /// Judged from memory.
    Ready(Result<Arc<Principal>, Denied>),
    /// The store is being asked.
    Pending(Pin<Box<dyn Future<Output = Result<Arc<Principal>, Denied>> + Send>>),
}

impl Verification {
    /// The answer, waited for where it must be.
    pub async fn wait(self) -> Result<Arc<Principal>, Denied> {
        match self {
            Self::Ready(answer) => answer,
            Self::Pending(answer) => answer.await,
        }
    }
}

/// A judge of tokens.
pub trait Verifier: Send + Sync + 'static {
    /// Judges the token. The token is dropped (and wiped) before the answer is there.
    fn verify(&self, token: Token) -> Verification;
}

impl<V: Verifier + ?Sized> Verifier for Arc<V> {
    fn verify(&self, token: Token) -> Verification {
        (**self).verify(token)
    }
}
