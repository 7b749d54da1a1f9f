//! What a store does for administrators.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::admin::Cursor;
use crate::audit::AuditEntry;
use crate::record::{PatRecord, UserRecord};
use crate::store::StoreError;

/// Most rows on one page of a list: at some 500 bytes each, 100 KB of JSON.
pub const MAX_PAGE: u64 = 200;

/// An invitation, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteRecord {
    /// Its identity (UUIDv7).
    pub invite_id: Uuid,
    /// The keyed digest of the link's secret.
    pub digest: [u8; 32],
    /// Who is invited, lower-cased.
    pub email: String,
    /// Whether the account will administer this TrustRelay.
    pub is_admin: bool,
    /// Who has invited; nobody, if it was the operator.
    pub created_by: Option<Uuid>,
    /// When.
    pub created_at: Timestamp,
    /// From when on the link no longer works.
    pub expires_at: Timestamp,
}

/// What of an account an administrator changes, beside whether it is disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// Whether it administers this TrustRelay.
    Admin(bool),
    /// Which upstreams it may use; `None`: all.
    Upstreams(Option<Vec<String>>),
    /// Which upstreams it may use, each of them one that it may use already:
    /// [`StoreError::WidensUpstreams`] otherwise.
    NarrowUpstreams(Vec<String>),
}

impl UserChange {
    /// Checks a narrowing against the upstreams that the account may use (`None`: all). Stores call
    /// it inside the transaction, so that a change that commits at the same time cannot turn it
    /// into a widening.
    ///
    /// # Errors
    /// [`StoreError::WidensUpstreams`]
    pub fn check_narrowing<'n>(
        &self,
        current: Option<impl IntoIterator<Item = &'n str>>,
    ) -> Result<(), StoreError> {
        let (Self::NarrowUpstreams(names), Some(current)) = (self, current) else { return Ok(()) };
        let current: Vec<&str> = current.into_iter().collect();
        if names.iter().all(|name| current.contains(&name.as_str())) {
            Ok(())
        } else {
            Err(StoreError::WidensUpstreams)
        }
    }
}

/// Which accounts are asked for. What is `None` is left open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// The address holds this, ASCII letters in either case.
    pub email: Option<String>,
    /// It administers, or does not.
    pub is_admin: Option<bool>,
    /// It is disabled, or is not.
    pub is_disabled: Option<bool>,
}

/// A page of accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPage {
    /// The accounts, newest first (by `created_at`, then id), each with how many tokens it has that
    /// are not revoked and not expired.
    pub users: Vec<(UserRecord, u64)>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// Whose tokens are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatOwner {
    /// This account's.
    Id(Uuid),
    /// Those of the accounts whose address, in lower case as it is kept, begins with this.
    Email(String),
}

/// What has become of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatState {
    /// Neither expired nor revoked.
    Active,
    /// Expired, and not revoked.
    Expired,
    /// Revoked.
    Revoked,
}

/// Which tokens are asked for. What is `None` is left open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatFilter {
    /// Whose they are.
    pub owner: Option<PatOwner>,
    /// The name begins with this, ASCII letters in either case.
    pub name: Option<String>,
    /// The hint is this one: `...` and the last four characters.
    pub hint: Option<String>,
    /// What has become of them.
    pub state: Option<PatState>,
    /// They expire, or have expired, before this. Without a state: and are not revoked.
    pub expires_before: Option<Timestamp>,
    /// They were not used at this time or after it; one that never was counts from when it was
    /// made. Without a state: and are not revoked.
    pub unused_since: Option<Timestamp>,
}

impl PatFilter {
    /// Whether it fits everybody's tokens, or all of a state.
    pub fn is_open(&self) -> bool {
        let says_owner = match &self.owner {
            None => false,
            Some(PatOwner::Id(_)) => true,
            Some(PatOwner::Email(start)) => !start.trim().is_empty(),
        };
        let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let says_when = self.expires_before.is_some() || self.unused_since.is_some();
        !(says_owner || says(&self.name) || says(&self.hint) || says_when)
    }
}

/// A page of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatPage {
    /// The tokens in the filter's order ([`PatFilter::order`]), each with its owner's address.
    pub pats: Vec<(PatRecord, String)>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// Keeps what administrators decide.
#[async_trait]
pub trait AdminStore: Send + Sync + 'static {
    /// Adds an invitation, in place of an earlier one of the same address; those that had expired
    /// at its `created_at` go. [`StoreError::EmailTaken`] if the address has an account;
    /// [`StoreError::TooManyInvites`] if there are `limit` others.
    async fn insert_invite(
        &self,
        invite: &InviteRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError>;
    /// An invitation by the digest of its secret, expired ones too.
    async fn invite_by_digest(&self, digest: &[u8; 32]) -> Result<Option<InviteRecord>, StoreError>;
    /// The invitations that have not expired at `now`, newest first.
    async fn invites(&self, now: Timestamp) -> Result<Vec<InviteRecord>, StoreError>;
    /// Takes an invitation back; whether there was one.
    async fn delete_invite(&self, invite_id: Uuid, audit: &AuditEntry) -> Result<bool, StoreError>;
    /// Makes the account that an invitation is for and ends the invitation, if it is there and has
    /// not expired at the account's `created_at`; whether it was. [`StoreError::EmailTaken`] if the
    /// address has an account by now.
    async fn accept_invite(
        &self,
        digest: &[u8; 32],
        user: &UserRecord,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;
    /// Changes an account. The number of the log entry to wait for, as
    /// [`Store::set_user_disabled`](crate::Store::set_user_disabled) answers it; 0 if it never was
    /// changed. [`StoreError::LastAdministrator`] if none that is enabled would be left.
    async fn change_user(
        &self,
        user_id: Uuid,
        change: &UserChange,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError>;
    /// The accounts that a filter fits after a row, at most `limit`. Which of their tokens are
    /// active is as of `now`.
    async fn search_users(
        &self,
        filter: &UserFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<UserPage, StoreError>;
    /// The tokens, whoever's they are, that a filter fits after a row, at most `limit`. What has
    /// expired is as of `now`.
    async fn search_pats(
        &self,
        filter: &PatFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<PatPage, StoreError>;
    /// How many tokens a filter fits; no more than `most` are counted.
    async fn count_pats(&self, filter: &PatFilter, most: u64, now: Timestamp) -> Result<u64, StoreError>;
}
