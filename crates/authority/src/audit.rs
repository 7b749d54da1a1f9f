//! The audit log: who changed what, when and from where. An entry is committed with the change that
//! it tells of, or not at all.
//!
//! Each entry is chained to the one before it: entry n's hash is SHA-256 over the hash of entry n-1
//! (32 zero bytes before the first), n as eight bytes, most significant first, and the entry's
//! bytes. So an entry that was changed, taken out or put elsewhere is found.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trustrelay_token::Principal;
use uuid::Uuid;

mod filter;
mod read;
mod seal;
mod sweep;
mod verify;

pub use filter::{AuditAction, AuditFilter, AuditLook, AuditPlace, BadPlace, parse_audit_time};
pub use read::{AuditExport, AuditPage, Audited, MAX_AUDIT_PAGE};
pub(crate) use seal::{SealKey, Sealing};
pub(crate) use sweep::Sweep;
pub use verify::{AuditFlaw, AuditReport};

use crate::power::{Credential, Power};
use crate::record::{PatRecord, UserRecord};
use crate::store::StoreError;

/// How many entries are appended at once at most, where they come with no change.
pub const AUDIT_BATCH: usize = 25;
/// What comes before the first entry.
pub const AUDIT_BEGINNING: [u8; 32] = [0; 32];

/// The action of the entry that tells that older ones were cut off.
pub const CUT: &str = "audit.cut";
/// Its detail that names the last entry that was cut off.
pub const CUT_THROUGH: &str = "through";
/// Its detail that has that entry's hash, in hexadecimal.
pub const CUT_HASH: &str = "hash";

/// A caller: whom it acts for, and where it comes from.
#[derive(Debug, Clone)]
pub struct By {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
    /// The digest of the browser session's cookie, if the credential is one.
    session: Option<[u8; 32]>,
}

impl By {
    /// A caller from an address.
    pub fn new(principal: Arc<Principal>, address: Option<IpAddr>) -> Self {
        Self { principal, address, session: None }
    }

    /// The same, with the digest of the browser session that it came with: a change is then refused
    /// if the session has ended before it is committed.
    #[must_use]
    pub fn with_session(self, digest: [u8; 32]) -> Self {
        Self { session: Some(digest), ..self }
    }

    /// The digest of the browser session, if the credential is one.
    pub(crate) fn session(&self) -> Option<&[u8; 32]> {
        self.session.as_ref()
    }

    /// The caller as an administrator: what it changes is refused if it has lost the role by then.
    pub fn administrator(&self) -> Actor {
        let mut actor = self.actor();
        if let Some(power) = &mut actor.needs.power {
            power.admin = true;
        }
        actor
    }

    fn power(&self) -> Power {
        let secret = self.principal.pat();
        let secret = secret.map(|pat| Credential::Secret { pat_id: pat.pat_id, digest: *pat.digest() });
        let credential = secret.or(self.session.map(Credential::Session));
        Power { user_id: self.principal.user_id, credential, admin: false }
    }

    /// The caller, as the audit log names it, and what it must still be able to do when its change
    /// is committed.
    pub fn actor(&self) -> Actor {
        let pat = self.principal.pat();
        Actor {
            needs: Preconditions { power: Some(self.power()), policy: None },
            kind: if pat.is_some() { ActorKind::Token } else { ActorKind::User },
            user_id: Some(self.principal.user_id),
            email: Some(self.principal.email.to_string()),
            pat_id: self.principal.pat_id(),
            pat_name: pat.map(|pat| pat.name().to_owned()),
            address: self.address,
        }
    }
}

impl Deref for By {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

/// In what capacity somebody acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person with a browser session.
    User,
    /// Whoever holds a token.
    Token,
    /// The operator, by a command at the machine.
    Operator,
    /// The server itself.
    System,
    /// Nobody who is known.
    Anonymous,
}

/// What must still hold when an [`Actor`]'s change is committed. It is asked for in the transaction
/// of the change and is no part of the entry that is kept: two actors are the same whatever they
/// need.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preconditions {
    /// The power that it acts with.
    pub(crate) power: Option<Power>,
    /// The number of the policy that the change was judged by
    /// ([`PolicyRecord::seq`](crate::PolicyRecord::seq)).
    pub(crate) policy: Option<u64>,
}

impl PartialEq for Preconditions {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Preconditions {}

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What must still hold when its change is committed.
    #[serde(skip)]
    pub needs: Preconditions,
    /// In what capacity.
    pub kind: ActorKind,
    /// The account, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<Uuid>,
    /// Its e-mail address then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// The token, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pat_id: Option<Uuid>,
    /// Its name then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pat_name: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
}

impl Actor {
    /// The operator at the machine.
    pub const OPERATOR: Self = Self::of(ActorKind::Operator, None);
    /// The server itself.
    pub const SYSTEM: Self = Self::of(ActorKind::System, None);

    /// Somebody who has shown nothing that says who it is.
    pub const fn anonymous(address: Option<IpAddr>) -> Self {
        Self::of(ActorKind::Anonymous, address)
    }

    /// Whoever has a token, whether or not it is good.
    pub(crate) fn holder(pat: &PatRecord, owner: &UserRecord, address: Option<IpAddr>) -> Self {
        Self {
            user_id: Some(owner.user_id),
            email: Some(owner.email.clone()),
            pat_id: Some(pat.pat_id),
            pat_name: Some(pat.name.clone()),
            ..Self::of(ActorKind::Token, address)
        }
    }

    const fn of(kind: ActorKind, address: Option<IpAddr>) -> Self {
        let needs = Preconditions { power: None, policy: None };
        Self { needs, kind, user_id: None, email: None, pat_id: None, pat_name: None, address }
    }

