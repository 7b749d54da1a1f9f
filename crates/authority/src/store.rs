//! The trait that a store implements. `contract` says in tests what it must do.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::admin::AdminStore;
use crate::audit::{AuditEntry, AuditStore};
use crate::keys::KeyStore;
use crate::limits::UnusedStore;
use crate::notices::{NewNotice, NoticeStore};
use crate::policy::PolicyStore;
use crate::power::Powerless;
use crate::record::{KeptActivity, LogEntry, PatRecord, SessionRecord, TokenCalls, Usage, UserRecord};
use crate::rotation::RotationStore;

/// How many of a token's calls are kept one by one: at some 150 bytes each, 15 KB a token.
pub const LATEST_CALLS: usize = 100;
/// How many tools of one token have a place of their own on one day; the others share
/// [`OTHER_TOOL`], since clients choose the names. With ten outcomes, 35 days and some 100 bytes a
/// row that is at most 2.2 MB a token; a usual one has a few KB.
pub const TOOLS_A_DAY: usize = 64;
/// How many networks of a token are kept.
pub const KEPT_NETWORKS: usize = 50;
/// How much later a use from a network has to be for its time to be written down: a busy token
/// costs one change a minute.
pub const NETWORK_STEP: SignedDuration = SignedDuration::from_mins(1);
/// What stands for the tools beyond [`TOOLS_A_DAY`].
pub const OTHER_TOOL: &str = "(other)";

/// How many tokens are revoked in one log entry at most, not counting what descends from them: at
/// some 500 bytes of audit each, half a megabyte in one transaction.
pub const REVOKE_BATCH: usize = 1000;

/// Why a store could not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The e-mail address has an account already.
    #[error("an account with this email address already exists")]
    EmailTaken,
    /// The account to write to is not there, or is disabled.
    #[error("the account does not exist or is disabled")]
    UserGone,
    /// The parent token is revoked, expired or not there.
    #[error("the parent token is no longer active")]
    ParentGone,
    /// The account has as many active tokens as it may have.
    #[error("the account has {0} active tokens already")]
    TooManyPats(u64),
    /// None that is enabled would be left who administers.
    #[error("at least one enabled administrator must remain")]
    LastAdministrator,
    /// There are as many open invitations as there may be.
    #[error("there are {0} open invitations already")]
    TooManyInvites(u64),
    /// There are as many webhooks as there may be.
    #[error("there are {0} webhooks already")]
    TooManyWebhooks(u64),
    /// The actor of the change can no longer do it.
    #[error(transparent)]
    Powerless(#[from] Powerless),
    /// It was judged by a policy that another one has replaced.
    #[error("the policy was changed in the meantime")]
    PolicyChanged,
    /// A change that may only narrow an account's upstreams would add one.
    #[error("the account cannot use all of these upstreams")]
    WidensUpstreams,
    /// The store does not answer; it may later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("the database contains unreadable data: {0}")]
    Corrupt(String),
}

/// A node's claim on answering from its index.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The node; a new one for each start.
    pub node_id: Uuid,
    /// Which of the node's claims it is: none has the number of another.
    pub claim: u64,
    /// The last log entry that the node's index has.
    pub applied_seq: u64,
    /// How long the claim holds at most, by the node's own clock and from before it was made. The
    /// same for all claims of a node.
    pub length: Duration,
    /// What people call the node, such as its host and port.
    pub name: String,
    /// The address that the node was given for the others to reach it at, if it was.
    pub url: Option<String>,
    /// What each entry that the node has applied since the last claim has ended there.
    pub cuts: Vec<(u64, Terminated)>,
}

/// What an entry of the log has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminated {
    /// Sessions, each by the number that it has on every node: one that moves from node to node may
    /// be open on several.
    pub sessions: Vec<u64>,
    /// How many streams and calls were ended that are no part of those sessions. Each is on one
    /// node.
    pub requests: u64,
}

impl Terminated {
    /// How many there were, each counted once.
    pub fn count(&self) -> u64 {
        let sessions: HashSet<u64> = self.sessions.iter().copied().collect();
        self.requests.saturating_add(sessions.len() as u64)
    }

    /// Whether nothing was ended.
    pub fn is_nothing(&self) -> bool {
        self.sessions.is_empty() && self.requests == 0
    }
}

/// Adds what was ended elsewhere.
impl Extend<Self> for Terminated {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, others: T) {
        for other in others {
            self.sessions.extend(other.sessions);
            self.requests = self.requests.saturating_add(other.requests);
        }
    }
}

/// A node, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node.
    pub node_id: Uuid,
    /// What people call it.
    pub name: String,
    /// The address that it was given for the others to reach it at, if it was.
    pub url: Option<String>,
    /// Which of its claims is the last one that was granted.
    pub claim: u64,
    /// The last log entry that it has applied.
    pub applied_seq: u64,
    /// How long its lease still holds by the store's clock; `None` if it has run out, or is given
    /// up. For people: nothing rests on that clock.
    pub lease_left: Option<Duration>,
}

