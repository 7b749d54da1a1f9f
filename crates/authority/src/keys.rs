//! The server's secrets as a store knows them: which one is active, and which key each digest was
//! made under.

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use crate::audit::AuditEntry;
use crate::store::StoreError;

/// How many server secrets may be configured at once. A rotation needs two; the others are left
/// from rotations that are not finished yet. An unknown token costs one look-up for each of them.
pub const MAX_SECRETS: usize = 8;

/// The digest of a token's secret is to be rewritten under the active key. The secret itself stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekey {
    /// The token.
    pub pat_id: Uuid,
    /// The digest that is stored now.
    pub replaces: TokenDigest,
    /// The digest of the same secret under the new key.
    pub digest: TokenDigest,
    /// The new key.
    pub key_id: KeyId,
    /// The fingerprint of the new key's server secret. Only the secret that the store is bound to
    /// may re-key, so two nodes that disagree about the order of their secrets never re-key a token
    /// back and forth.
    pub fingerprint: [u8; 16],
}

/// The result of a re-keying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RekeyOutcome {
    /// The token is stored under the new digest. The earlier digest still finds it.
    Rekeyed,
    /// The token has another digest by now, or it is not active.
    Changed,
    /// The store is bound to another secret: this node's order of secrets is out of date.
    NotBound,
}

/// How much depends on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCount {
    /// The key.
    pub key_id: KeyId,
    /// Active tokens whose digest was made under it.
    pub tokens: u64,
    /// Replaced secrets that are still in their overlap.
    pub overlaps: u64,
    /// Webhooks whose signing secret is derived from it.
    pub webhooks: u64,
}

/// Keeps which server secret is active, and re-keys tokens.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// Binds the store to `new` instead of `old`. `false`, and nothing is changed, if it is bound
    /// to another secret than `old`, or was bound to `new` before: a node with an outdated key file
    /// must not undo a rotation. `audit` tells of the change, in its transaction.
    async fn replace_secret(
        &self,
        old: &[u8; 16],
        new: &[u8; 16],
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;
    /// Rewrites a digest under another key, in one transaction. The earlier digest keeps finding
    /// the token as it does now, and every log entry that names the token's secret names it too,
    /// because an index may hold the token under it.
    async fn rekey_pat(&self, rekey: &Rekey) -> Result<RekeyOutcome, StoreError>;
    /// How much depends on each key at `now`, by key id. Keys that nothing depends on are left out.
    async fn key_counts(&self, now: Timestamp) -> Result<Vec<KeyCount>, StoreError>;
}
