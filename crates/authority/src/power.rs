//! What an actor must still be able to do when its change is committed.
//!
//! A request is judged when its head has arrived. Its change is committed later: the body has to
//! arrive, a password is hashed, a lock is waited for. In between the account may be disabled, the
//! role taken away, the session ended or the secret replaced. So every store asks again, inside the
//! transaction of the change and before anything else in it. An [`Actor`](crate::Actor) carries the
//! question; [`Power::judge`] has the answer.

use jiff::Timestamp;
use trustrelay_token::{Denied, TokenDigest};
use uuid::Uuid;

use crate::judgment::{judge, judge_retired};

/// The credential that a change is asked for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A browser session, by the digest of its cookie.
    Session([u8; 32]),
    /// One secret of a token.
    Secret {
        /// The token.
        pat_id: Uuid,
        /// The digest of the secret: the current one, or one in its overlap.
        digest: TokenDigest,
    },
}

/// What must hold when a change is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    /// The account that acts. It must be there and enabled.
    pub user_id: Uuid,
    /// The credential that must still be good. `None` where only the account is known.
    pub credential: Option<Credential>,
    /// Whether the account must administer.
    pub admin: bool,
}

/// What a store knows of a token that acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// Whether the secret is the one that the token has now.
    pub is_current: bool,
    /// Until when the secret is good, if it is one that the token had before.
    pub valid_until: Option<Timestamp>,
    /// Whether the store says that it has ended. Then no clock is asked.
    pub has_ended: bool,
}

/// What a store knows, inside the transaction, of whoever acts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PowerFacts {
    /// Whether the account is there and enabled.
    pub is_enabled: bool,
    /// Whether it administers.
    pub is_admin: bool,
    /// When the session ends, if it is there and the account's.
    pub session_expires_at: Option<Timestamp>,
    /// The token, if it is there and the account's.
    pub token: Option<TokenFacts>,
}

/// Why an actor can no longer do what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Powerless {
    /// The token, its secret or its account does not stand any more.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The browser session has ended, or its account was disabled.
    #[error("the browser session has ended; sign in again")]
    SignedOut,
    /// The account does not administer any more.
    #[error("only administrators can do this; ask an administrator")]
    NotAdministrator,
}

impl Power {
    /// Whether the actor may still do it, by what the store knows inside the transaction.
    ///
    /// # Errors
    ///
    /// The first reason why not.
    pub fn judge(&self, facts: &PowerFacts, now: Timestamp) -> Result<(), Powerless> {
        match self.credential {
            Some(Credential::Secret { .. }) => {
                let Some(token) = &facts.token else { return Err(Denied::Unknown.into()) };
                judge(token.revoked_at, !facts.is_enabled, token.expires_at, now)?;
                match token {
                    TokenFacts { is_current: true, .. } => {}
                    TokenFacts { valid_until: None, .. } => return Err(Denied::Unknown.into()),
                    TokenFacts { valid_until: Some(until), has_ended, .. } => {
                        judge_retired(*has_ended, *until, now)?;
                    }
                }
            }
            Some(Credential::Session(_))
                if !facts.is_enabled || facts.session_expires_at.is_none_or(|end| end <= now) =>
            {
                return Err(Powerless::SignedOut);
            }
            Some(Credential::Session(_)) => {}
            None if !facts.is_enabled => return Err(Powerless::SignedOut),
            None => {}
        }
        if self.admin && !facts.is_admin {
            return Err(Powerless::NotAdministrator);
        }
        Ok(())
    }
}
