//! The audit log: who changed what, when and from where. An entry is committed with the change that it tells of, or not at all.
//!
//! Each entry is chained to the one before it: entry n's hash is SHA-256 over the hash of entry n-1 (32 zero bytes before the first), n
//! as eight bytes, most significant first, and the entry's bytes. So an entry that was changed, taken out or put elsewhere is found.

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

use crate::store::StoreError;

/// How many entries are appended at once at most, where they come with no change.
pub const AUDIT_BATCH: usize = 25;
/// What comes before the first entry.
pub const AUDIT_BEGINNING: [u8; 32] = [0; 32];

/// A caller: whom it acts for, and where it comes from.
#[derive(Debug, Clone)]
pub struct By {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
}

impl By {
    /// A caller from an address.
    pub fn new(principal: Arc<Principal>, address: Option<IpAddr>) -> Self {
        Self { principal, address }
    }

    /// The caller, as the audit log names it.
    pub fn actor(&self) -> Actor {
        let pat = self.principal.pat();
        Actor {
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

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
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

    const fn of(kind: ActorKind, address: Option<IpAddr>) -> Self {
        Self { kind, user_id: None, email: None, pat_id: None, pat_name: None, address }
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

    /// The bytes that are kept and chained: JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    /// Reads it back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt(error.to_string()))
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
}

/// The hash of entry `seq`, which comes after the one with the hash `before`.
pub fn chained(before: &[u8; 32], seq: u64, entry: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(before).chain_update(seq.to_be_bytes()).chain_update(entry).finalize().into()
}

/// Keeps the audit log. The changes themselves append to it in [`Store`](crate::Store).
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Appends entries that come with no change, at most [`AUDIT_BATCH`]: what was refused, and the like.
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError>;
    /// The entries after `seq`, in order, at most `limit`.
    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError>;
}
