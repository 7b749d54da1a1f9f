//! The fence: a node answers from its index only while it holds a lease, and a revocation is answered only when
//! every node that holds one has applied it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::{Change, LogEntry};
use crate::store::{Lease, Renewal, StoreError};

/// How often a revocation looks whether the other nodes have applied it.
const ACKNOWLEDGEMENT_POLL: Duration = Duration::from_millis(10);
/// The first such look comes so soon: nodes that were woken have applied the change by then.
const FIRST_POLL: Duration = Duration::from_millis(1);
/// Longest lease there may be, and so the longest that a node may hold a revocation up. What is waited for is another process's
/// lease, which may be longer than one's own.
pub const MAX_LEASE: Duration = Duration::from_secs(60);
/// How seldom a lease is renewed at most: a revocation waits for it.
const RENEW_WITHIN: Duration = Duration::from_millis(500);
/// How many recent entries' cuts are remembered, for the answer of the revocation that made them.
const REMEMBERED_CUTS: usize = 1024;

/// This node's side of the fence.
pub(crate) struct Fence {
    pub(crate) node_id: Uuid,
    length: Duration,
    /// Until when the index may be used: nanoseconds since boot. 0: not now.
    valid_until: AtomicU64,
    applied: AtomicU64,
    /// Held while entries are applied, so that each is applied once and in order; never across an await.
    applying: Mutex<BTreeMap<u64, usize>>,
    /// Cuts that the store has not been told of.
    unreported: Mutex<Vec<(u64, u64)>>,
    /// One renewal at a time; whether this process is a node, which takes leases at all.
    renewing: tokio::sync::Mutex<bool>,
    pub(crate) stop: Notify,
}