    /// What must still hold when its change is committed; `None` for the operator, the server
    /// itself, and whoever needs no credential for it.
    pub fn power(&self) -> Option<&Power> {
        self.needs.power.as_ref()
    }

    /// The same, whose change was judged by the policy with this number: it is refused if there is
    /// another one by then.
    #[must_use]
    pub fn under_policy(mut self, seq: u64) -> Self {
        self.needs.policy = Some(seq);
        self
    }

    /// The number of the policy that the change was judged by, if it was judged by one.
    pub fn policy(&self) -> Option<u64> {
        self.needs.policy
    }
}

/// An entry of the audit log. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What, such as `token.created`; what was refused begins with `refused.`.
    pub action: Cow<'static, str>,
    /// Whose account it concerns: that person sees it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<Uuid>,
    /// Which token it concerns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pat_id: Option<Uuid>,
    /// What else is to be known of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub details: BTreeMap<Cow<'static, str>, String>,
}

impl AuditEntry {
    /// Somebody does something, at a time with whole microseconds.
    pub fn new(at: Timestamp, actor: Actor, action: &'static str) -> Self {
        // As a store keeps times.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        Self { at, actor, action: action.into(), user_id: None, pat_id: None, details: BTreeMap::new() }
    }

    /// Whose account it concerns.
    #[must_use]
    pub fn of_user(mut self, user_id: Uuid) -> Self {
        self.user_id = Some(user_id);
        self
    }

    /// Which token it concerns.
    #[must_use]
    pub fn of_pat(mut self, pat_id: Uuid) -> Self {
        self.pat_id = Some(pat_id);
        self
    }

    /// Something else that is to be known of it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.insert(name.into(), value.to_string());
        self
    }

    /// The entry that tells of a cut, as it is once it is known what was cut off.
    #[must_use]
    pub fn of_cut(self, through: &AuditLink) -> Self {
        self.with(CUT_THROUGH, through.seq).with(CUT_HASH, hex(&through.hash))
    }

    /// The bytes that are kept and chained: JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    /// Reads it back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt(error.to_string()))
    }
}

/// What a store repeats of an entry beside it, so that it is found. The entry itself is what
/// counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditColumns {
    /// When, in microseconds.
    pub at: i64,
    /// What.
    pub action: String,
    /// Which account did it.
    pub actor_user_id: Option<Uuid>,
    /// Which token did it.
    pub actor_pat_id: Option<Uuid>,
    /// Whose account it concerns.
    pub user_id: Option<Uuid>,
    /// Which token it concerns.
    pub pat_id: Option<Uuid>,
}

impl AuditColumns {
    /// What is repeated of an entry.
    pub fn of(entry: &AuditEntry) -> Self {
        Self {
            at: entry.at.as_microsecond(),
            action: entry.action.clone().into_owned(),
            actor_user_id: entry.actor.user_id,
            actor_pat_id: entry.actor.pat_id,
            user_id: entry.user_id,
            pat_id: entry.pat_id,
        }
    }
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number: from 1, without gaps.
    pub seq: u64,
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// Its hash, which holds all that came before it.
    pub hash: [u8; 32],
    /// What is repeated of it.
    pub columns: AuditColumns,
}

/// An entry of the chain, without what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditLink {
    /// Its number; 0 before the first.
    pub seq: u64,
    /// Its hash; [`AUDIT_BEGINNING`] before the first.
    pub hash: [u8; 32],
}

impl AuditLink {
    /// Before the first entry.
    pub const BEGINNING: Self = Self { seq: 0, hash: AUDIT_BEGINNING };
}

/// Where what is kept of the chain begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEnds {
    /// The last entry that was cut off, where what is kept begins after.
    pub cut: AuditLink,
    /// The last entry.
    pub head: AuditLink,
}

/// A node's word that the chain was so: whoever writes in the database cannot make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSeal {
    /// The entry that was the last then.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// HMAC-SHA-256 over `seq`, `at` and the entry's hash (see
    /// [`ServerSecret`](crate::ServerSecret)).
    pub mac: [u8; 32],
}

/// Bytes in hexadecimal, as hashes are shown.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of entry `seq`, which comes after the one with the hash `before`.
pub fn chained(before: &[u8; 32], seq: u64, entry: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(before).chain_update(seq.to_be_bytes()).chain_update(entry).finalize().into()
}

/// Keeps the audit log. The changes themselves append to it in [`Store`](crate::Store).
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Appends entries that come with no change, at most [`AUDIT_BATCH`]: what was refused, and the
    /// like.
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError>;
    /// The entries after `seq`, in order, at most `limit`.
    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError>;
    /// A page of the entries that fit, by their time and then number.
    async fn audit_page(&self, look: &AuditLook) -> Result<Vec<AuditRecord>, StoreError>;
    /// Where what is kept begins and ends, at one moment.
    async fn audit_ends(&self) -> Result<AuditEnds, StoreError>;
    /// Keeps a seal. The first of an entry stays.
    async fn seal_audit(&self, seal: &AuditSeal) -> Result<(), StoreError>;
    /// The seals of entries after `seq`, in order, at most `limit`.
    async fn audit_seals(&self, seq: u64, limit: u64) -> Result<Vec<AuditSeal>, StoreError>;
    /// Cuts off the oldest entries, as long as they are from before `before`, at most `limit`, with
    /// their seals; how many. The last entry stays. In the same transaction an entry tells of it:
    /// `entry`, with the details [`CUT_THROUGH`] and [`CUT_HASH`].
    async fn cut_audit(&self, before: Timestamp, limit: u64, entry: &AuditEntry) -> Result<u64, StoreError>;
}
