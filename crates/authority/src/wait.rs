//! What a revocation waits for: the nodes that hold a lease and lack its entry, or the time after
//! which none of them can trust it.
//!
//! No clock but one's own is asked, and that only for how much time goes by. A look at all rows
//! comes after the entry's commit; what a node has not been given by then it is not given without
//! the entry. So each that lacks it trusts its index for the length of its lease at most, from the
//! look on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::fence::MAX_LEASE;
use crate::store::{Holder, StoreError};

/// How often a revocation looks whether the other nodes have applied it.
const ACKNOWLEDGEMENT_POLL: Duration = Duration::from_millis(10);
/// The second look comes so soon: nodes that were woken have applied the change by then.
const FIRST_POLL: Duration = Duration::from_millis(1);
/// How many of its leases a node waits until it looks again for others that hold one and are
/// silent.
const LOOK_FOR_SILENT: u32 = 4;

/// A wait that is under way, for as many as want to know.
pub(crate) type Passing = Shared<oneshot::Receiver<bool>>;

/// The nodes that hold a lease, each with when that claim of it was seen first, by one's own clock.
#[derive(Default)]
pub(crate) struct Silent {
    looked_at: Duration,
    seen: Vec<(Holder, Duration)>,
}

impl Authority {
    /// Waits until entry `seq` is applied here, and no other node trusts an index that lacks it.
    /// How many sessions it ended on all of them: one that was open on several is one.
    pub(crate) async fn wait_for_fence(&self, seq: u64) -> Result<usize, AuthorityError> {
        let begun = self.clock.since_boot();
        self.pass_fence(seq).await?;
        self.settled(seq, begun).await
    }

    /// Whether no node trusts an index that lacks entry `seq`, after a while. However many ask at a
    /// time, the store is asked once.
    pub(crate) async fn pass_fence_together(self: &Arc<Self>, seq: u64) -> bool {
        if self.fence.has_passed(seq) {
            return true;
        }
        let passing = {
            let mut passing = self.fence.passing.lock();
            match &*passing {
                Some((entry, passing)) if *entry >= seq && passing.peek().is_none() => passing.clone(),
                _ => {
                    let (answer, asked) = oneshot::channel();
                    let asked = asked.shared();
                    *passing = Some((seq, asked.clone()));
                    let me = Arc::clone(self);
                    // A task of its own: it goes on even if those who wait for it go away.
                    tokio::spawn(async move {
                        let passed = me.pass_fence(seq).await;
                        if let Err(error) = &passed {
                            tracing::warn!(%error, "could not end the previous secret of a token on all nodes after the first use of its new secret");
                        }
                        let _ = answer.send(passed.is_ok());
                    });
                    asked
                }
            }
        };
        passing.await.unwrap_or(false)
    }

    /// Waits until no node trusts an index that lacks entry `seq`.
    pub(crate) async fn pass_fence(&self, seq: u64) -> Result<(), AuthorityError> {
        let mut answered = self.clock.since_boot();
        let mut looked_at = None;
        let mut pause = FIRST_POLL;
        loop {
            match self.behind(seq).await {
                Ok(behind) => {
                    answered = self.clock.since_boot();
                    // Not before the look: a renewal that it waited for may have begun while it
                    // did.
                    let since = answered.saturating_sub(*looked_at.get_or_insert(answered));
                    if behind.iter().all(|node| node.length <= since) {
                        self.let_go(&behind).await;
                        self.fence.pass(seq);
                        return Ok(());
                    }
                    // It says that it holds one for longer than a node may.
                    if since > MAX_LEASE {
                        let why = "a node has not confirmed the revocation; repeat it";
                        return Err(AuthorityError::Unavailable(StoreError::Unavailable(why.into())));
                    }
                }
                // The store may be back soon.
                Err(error) => {
                    if self.clock.since_boot().saturating_sub(answered) > self.fence.length * 2 {
                        return Err(error.into());
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ACKNOWLEDGEMENT_POLL);
        }
    }

    async fn settled(&self, seq: u64, begun: Duration) -> Result<usize, AuthorityError> {
        self.numbers.settled(self.clock.since_boot().saturating_sub(begun));
        let here = self.fence.applying.lock().get(&seq).cloned();
        let mut ended = self.store.cuts(seq, Some(self.fence.node_id)).await?;
        ended.extend(here);
        Ok(usize::try_from(ended.count()).unwrap_or(usize::MAX))
    }

    /// Applies entry `seq` here, and looks who else lacks it.
    async fn behind(&self, seq: u64) -> Result<Vec<Holder>, StoreError> {
        self.catch_up(seq).await?;
        self.store.holders_behind(seq, Some(self.fence.node_id)).await
    }

    /// So that they delay nobody again. The promise does not rest on it.
    async fn let_go(&self, over: &[Holder]) {
        if over.is_empty() {
            return;
        }
        match self.store.let_go(over).await {
            Ok(()) => tracing::warn!(nodes = ?ids(over), "the leases of silent nodes have expired"),
            Err(error) => tracing::debug!(%error, "could not remove expired leases"),
        }
    }

    /// Looks now and then for nodes that hold a lease and have not renewed it for its length: so a
    /// node that died delays the revocations that come soon after, and none later.
    pub(crate) async fn let_go_of_the_silent(&self, silent: &mut Silent) {
        let now = self.clock.since_boot();
        if now.saturating_sub(silent.looked_at) < self.fence.length * LOOK_FOR_SILENT {
            return;
        }
        let Ok(holders) = self.store.holders_behind(u64::MAX, Some(self.fence.node_id)).await else { return };
        silent.looked_at = self.clock.since_boot();
        let before = std::mem::take(&mut silent.seen);
        let mut over = Vec::new();
        for holder in holders {
            let seen = before.iter().find(|(before, _)| *before == holder);
            let since = seen.map_or(silent.looked_at, |(_, since)| *since);
            if holder.length <= now.saturating_sub(since) {
                over.push(holder);
            } else {
                silent.seen.push((holder, since));
            }
        }
        self.let_go(&over).await;
    }
}

fn ids(holders: &[Holder]) -> Vec<uuid::Uuid> {
    holders.iter().map(|holder| holder.node_id).collect()
}
