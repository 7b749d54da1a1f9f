//! The fence: a node answers from its index only while it holds a lease, and a revocation is
//! answered only when every node that holds one has applied it. This is the node's side; what a
//! revocation waits for is in `wait`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use uuid::Uuid;

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::policy::PolicyRecord;
use crate::record::{Change, LogEntry, UserRecord};
use crate::store::{Lease, Renewal, Store, StoreError, Terminated};
use crate::wait::{Passing, Silent};

/// Longest lease there may be, and so the longest that a node may hold a revocation up. What is
/// waited for is another process's lease, which may be longer than one's own.
pub const MAX_LEASE: Duration = Duration::from_secs(60);
/// How seldom a lease is renewed at most: a revocation waits for it.
const RENEW_WITHIN: Duration = Duration::from_millis(500);
/// How many recent entries' cuts are remembered, for the answer of the revocation that made them.
const REMEMBERED_CUTS: usize = 1024;

/// This node's side of the fence.
pub(crate) struct Fence {
    pub(crate) node_id: Uuid,
    pub(crate) length: Duration,
    /// Until when the index may be used: nanoseconds since boot. 0: not now.
    valid_until: AtomicU64,
    applied: AtomicU64,
    /// Up to which entry every node has applied the log, as far as this one has waited for it.
    passed: AtomicU64,
    /// The wait for that, and for which entry.
    pub(crate) passing: Mutex<Option<(u64, Passing)>>,
    /// What has to be added to the time since boot for the wall clock's, in microseconds, as of the
    /// last look.
    wall: AtomicI64,
    /// Held while entries are applied, so that each is applied once and in order; never across an
    /// await.
    pub(crate) applying: Mutex<BTreeMap<u64, Terminated>>,
    /// Cuts that the store has not been told of.
    unreported: Mutex<Vec<(u64, Terminated)>>,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<Renewing>,
    /// Told whenever the lease was renewed or entries were applied.
    pub(crate) changed: Arc<Notify>,
    pub(crate) stop: Arc<Notify>,
}

/// What entries have changed, as the store has it: not before they were made.
struct News {
    users: Vec<UserRecord>,
    policy: Option<PolicyRecord>,
}

#[derive(Default)]
struct Renewing {
    /// Whether this process is a node, which takes leases at all.
    is_node: bool,
    /// How many claims it has made.
    claims: u64,
}

