//! What a store keeps of rotations: the secrets that a token had before, and how the last one can
//! be answered again.

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use crate::audit::AuditEntry;
use crate::notices::NewNotice;
use crate::record::{PatRecord, UserRecord};
use crate::store::StoreError;

/// How many secrets that it had before are remembered of a token: at some 150 bytes each, 15 KB.
/// One that is older is an unknown token.
pub const RETIRED_SECRETS: usize = 100;

/// Which of its token's secrets one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The one that it has now.
    Current {
        /// Whether its first use ends the one before it.
        ends_another: bool,
    },
    /// One that it had before.
    Retired {
        /// Its digest.
        digest: TokenDigest,
        /// From when on it is refused at the latest.
        valid_until: Timestamp,
        /// Whether it has ended. Then it is refused whatever time it is.
        ended: bool,
        /// `...` and its last four characters.
        hint: String,
    },
}

/// A token that was found by one of its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPat {
    /// The token.
    pub pat: PatRecord,
    /// Its owner.
    pub owner: UserRecord,
    /// By which secret.
    pub secret: Secret,
    /// The latest log entry that ended a secret which the use of a newer one ends. The newer one is
    /// not let in before every node has applied it.
    pub first_use_seq: Option<u64>,
}

/// How an answer can be given again: the secret is made from these, the server's own secret and the
/// caller's idempotency key.
#[derive(Clone, PartialEq, Eq)]
pub struct Repeatable {
    /// SHA-256 of the caller's idempotency key.
    pub key_digest: [u8; 32],
    /// SHA-256 of what was asked for.
    pub asked_digest: [u8; 32],
    /// Random. Once it is forgotten, nobody can make the secret again.
    pub nonce: [u8; 32],
}

impl std::fmt::Debug for Repeatable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Repeatable(…)")
    }
}

/// A new secret for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The token.
    pub pat_id: Uuid,
    /// When.
    pub at: Timestamp,
    /// A digest of the secret that it has now, under whichever key: another one, and nothing is
    /// done.
    pub replaces: TokenDigest,
    /// The digest of the new secret.
    pub digest: TokenDigest,
    /// The key that it was made under.
    pub key_id: KeyId,
    /// The new secret's hint.
    pub hint: String,
    /// From when on the token is refused.
    pub expires_at: Timestamp,
    /// From when on the old secret is refused; never after the token's end as it was.
    pub old_valid_until: Timestamp,
    /// Whether the new secret's first use ends the old one, if that is sooner.
    pub until_first_use: bool,
    /// How it can be answered again.
    pub repeatable: Option<Repeatable>,
}

/// A rotation that was made not long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRotation {
    /// When.
    pub at: Timestamp,
    /// Its log entry.
    pub seq: u64,
    /// From when on the secret before is refused.
    pub old_valid_until: Timestamp,
    /// Whether the first use ends it.
    pub until_first_use: bool,
    /// How it can be answered again.
    pub repeatable: Repeatable,
}

/// What became of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotateOutcome {
    /// Done: the log entry that retires the old secret. That is the one to wait for.
    Rotated(u64),
    /// There is no such token, it is revoked or has expired, or its owner is disabled.
    NotActive,
    /// It has another secret by now.
    Changed,
    /// It would outlive the token that it was made with, or a token that was made with it would
    /// outlive it: one of their lives was changed meanwhile.
    Outlived,
}

/// Keeps rotations.
#[async_trait]
pub trait RotationStore: Send + Sync + 'static {
    /// A token by the digest of a secret that it has or had, revoked and expired ones too, and its
    /// owner. A digest from before a re-keying finds the token by its present secret.
    async fn pat_by_digest(&self, digest: &TokenDigest) -> Result<Option<FoundPat>, StoreError>;
    /// Gives a token a new secret. In one transaction: the token must be active at `at`, its owner
    /// enabled and its secret the one that is replaced; its new life no longer than its parent's,
    /// and no shorter than that of any active token made with it ([`RotateOutcome::Outlived`]);
    /// that one is retired, and has ended if it is good no longer than `at`; earlier ones that had
    /// not ended end; and one log entry names all of these. Of the retired secrets the latest
    /// [`RETIRED_SECRETS`] stay.
    async fn rotate_pat(&self, rotation: &Rotation, audit: &AuditEntry) -> Result<RotateOutcome, StoreError>;
    /// Ends the retired secret that its successor's first use ends, in a log entry: its number.
    /// `None` if there is none, or it has ended already ([`FoundPat::first_use_seq`]).
    async fn retire_secret(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError>;
    /// Ends a token's retired secrets whose overlap is over at `at`, in a log entry: its number.
    /// `None` if there is none that has not ended yet. So whichever node's clock is the first to
    /// say so ends it for all.
    async fn end_overlap(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError>;
    /// The last rotation of a token, if it can be answered again.
    async fn last_rotation(&self, pat_id: Uuid) -> Result<Option<PastRotation>, StoreError>;
    /// Forgets how rotations from before `before` can be answered again; how many.
    async fn forget_rotations(&self, before: Timestamp) -> Result<u64, StoreError>;
    /// Notes that a retired secret was used after its end, at the time of the notice of it, and
    /// keeps that in the same transaction, as by
    /// [`NoticeStore::add_notices`](crate::NoticeStore::add_notices). `false`, and nothing is done,
    /// if it was noted since `since`.
    async fn note_retired_use(
        &self,
        digest: &TokenDigest,
        since: Timestamp,
        notice: &NewNotice,
        mail: bool,
    ) -> Result<bool, StoreError>;
}