impl Fence {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            node_id: Uuid::now_v7(),
            length,
            valid_until: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            applying: Mutex::new(BTreeMap::new()),
            unreported: Mutex::default(),
            renewing: tokio::sync::Mutex::new(false),
            stop: Notify::new(),
        }
    }

    /// Whether the index may be used at this time since boot.
    pub(crate) fn holds(&self, since_boot: Duration) -> bool {
        nanos(since_boot) < self.valid_until.load(Ordering::SeqCst)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Authority {
    /// Takes the lease for the first time: where the index is empty, all that came before is known by default.
    pub(crate) async fn join(&self) -> Result<(), AuthorityError> {
        let mut is_node = self.fence.renewing.lock().await;
        let head = self.store.log_head().await?;
        // Whatever is in the index already, from before there was a lease, is brought up to date entry by entry.
        if self.index.begins_empty() {
            self.fence.applied.store(head, Ordering::SeqCst);
            self.numbers.applied(head);
        }
        self.renew_alone().await?;
        *is_node = true;
        Ok(())
    }

    /// Brings the index up to the log's head and renews the lease. Does nothing where nobody verifies: in a command, or
    /// in a server that has given its lease up.
    pub(crate) async fn renew(&self) -> Result<(), StoreError> {
        let is_node = self.fence.renewing.lock().await;
        if *is_node { self.renew_alone().await } else { Ok(()) }
    }

    async fn renew_alone(&self) -> Result<(), StoreError> {
        loop {
            let asked_at = self.clock.since_boot();
            let lease = Lease {
                node_id: self.fence.node_id,
                applied_seq: self.fence.applied.load(Ordering::SeqCst),
                length: self.fence.length,
                name: self.config.node_name.clone(),
                cuts: self.fence.unreported.lock().clone(),
            };
            match self.store.renew_lease(&lease).await? {
                Renewal::Held => {
                    // The store's clock started to count after `asked_at`; the margin is for clocks that drift.
                    let margin = self.fence.length / 10;
                    let until = asked_at + self.fence.length.saturating_sub(margin);
                    self.fence.valid_until.store(nanos(until), Ordering::SeqCst);
                    // One renewal at a time: nothing was added meanwhile but behind these.
                    self.fence.unreported.lock().drain(..lease.cuts.len());
                    return Ok(());
                }
                Renewal::Behind(entries) => {
                    self.apply(&entries);
                    if self.fence.applied.load(Ordering::SeqCst) == lease.applied_seq {
                        return Err(StoreError::Corrupt(format!(
                            "the log has no entry {} and has later ones",
                            lease.applied_seq + 1
                        )));
                    }
                }
            }
        }
    }

    fn apply(&self, entries: &[LogEntry]) {
        let mut cuts = self.fence.applying.lock();
        for entry in entries {
            if entry.seq != self.fence.applied.load(Ordering::SeqCst) + 1 {
                continue;
            }
            self.index.apply(entry);
            let cut = match &entry.change {
                Change::PatsRevoked(pats) => {
                    pats.iter().map(|pat| self.cut.get().map_or(0, |cut| cut.cut_token(pat.pat_id))).sum()
                }
                Change::UserDisabled(user_id) => self.cut.get().map_or(0, |cut| cut.cut_user(*user_id)),
                Change::UserEnabled(_) => 0,
            };
            cuts.insert(entry.seq, cut);
            if cut > 0 {
                self.fence.unreported.lock().push((entry.seq, cut as u64));
            }
            while cuts.len() > REMEMBERED_CUTS {
                cuts.pop_first();
            }
            self.fence.applied.store(entry.seq, Ordering::SeqCst);
            self.numbers.applied(entry.seq);
            tracing::info!(seq = entry.seq, cut, "applied a change that takes power away");
        }
    }

    /// Waits until entry `seq` is applied here and on every node that holds a lease. How many sessions it cut on all of them.
    pub(crate) async fn wait_for_fence(&self, seq: u64) -> Result<usize, AuthorityError> {
        let begun = self.clock.since_boot();
        let mut pause = FIRST_POLL;
        loop {
            let waited = self.clock.since_boot().saturating_sub(begun);
            match self.settled(seq).await {
                Ok(true) => {
                    self.numbers.settled(self.clock.since_boot().saturating_sub(begun));
                    let here = self.fence.applying.lock().get(&seq).copied().unwrap_or(0);
                    let there = self.store.cuts(seq, Some(self.fence.node_id)).await?;
                    return Ok(here.saturating_add(usize::try_from(there).unwrap_or(usize::MAX)));
                }
                // A node that died holds the answer up for its lease.
                Ok(false) if waited > MAX_LEASE => {
                    let why = "a node has not confirmed the revocation; repeat it";
                    return Err(AuthorityError::Unavailable(StoreError::Unavailable(why.into())));
                }
                // The store may be back soon.
                Err(error) if waited > self.fence.length * 2 => return Err(error.into()),
                Ok(false) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ACKNOWLEDGEMENT_POLL);
        }
    }

    async fn settled(&self, seq: u64) -> Result<bool, StoreError> {
        if self.fence.applied.load(Ordering::SeqCst) < seq {
            self.renew().await?;
        }
        Ok(self.store.nodes_behind(seq, Some(self.fence.node_id)).await? == 0)
    }

    /// Renews the lease every quarter of it or sooner, until stopped.
    pub(crate) async fn keep_lease(self: Arc<Self>) {
        let mut lost = false;
        loop {
            tokio::select! {
                // In this order, so that a schedule is told by its seed; each begins the same renewal, and the end comes first.
                biased;
                () = self.fence.stop.notified() => break,
                () = tokio::time::sleep((self.fence.length / 4).min(RENEW_WITHIN)) => {}
                () = self.store.log_grew() => {}
            }
            match self.renew().await {
                Ok(()) if lost => {
                    lost = false;
                    tracing::info!("the lease is held again: tokens are verified from memory");
                }
                Ok(()) => {}
                Err(error) => {
                    if !lost && !self.fence.holds(self.clock.since_boot()) {
                        lost = true;
                        self.numbers.lost_lease();
                        tracing::warn!(%error, "the lease ran out: every token is verified in the store until it is renewed");
                    }
                }
            }
        }
        // With the renewals' lock: one that is on its way must not take the lease again after it was given up.
        let mut is_node = self.fence.renewing.lock().await;
        *is_node = false;
        self.fence.valid_until.store(0, Ordering::SeqCst);
        if let Err(error) = self.store.end_lease(self.fence.node_id).await {
            tracing::debug!(%error, "the lease could not be given up; it runs out by itself");
        }
    }
}