/// A node that holds a lease, as a look at its row has found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node_id: Uuid,
    /// Which of its claims holds.
    pub claim: u64,
    /// How long that one holds at most, from the look on.
    pub length: Duration,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It holds. The log's head was `applied_seq` when this was committed.
    Held,
    /// The node is behind: these entries come first (not necessarily all). Nothing was extended.
    Behind(Vec<LogEntry>),
}

/// A token that is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The token.
    pub pat_id: Uuid,
    /// What the audit log says of it.
    pub audit: AuditEntry,
    /// What its owner is told of it, if anything.
    pub notice: Option<NewNotice>,
}

impl Revocation {
    /// Of which nobody is told.
    pub fn untold(pat_id: Uuid, audit: AuditEntry) -> Self {
        Self { pat_id, audit, notice: None }
    }
}

/// What a revocation changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeOutcome {
    /// When the token was first revoked.
    pub revoked_at: Timestamp,
    /// The log entry that revoked it: the one to wait for.
    pub seq: u64,
    /// Whether it was this call that did it.
    pub newly: bool,
}

/// What keeps the truth.
///
/// Each method is one transaction: done durably when it answers `Ok`, and not done at all on `Err`,
/// except that [`StoreError::Unavailable`] may leave a change done whose answer was lost. Times
/// have microseconds. What takes an [`AuditEntry`] appends it to the audit log in the same
/// transaction, if it changes anything. Before anything else in that transaction it asks whether
/// the entry's actor still has the [`Power`](crate::Power) that it acts with, and answers
/// [`StoreError::Powerless`] if not: nobody changes anything with power that was taken away
/// meanwhile. Whoever takes that power away at the same time is waited for, or waits. In the same
/// way a change that was judged by a policy ([`Actor::under_policy`](crate::Actor::under_policy))
/// is [`StoreError::PolicyChanged`] once there is another one.
#[async_trait]
pub trait Store:
    AdminStore + AuditStore + KeyStore + NoticeStore + PolicyStore + RotationStore + UnusedStore
{
    /// Adds an account. [`StoreError::EmailTaken`] if the address (compared as given) is in use.
    async fn insert_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<(), StoreError>;
    /// Adds an account if there is none at all; `false` if there is one.
    async fn insert_first_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<bool, StoreError>;
    /// An account by id.
    async fn user_by_id(&self, user_id: Uuid) -> Result<Option<UserRecord>, StoreError>;
    /// An account by its address.
    async fn user_by_email(&self, email: &str) -> Result<Option<UserRecord>, StoreError>;
    /// All accounts, oldest first.
    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError>;
    /// Whether there is any account.
    async fn has_users(&self) -> Result<bool, StoreError>;
    /// Disables (with a time) or enables (`None`) an account and ends its browser sessions when
    /// disabling. The number of the log entry of the last such change: an account that already is
    /// so is not changed again, but its entry is named. `None` if there is no such account. An
    /// account that never was changed and is enabled names entry 0.
    /// [`StoreError::LastAdministrator`] if none that is enabled would be left.
    async fn set_user_disabled(
        &self,
        user_id: Uuid,
        at: Option<Timestamp>,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError>;
    /// Sets a password hash and ends the account's browser sessions but the one whose digest is
    /// `keep`. [`StoreError::UserGone`] if there is no such account.
    async fn set_password(
        &self,
        user_id: Uuid,
        password_hash: &str,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError>;

    /// Adds a token. In the same transaction: its owner must be there and not disabled
    /// ([`StoreError::UserGone`]), its parent, if it has one, of the same owner, active at
    /// `created_at` and no sooner at its end than the new one ([`StoreError::ParentGone`]), and the
    /// owner must have fewer than `limit` active tokens ([`StoreError::TooManyPats`]).
    async fn insert_pat(&self, pat: &PatRecord, limit: u64, audit: &AuditEntry) -> Result<(), StoreError>;
    /// A token by its id, revoked and expired ones too.
    async fn pat_by_id(&self, pat_id: Uuid) -> Result<Option<PatRecord>, StoreError>;
    /// An account's tokens that are neither revoked nor expired at `now`, newest first (by
    /// `created_at`, then id).
    async fn active_pats(&self, user_id: Uuid, now: Timestamp) -> Result<Vec<PatRecord>, StoreError>;
    /// Revokes tokens, whoever's they are, and all that descend from them, in one log entry; those
    /// that stood until then each with their audit entry, and with their notice, which is kept as
    /// by [`NoticeStore::add_notices`]. The outcome of each, in the given order: `None` if there is
    /// no such token; again: the first outcome, and no notice. At most [`REVOKE_BATCH`], each of
    /// them once.
    async fn revoke_pats(
        &self,
        pats: &[Revocation],
        at: Timestamp,
        mail: bool,
    ) -> Result<Vec<Option<RevokeOutcome>>, StoreError>;
    /// The same, of one token, and nobody is told.
    async fn revoke_pat(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<RevokeOutcome>, StoreError> {
        let revocation = Revocation::untold(pat_id, audit.clone());
        Ok(self.revoke_pats(&[revocation], at, false).await?.pop().flatten())
    }
    /// Adds up uses; `last_used_at` never goes back, and an address or a user agent that is not
    /// known leaves the last that was. Of each network the first and the last use are kept, the
    /// last when it is [`NETWORK_STEP`] later than what is kept (all uses of one call taken
    /// together); of a token's networks the [`KEPT_NETWORKS`] latest used stay, and of those of one
    /// time the first by their text. Unknown tokens are passed over.
    async fn record_usage(&self, notes: &[Usage]) -> Result<(), StoreError>;

    /// Writes down what tokens have called. What comes in `days` is added to what is kept for the
    /// same token, day, upstream, tool and outcome. Of a token's tools of one day (pairs of
    /// upstream and tool, [`OTHER_TOOL`] not counted) the first [`TOOLS_A_DAY`] that come, in the
    /// order of `days`, are kept under their names; others are added to [`OTHER_TOOL`] of their
    /// upstream. `latest` is put to the token's calls, of which the [`LATEST_CALLS`] newest stay:
    /// by time, and of the same time those that came later. Unknown tokens are passed over.
    async fn record_calls(&self, notes: &[TokenCalls]) -> Result<(), StoreError>;
    /// What is known of a token's use: by day from `since` on, and the latest calls and the
    /// networks used from the beginning of `since` (UTC) on. Nothing, of a token that is not known.
    async fn activity(&self, pat_id: Uuid, since: Date) -> Result<KeptActivity, StoreError>;
    /// Forgets calls from before `before` (UTC) and networks that were not used since, at most
    /// `limit` sums, `limit` single calls and `limit` networks, whichever; how many that were.
    async fn forget_calls(&self, before: Date, limit: u64) -> Result<u64, StoreError>;

    /// Adds a browser session. [`StoreError::UserGone`] if its account is not there or disabled.
    async fn insert_session(&self, session: &SessionRecord, audit: &AuditEntry) -> Result<(), StoreError>;
    /// A browser session by its digest, expired ones too, and its account.
    async fn session_by_digest(
        &self,
        digest: &[u8; 32],
    ) -> Result<Option<(SessionRecord, UserRecord)>, StoreError>;
    /// Ends one browser session; whether there was one.
    async fn delete_session(&self, digest: &[u8; 32], audit: &AuditEntry) -> Result<bool, StoreError>;
    /// Ends all browser sessions of an account but `keep`; how many.
    async fn delete_sessions_of(
        &self,
        user_id: Uuid,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<u64, StoreError>;
    /// Removes browser sessions that had expired at `now`; how many.
    async fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// The number of the latest log entry; 0 if there is none.
    async fn log_head(&self) -> Result<u64, StoreError>;
    /// The entries after `seq`, in order, at most 1,000.
    async fn log_after(&self, seq: u64) -> Result<Vec<LogEntry>, StoreError>;
    /// Renews (or takes) a lease: if `applied_seq` is the log's head, the node's row says from then
    /// on that the claim is held, for how long, and up to which entry; else answers the entries
    /// that it lacks, at most 1,000, and extends nothing.
    async fn renew_lease(&self, lease: &Lease) -> Result<Renewal, StoreError>;
    /// Gives a lease up.
    async fn end_lease(&self, node_id: Uuid) -> Result<(), StoreError>;
    /// The nodes that the store knows of, by name and id: those that hold a lease, and perhaps
    /// those that held one not long ago.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;
    /// What entry `seq` has ended on nodes other than `except`, as far as they have said so with a
    /// claim. A session that was open on several of them is named by each.
    async fn cuts(&self, seq: u64, except: Option<Uuid>) -> Result<Terminated, StoreError>;
    /// Ends when the log has grown, as far as the store hears of it: a wake-up, and nothing that
    /// may be relied on. A store that hears nothing waits for ever.
    async fn log_grew(&self) {
        std::future::pending().await
    }
    /// The nodes other than `except` that hold a lease and have not applied entry `seq`. Renewals
    /// that are in progress come to their end first: one that extends a lease after this has found
    /// a head no older than the one that was committed before this was asked. No clock is asked: a
    /// node that died holds its lease until it is let go.
    async fn holders_behind(&self, seq: u64, except: Option<Uuid>) -> Result<Vec<Holder>, StoreError>;
    /// Lets these leases go, as far as each is still of the same claim: whoever asks knows that
    /// they are over.
    async fn let_go(&self, holders: &[Holder]) -> Result<(), StoreError>;

    /// Binds the store to a server secret at first use, by a fingerprint; afterwards says whether
    /// it is the same.
    async fn bind_secret(&self, fingerprint: &[u8; 16]) -> Result<bool, StoreError>;
    /// What time it is by the store's own clock; `None` if it has none but this machine's. For
    /// people and for what nodes seal for each other: no lease and no expiry rests on it.
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
