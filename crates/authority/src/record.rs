//! What a store keeps. No record holds a secret: only digests and hints.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use trustrelay_token::{KeyId, Limits, Network, ScopeSet, TokenDigest};
use uuid::Uuid;

/// A personal access token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatRecord {
    /// The token's identity (UUIDv7).
    pub pat_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The name that its owner chose: 1 to 100 characters.
    pub name: String,
    /// `...` and the last four characters.
    pub hint: String,
    /// What it opens.
    pub scopes: ScopeSet,
    /// The keyed digest of the secret.
    pub digest: TokenDigest,
    /// The key that the digest was made under.
    pub key_id: KeyId,
    /// The token that it was made with, if it was made with one.
    pub parent_id: Option<Uuid>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it was last accepted, as far as that has reached the store.
    pub last_used_at: Option<Timestamp>,
    /// When it got the secret that it has now, if that is not its first.
    pub rotated_at: Option<Timestamp>,
    /// What it is held to beyond its scopes, if to anything.
    pub limits: Option<Arc<Limits>>,
}

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Its identity (UUIDv7).
    pub user_id: Uuid,
    /// The e-mail address, lower-cased.
    pub email: String,
    /// Argon2id, in PHC string form.
    pub password_hash: String,
    /// Whether it administers this TrustRelay.
    pub is_admin: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    /// The upstreams that it may use, by name; `None`: all.
    pub upstreams: Option<Vec<String>>,
}

impl std::fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRecord")
            .field("user_id", &self.user_id)
            .field("is_admin", &self.is_admin)
            .field("disabled_at", &self.disabled_at)
            .finish_non_exhaustive()
    }
}

/// A browser session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The keyed digest of the cookie's value.
    pub digest: [u8; 32],
    /// Whose it is.
    pub user_id: Uuid,
    /// When it began.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// One token's use since it was last written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The token.
    pub pat_id: Uuid,
    /// The latest use.
    pub last_used_at: Timestamp,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// What the client called itself, clipped to 200 bytes.
    pub user_agent: Option<String>,
    /// How many uses.
    pub count: u64,
    /// The networks that they came from.
    pub networks: Vec<NetworkUse>,
}

/// A network that a token was used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkUse {
    /// The network around the client's address.
    pub network: Network,
    /// The first use from there that is known.
    pub first_used_at: Timestamp,
    /// The latest.
    pub last_used_at: Timestamp,
}

impl NetworkUse {
    /// With what else is known of uses from the same network.
    pub fn and(self, other: &Self) -> Self {
        Self {
            first_used_at: self.first_used_at.min(other.first_used_at),
            last_used_at: self.last_used_at.max(other.last_used_at),
            ..self
        }
    }
}

/// The networks of some uses, each of a token once.
pub fn networks_of<'a>(notes: impl IntoIterator<Item = &'a Usage>) -> BTreeMap<(Uuid, Network), NetworkUse> {
    let mut networks: BTreeMap<_, NetworkUse> = BTreeMap::new();
    for note in notes {
        for used in &note.networks {
            let sum = networks.entry((note.pat_id, used.network)).or_insert(*used);
            *sum = sum.and(used);
        }
    }
    networks
}

/// One call that a token made, as it is remembered: never its arguments or its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it began.
    pub at: Timestamp,
    /// The upstream's name.
    pub upstream: String,
    /// The tool, by the upstream's own name for it; for what is no tool the method. Clients choose
    /// it: it may be anything.
    pub tool: String,
    /// `ok`, or in one word what became of it instead.
    pub outcome: Cow<'static, str>,
    /// How long it took, in whole microseconds.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
}

/// A token's calls of one day, tool and outcome, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCalls {
    /// The day (UTC) on which they began.
    pub day: Date,
    /// The upstream's name.
    pub upstream: String,
    /// The tool, as in [`Call`]; or [`OTHER_TOOL`](crate::OTHER_TOOL).
    pub tool: String,
    /// The outcome, as in [`Call`].
    pub outcome: Cow<'static, str>,
    /// How many calls.
    pub calls: u64,
    /// How long they took together, in whole microseconds.
    pub duration: Duration,
    /// Bytes of the requests' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
}

/// What a token has called since that was last written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCalls {
    /// The token.
    pub pat_id: Uuid,
    /// All calls, added up: each day, upstream, tool and outcome at most once.
    pub days: Vec<DayCalls>,
    /// The last of them one by one, oldest first: at most [`LATEST_CALLS`](crate::LATEST_CALLS).
    pub latest: Vec<Call>,
}

/// What a store knows of a token's use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptActivity {
    /// Where it was last used from, as far as that was ever known.
    pub address: Option<IpAddr>,
    /// What the client called itself then.
    pub user_agent: Option<String>,
    /// The networks that it was used from, the latest used first, then by their text.
    pub networks: Vec<NetworkUse>,
    /// The calls by day, newest day first, then by upstream, tool and outcome (as bytes).
    pub days: Vec<DayCalls>,
    /// The latest calls, newest first; of the same time, what was written down later comes first.
    pub latest: Vec<Call>,
}

/// A token that a log entry revokes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedPat {
    /// The token.
    pub pat_id: Uuid,
    /// Where an index has it.
    pub digest: TokenDigest,
}

/// A secret that a token had before, in a log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredSecret {
    /// The token.
    pub pat_id: Uuid,
    /// Where an index has it.
    pub digest: TokenDigest,
    /// From when on it is refused.
    pub valid_until: Timestamp,
    /// Whether the entry ends it. No clock is asked then.
    pub ended: bool,
}

/// A change that every node must know of. Most take power away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A token and all that were made with it are revoked: each by all secrets that it has and had.
    PatsRevoked(Vec<RevokedPat>),
    /// A token has another secret now: what it had before is good until then, and no longer.
    SecretsRetired(Vec<RetiredSecret>),
    /// An account is disabled.
    UserDisabled(Uuid),
    /// An account is enabled again.
    UserEnabled(Uuid),
    /// An account may use other upstreams than before.
    UpstreamsChanged(Uuid),
    /// An account administers from now on, or no longer.
    AdminChanged(Uuid),
    /// The policy is another one.
    PolicyChanged,
}

/// An entry of the log: numbered from 1 without gaps, in commit order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub seq: u64,
    /// When the change was made.
    pub at: Timestamp,
    /// The change.
    pub change: Change,
}