impl Fence {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            node_id: Uuid::now_v7(),
            // Nobody waits for longer.
            length: length.min(MAX_LEASE),
            valid_until: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            passing: Mutex::default(),
            wall: AtomicI64::new(0),
            applying: Mutex::new(BTreeMap::new()),
            unreported: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            changed: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Whether the index may be used at this time since boot.
    pub(crate) fn holds(&self, since_boot: Duration) -> bool {
        nanos(since_boot) < self.valid_until.load(Ordering::SeqCst)
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Whether it is known here that no node trusts an index that lacks entry `seq`.
    pub(crate) fn has_passed(&self, seq: u64) -> bool {
        self.passed.load(Ordering::SeqCst) >= seq
    }

    pub(crate) fn pass(&self, seq: u64) {
        self.passed.fetch_max(seq, Ordering::SeqCst);
    }
}

/// What a node says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether it holds its lease. If so, whatever any change took away before it was answered is
    /// applied here.
    pub holds: bool,
    /// The wall clock's time, in microseconds since the Unix epoch: what
    /// [`Principal::has_expired_by`] takes.
    ///
    /// [`Principal::has_expired_by`]: trustrelay_token::Principal::has_expired_by
    pub now: i64,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Authority {
    /// Whether this node holds its lease just now. While it does, tokens are verified from memory,
    /// and whatever the log had when any revocation was answered has been applied here: a
    /// [`Principal`](trustrelay_token::Principal) that still stands is not revoked.
    pub fn holds_lease(&self) -> bool {
        self.fence.holds(self.clock.since_boot())
    }

    /// Looks at the lease and the time with one reading of one clock: this is asked before each
    /// frame of each stream. The wall clock is taken as of the last renewal that was tried, and the
    /// time since boot since then; that it was set is noticed by the next renewal.
    pub fn look(&self) -> Look {
        let since_boot = self.clock.since_boot();
        let wall = self.fence.wall.load(Ordering::SeqCst);
        Look { holds: self.fence.holds(since_boot), now: micros(since_boot).saturating_add(wall) }
    }

    /// Whether the policy lets tokens be used from there, as far as it is known here. An unknown
    /// address is `None`.
    pub fn admits_from(&self, address: Option<IpAddr>) -> bool {
        !self.policy.has_networks() || self.policy.allows_from(address)
    }

    /// Compares the two clocks: see [`Authority::look`].
    fn read_clocks(&self) {
        let since_boot = micros(self.clock.since_boot());
        let wall = self.clock.now().as_microsecond().saturating_sub(since_boot);
        self.fence.wall.store(wall, Ordering::SeqCst);
    }

    /// Ends when the lease has been renewed, or a principal may have ceased to stand: whichever
    /// comes first after this was called, also if that is before it is awaited.
    pub fn lease_changed(&self) -> OwnedNotified {
        Arc::clone(&self.fence.changed).notified_owned()
    }

    /// Takes the lease for the first time.
    pub(crate) async fn join(&self) -> Result<(), AuthorityError> {
        let mut renewing = self.fence.renewing.lock().await;
        self.read_clocks();
        self.begin().await?;
        self.renew_alone(&mut renewing).await?;
        renewing.is_node = true;
        Ok(())
    }

    /// Where the index is empty, all that came before is known by default. Whatever is in it
    /// already, from before there was a lease, is brought up to date entry by entry.
    async fn begin(&self) -> Result<(), StoreError> {
        let head = self.store.log_head().await?;
        // After the head: it has what any entry up to there has made of it.
        self.policy.take(self.store.policy().await?);
        if self.index.begins_empty() {
            self.fence.applied.store(head, Ordering::SeqCst);
            self.numbers.applied(head);
        }
        Ok(())
    }

    /// Brings the index up to the log's head, and renews the lease where this process is a node.
    /// Where it is none, in a command or in a server that has given its lease up, what its tokens
    /// hold open is ended all the same.
    pub(crate) async fn renew(&self) -> Result<(), StoreError> {
        let mut renewing = self.fence.renewing.lock().await;
        self.renew_within(&mut renewing).await
    }

    /// Applies the log here up to entry `seq`. Many may wait for that at a time: what one of them
    /// renews is often enough for all.
    pub(crate) async fn catch_up(&self, seq: u64) -> Result<(), StoreError> {
        if self.fence.applied() >= seq {
            return Ok(());
        }
        let mut renewing = self.fence.renewing.lock().await;
        // Whoever had the lock before has perhaps applied it.
        if self.fence.applied() >= seq {
            return Ok(());
        }
        self.renew_within(&mut renewing).await
    }

    async fn renew_within(&self, renewing: &mut Renewing) -> Result<(), StoreError> {
        if renewing.is_node {
            return self.renew_alone(renewing).await;
        }
        if renewing.claims == 0 {
            self.begin().await?;
        }
        loop {
            let entries = self.store.log_after(self.fence.applied()).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let news = self.news(&entries).await?;
            self.apply(&entries, news)?;
        }
    }

    async fn news(&self, entries: &[LogEntry]) -> Result<News, StoreError> {
        let mut users: Vec<UserRecord> = Vec::new();
        for entry in entries {
            if let Change::AdminChanged(user_id) | Change::UpstreamsChanged(user_id) = entry.change
                && !users.iter().any(|user| user.user_id == user_id)
            {
                users.extend(self.store.user_by_id(user_id).await?);
            }
        }
        let is_policy = entries.iter().any(|entry| entry.change == Change::PolicyChanged);
        let policy = if is_policy { Some(self.store.policy().await?) } else { None };
        Ok(News { users, policy })
    }

    async fn renew_alone(&self, renewing: &mut Renewing) -> Result<(), StoreError> {
        loop {
            let asked_at = self.clock.since_boot();
            renewing.claims += 1;
            let lease = Lease {
                node_id: self.fence.node_id,
                claim: renewing.claims,
                applied_seq: self.fence.applied(),
                length: self.fence.length,
                name: self.config.node_name.clone(),
                url: self.config.node_url.clone(),
                cuts: self.fence.unreported.lock().clone(),
            };
            match self.store.renew_lease(&lease).await? {
                Renewal::Held => {
                    // Who waits for it to be over begins to count after `asked_at`; the margin is
                    // for clocks that drift.
                    let margin = self.fence.length / 10;
                    // The lease may have been over for long. What came to its end meanwhile has to
                    // be ended before anything is handed on again.
                    self.read_clocks();
                    self.end_overlaps();
                    let until = asked_at + self.fence.length.saturating_sub(margin);
                    self.fence.valid_until.store(nanos(until), Ordering::SeqCst);
                    self.fence.changed.notify_waiters();
                    // One renewal at a time: nothing was added meanwhile but behind these.
                    self.fence.unreported.lock().drain(..lease.cuts.len());
                    return Ok(());
                }
                Renewal::Behind(entries) => {
                    let news = self.news(&entries).await?;
                    self.apply(&entries, news)?;
                }
            }
        }
    }

    /// Applies entries, each once and in order. An error if none of them is the next one: the log
    /// has a gap.
    fn apply(&self, entries: &[LogEntry], news: News) -> Result<(), StoreError> {
        let mut cuts = self.fence.applying.lock();
        // Before its entry counts as applied.
        news.policy.into_iter().for_each(|policy| self.policy.take(policy));
        let before = self.fence.applied();
        for entry in entries {
            if entry.seq != self.fence.applied() + 1 {
                continue;
            }
            self.index.apply(entry, &news.users);
            let ended = self.end_what_changed(&entry.change);
            let cut = ended.count();
            if !ended.is_nothing() {
                self.fence.unreported.lock().push((entry.seq, ended.clone()));
            }
            cuts.insert(entry.seq, ended);
            while cuts.len() > REMEMBERED_CUTS {
                cuts.pop_first();
            }
            self.fence.applied.store(entry.seq, Ordering::SeqCst);
            self.numbers.applied(entry.seq);
            tracing::info!(seq = entry.seq, cut, "applied a change that removes access");
        }
        drop(cuts);
        self.fence.changed.notify_waiters();
        if self.fence.applied() == before {
            let missing = before + 1;
            return Err(StoreError::Corrupt(format!("the log has no entry {missing} and has later ones")));
        }
        Ok(())
    }

    /// Ends what an entry takes away; what that was.
    fn end_what_changed(&self, change: &Change) -> Terminated {
        let Some(cut) = self.cut.get() else { return Terminated::default() };
        let sessions = |sessions| Terminated { sessions, requests: 0 };
        let requests = |requests: usize| Terminated { sessions: Vec::new(), requests: requests as u64 };
        match change {
            Change::PatsRevoked(pats) => {
                sessions(pats.iter().flat_map(|pat| cut.cut_token(pat.pat_id)).collect())
            }
            Change::UserDisabled(user_id) | Change::UpstreamsChanged(user_id) => {
                sessions(cut.cut_user(*user_id))
            }
            // What is good for a while yet is ended when that is over.
            Change::SecretsRetired(secrets) => {
                let ended = secrets.iter().filter(|secret| secret.ended);
                requests(ended.map(|secret| cut.cut_secret(secret.pat_id, &secret.digest)).sum())
            }
            Change::PolicyChanged => requests(cut.cut_from_elsewhere(self.policy.allows())),
            Change::UserEnabled(_) | Change::AdminChanged(_) => Terminated::default(),
        }
    }

    /// No lease any more, and none again.
    async fn give_up_lease(&self) {
        // With the renewals' lock: one that is on its way must not take the lease again after it
        // was given up.
        let mut renewing = self.fence.renewing.lock().await;
        renewing.is_node = false;
        // What was cut last is in the answer of the revocation that made it, if the store can be
        // told.
        let unreported = !self.fence.unreported.lock().is_empty();
        if unreported && let Err(error) = self.renew_alone(&mut renewing).await {
            tracing::debug!(%error, "could not report the last terminated sessions");
        }
        self.fence.valid_until.store(0, Ordering::SeqCst);
        if let Err(error) = self.store.end_lease(self.fence.node_id).await {
            tracing::debug!(%error, "could not release the lease; it will expire");
        }
    }
}

/// What a node does in the background: renews the lease every quarter of it or sooner, until it is
/// stopped or nobody uses it any more.
pub(crate) struct KeepLease {
    authority: Weak<Authority>,
    store: Arc<dyn Store>,
    stop: Arc<Notify>,
    every: Duration,
    lost: bool,
    silent: Silent,
}

impl KeepLease {
    pub(crate) fn of(authority: &Arc<Authority>) -> Self {
        Self {
            authority: Arc::downgrade(authority),
            store: Arc::clone(&authority.store),
            stop: Arc::clone(&authority.fence.stop),
            every: (authority.fence.length / 4).min(RENEW_WITHIN),
            lost: false,
            silent: Silent::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let stopped = tokio::select! {
                // In this order, so that a schedule is told by its seed; each begins the same
                // renewal, and the end comes first.
                biased;
                () = self.stop.notified() => true,
                () = tokio::time::sleep(self.every) => false,
                () = self.store.log_grew() => false,
            };
            let Some(authority) = self.authority.upgrade() else { return };
            authority.read_clocks();
            authority.end_overlaps();
            if stopped {
                return authority.give_up_lease().await;
            }
            self.renew(&authority).await;
        }
    }

    async fn renew(&mut self, authority: &Authority) {
        match authority.renew().await {
            Ok(()) => {
                authority.mark_ended().await;
                if std::mem::take(&mut self.lost) {
                    tracing::info!("lease renewed: tokens are verified from memory again");
                }
                authority.let_go_of_the_silent(&mut self.silent).await;
                authority.compare_clocks().await;
                authority.look_for_namesakes().await;
            }
            Err(error) => {
                if !self.lost && !authority.holds_lease() {
                    self.lost = true;
                    authority.numbers.lost_lease();
                    tracing::warn!(%error, "lease expired: tokens are verified in the database until the lease is renewed");
                }
            }
        }
    }
}
