//! A data directory with accounts and tokens in it, and the authority over it, in this process.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use trustrelay_authority::{
    Actor, AuditEntry, Authority, AuthorityConfig, By, Expiry, Issued, MAX_LEASE, NewPat, ServerSecret,
    Store as _, SystemClock, UserRecord,
};
use trustrelay_store::{SqliteOptions, SqliteStore};
use trustrelay_token::{Account, Principal, Token, Verifier as _};
use uuid::Uuid;

/// How many tokens an account gets: what one person may have.
pub(crate) const PER_OWNER: usize = 20;
/// How many are made, or looked up, at a time: as many as the store puts into one commit.
const AT_A_TIME: usize = 500;
/// Room in the index for what is made besides, and for parts of it that fill unevenly.
const ROOM: usize = 100_000;

/// See the module.
pub(crate) struct Data {
    folder: TempDir,
    secret: ServerSecret,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) authority: Arc<Authority>,
}

impl Data {
    /// In a new folder below `within`, with room for so many tokens in the index.
    pub(crate) async fn new(within: &Path, tokens: usize) -> Result<Self> {
        std::fs::create_dir_all(within).with_context(|| format!("{} cannot be made", within.display()))?;
        Self::open(TempDir::new_in(within)?, ServerSecret::generate()?, tokens).await
    }

    /// Over what a folder holds, which is removed at the end.
    pub(crate) async fn open(folder: TempDir, secret: ServerSecret, tokens: usize) -> Result<Self> {
        let store = Arc::new(SqliteStore::open(folder.path(), SqliteOptions::default())?);
        // The longest lease: what is measured is never how this process kept up with it.
        let config = AuthorityConfig {
            lease: MAX_LEASE,
            index_entries: tokens * 2 + ROOM,
            ..AuthorityConfig::default()
        };
        let secrets = std::slice::from_ref(&secret);
        let authority = Authority::open(store.clone(), secrets, Arc::new(SystemClock), config).await?;
        authority.start().await?;
        Ok(Self { folder, secret, store, authority })
    }

    /// Adds accounts: their signed-in browsers.
    pub(crate) async fn owners(&self, number: usize) -> Result<Vec<By>> {
        let now = self.authority.clock().now();
        let expires_at = now.checked_add(SignedDuration::from_hours(1))?;
        let added = stream::iter(0..number).map(|_| self.owner(now, expires_at)).buffer_unordered(AT_A_TIME);
        added.try_collect().await
    }

    async fn owner(&self, created_at: Timestamp, expires_at: Timestamp) -> Result<By> {
        let user_id = Uuid::now_v7();
        let email = format!("{user_id}@example.org");
        let user = UserRecord {
            user_id,
            email: email.clone(),
            // Nobody signs in: there is nothing to hash.
            password_hash: String::new(),
            is_admin: false,
            created_at,
            disabled_at: None,
            upstreams: None,
        };
        let audit = AuditEntry::new(created_at, Actor::OPERATOR, "account.added").of_user(user_id);
        self.store.insert_user(&user, &audit).await?;
        let account = Account { user_id, email: email.into(), ..Account::default() };
        Ok(By::new(Arc::new(Principal::with_session(Arc::new(account), expires_at)), None))
    }

    /// Makes a token as the service does.
    pub(crate) async fn issue(&self, owner: &By) -> Result<Issued> {
        let new = NewPat {
            name: "ci-pipeline".into(),
            scope: "mcp api".into(),
            expiry: Expiry::Default,
            ..NewPat::default()
        };
        Ok(self.authority.issue(owner, new).await?)
    }

    /// Makes many, and keeps of each what is asked for.
    pub(crate) async fn fill<T>(&self, number: usize, keep: impl Fn(Issued) -> T) -> Result<Vec<T>> {
        let owners = self.owners(number.div_ceil(PER_OWNER)).await?;
        let mut kept = Vec::with_capacity(number);
        let mut made =
            stream::iter(0..number).map(|at| self.issue(&owners[at / PER_OWNER])).buffer_unordered(AT_A_TIME);
        while let Some(issued) = made.try_next().await? {
            kept.push(keep(issued));
        }
        Ok(kept)
    }

    /// Has each of these verified, so that the index knows them.
    pub(crate) async fn know(&self, tokens: impl Iterator<Item = &Token>) -> Result<()> {
        let mut verified = stream::iter(tokens)
            .map(|token| self.authority.verify(token.clone()).wait())
            .buffer_unordered(AT_A_TIME);
        while let Some(answer) = verified.next().await {
            answer.context("a token that stands is refused")?;
        }
        Ok(())
    }

    /// Ends the authority; what it wrote stays.
    pub(crate) async fn close(self) -> (TempDir, ServerSecret) {
        self.authority.stop().await;
        (self.folder, self.secret)
    }
}
