//! When a token was last used: noted in memory, bounded, written down in batches. Never on the path
//! of an answer.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use trustrelay_token::{Network, Principal};
use uuid::Uuid;

use crate::authority::Authority;
use crate::record::{NetworkUse, PatRecord, Usage};
use crate::store::KEPT_NETWORKS;

/// How many tokens' uses wait at most: at some 150 bytes each, 15 MB. Past that the oldest
/// knowledge stays as it is.
const MAX_WAITING: usize = 100_000;
/// So that requests on several threads seldom meet.
const SHARDS: usize = 16;
/// How many notes go into one write.
const BATCH: usize = 500;
/// How much of a client's name for itself is kept, in bytes.
const MAX_AGENT: usize = 200;

/// Each on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Shard(Mutex<HashMap<Uuid, Usage>>);

#[derive(Default)]
pub(crate) struct UsageLog {
    waiting: [Shard; SHARDS],
    /// What the last flush took. It stays visible until the next: who reads may have read the store
    /// just before.
    flushed: Mutex<HashMap<Uuid, Timestamp>>,
    /// One flush at a time.
    flushing: tokio::sync::Mutex<()>,
    pub(crate) stop: Arc<Notify>,
}

impl UsageLog {
    fn waiting(&self, pat_id: Uuid) -> MutexGuard<'_, HashMap<Uuid, Usage>> {
        // The last byte of a token's id is random (RFC 9562 §5.7).
        let [.., last] = *pat_id.as_bytes();
        self.waiting[usize::from(last) % SHARDS].0.lock()
    }

    /// All that waits, which then waits no longer.
    fn take(&self) -> Vec<Usage> {
        let mut flushed = self.flushed.lock();
        flushed.clear();
        let mut taken = Vec::new();
        for shard in &self.waiting {
            let mut waiting = shard.0.lock();
            flushed.extend(waiting.values().map(|note| (note.pat_id, note.last_used_at)));
            taken.extend(std::mem::take(&mut *waiting).into_values().map(|mut note| {
                note.close();
                note
            }));
        }
        taken
    }
}

impl Usage {
    /// Puts the latest use to the networks: done for the first and the last of all uses from one
    /// address in a row.
    fn close(&mut self) {
        if let Some(address) = self.address {
            let (network, at) = (Network::around(address), self.last_used_at);
            self.add(NetworkUse { network, first_used_at: at, last_used_at: at });
        }
    }

    fn add(&mut self, used: NetworkUse) {
        if let Some(known) = self.networks.iter_mut().find(|known| known.network == used.network) {
            *known = known.and(&used);
        } else if self.networks.len() < KEPT_NETWORKS {
            self.networks.push(used);
        }
    }
}

impl Authority {
    /// Notes that a token was accepted. Does nothing for browser sessions.
    pub fn note_use(&self, principal: &Principal, address: Option<IpAddr>, user_agent: Option<&str>) {
        let Some(pat_id) = principal.pat_id() else {
            return;
        };
        let now = self.clock.now();
        let mut waiting = self.usage.waiting(pat_id);
        if let Some(note) = waiting.get_mut(&pat_id) {
            if note.address != address {
                note.close();
                (note.address, note.last_used_at) = (address, now);
                note.close();
            }
            note.last_used_at = now;
            note.count += 1;
            if note.user_agent.as_deref() != user_agent {
                note.user_agent = user_agent.map(clipped);
            }
        } else if waiting.len() < MAX_WAITING / SHARDS {
            let user_agent = user_agent.map(clipped);
            let (last_used_at, networks) = (now, Vec::new());
            let mut note = Usage { pat_id, last_used_at, address, user_agent, count: 1, networks };
            note.close();
            waiting.insert(pat_id, note);
        }
    }

    /// A record with the use that has not reached the store yet.
    pub(crate) fn with_latest_use(&self, mut pat: PatRecord) -> PatRecord {
        // In this order: a flush takes notes from the first to the second.
        let waiting = self.usage.waiting(pat.pat_id).get(&pat.pat_id).map(|note| note.last_used_at);
        let flushed = self.usage.flushed.lock().get(&pat.pat_id).copied();
        pat.last_used_at = pat.last_used_at.max(waiting).max(flushed);
        pat
    }

    /// Where a token was used from, and by what, as far as that has not reached the store yet.
    pub(crate) fn latest_origin(&self, pat_id: Uuid) -> Option<Usage> {
        let mut waiting = self.usage.waiting(pat_id);
        let note = waiting.get_mut(&pat_id)?;
        note.close();
        Some(note.clone())
    }

    /// Writes down what waits. What the store does not take waits on.
    pub async fn flush_usage(&self) {
        let _one_at_a_time = self.usage.flushing.lock().await;
        for batch in self.usage.take().chunks(BATCH) {
            if let Err(error) = self.store.record_usage(batch).await {
                tracing::warn!(%error, tokens = batch.len(), "could not write the last uses of tokens; keeping them for the next attempt");
                for note in batch {
                    let mut again = self.usage.waiting(note.pat_id);
                    let newer = again.entry(note.pat_id).or_insert_with(|| Usage {
                        count: 0,
                        networks: Vec::new(),
                        ..note.clone()
                    });
                    newer.count += note.count;
                    note.networks.iter().for_each(|network| newer.add(*network));
                }
            }
        }
    }
}

/// Writes uses, calls and refusals down, now and then, until it is stopped or nobody uses the
/// authority any more.
pub(crate) async fn keep_usage(authority: Weak<Authority>) {
    let Some((every, stop)) =
        authority.upgrade().map(|me| (me.config.usage_flush, Arc::clone(&me.usage.stop)))
    else {
        return;
    };
    loop {
        let stopped = tokio::select! {
            () = stop.notified() => true,
            () = tokio::time::sleep(every) => false,
        };
        let Some(authority) = authority.upgrade() else { return };
        authority.flush_usage().await;
        authority.flush_calls().await;
        authority.forget_rotations().await;
        authority.flush_rekeys().await;
        authority.flush_refusals(stopped).await;
        authority.keep_audit(stopped).await;
        if stopped {
            return;
        }
    }
}

fn clipped(text: &str) -> String {
    let mut end = text.len().min(MAX_AGENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
