//! Who a request acts for, once its credential was judged. From there on no token travels.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{Limits, ScopeSet};

/// The one shared flag that says whether an account's tokens still stand.
///
/// A [`Principal`] holds it, and whoever judges credentials ends it. It closes a race: a request that was
/// verified just before a revocation, and opens a stream just after the revocation cut the open ones,
/// registers its stream first and asks [`Principal::stands`] second.
#[derive(Debug, Default)]
pub struct Standing(AtomicBool);

impl Standing {
    /// Ends it, for all who hold it.
    pub fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Makes it stand again: a disabled account that was enabled.
    pub fn restore(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The life of a credential: its own standing, and that of the account it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// The token's own.
    pub token: Arc<Standing>,
    /// Its owner's.
    pub owner: Arc<Standing>,
}

/// What a request came in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A personal access token.
    Pat {
        /// The token's identity. It stays when the secret is rotated.
        pat_id: Uuid,
        /// Its name, as the owner chose it.
        pat_name: String,
        /// `...` and the last four characters.
        pat_hint: String,
        /// When it was made.
        created_at: Timestamp,
        /// When it ends.
        expires_at: Timestamp,
    },
    /// A browser session.
    Session {
        /// When it ends.
        expires_at: Timestamp,
    },
}

/// Who a request acts for, and what it may do.
#[derive(Clone)]
pub struct Principal {
    /// The account's id.
    pub user_id: Uuid,
    /// The account's e-mail address.
    pub email: String,
    /// Whether the account administers this TrustRelay.
    pub is_admin: bool,
    /// What the credential opens. A browser session opens what its user may do.
    pub scopes: ScopeSet,
    /// The credential.
    pub credential: Credential,
    /// What it is held to beyond that, if to anything. Who takes tokens holds them to it: whoever takes the request knows its address.
    pub limits: Option<Arc<Limits>>,
    /// Whether the credential still stands, at this moment.
    pub life: Life,
}

impl Principal {
    /// Whether the credential still stands: neither revoked nor its account disabled since it was judged.
    /// Expiry is a matter of time: see [`Principal::expires_at`].
    pub fn stands(&self) -> bool {
        !self.life.token.has_ended() && !self.life.owner.has_ended()
    }

    /// When the credential ends.
    pub fn expires_at(&self) -> Timestamp {
        match &self.credential {
            Credential::Pat { expires_at, .. } | Credential::Session { expires_at } => *expires_at,
        }
    }

    /// The token's id, if the credential is one.
    pub fn pat_id(&self) -> Option<Uuid> {
        match &self.credential {
            Credential::Pat { pat_id, .. } => Some(*pat_id),
            Credential::Session { .. } => None,
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("user_id", &self.user_id)
            .field("pat_id", &self.pat_id())
            .field("scopes", &self.scopes.to_string())
            .field("stands", &self.stands())
            .finish_non_exhaustive()
    }
}
