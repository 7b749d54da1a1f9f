//! Sessions with an upstream that are shared: by all stateless requests of one token, and on pipes
//! by the token's sessions.
//!
//! A session belongs to one token and one set of client capabilities. Therefore no data of one
//! token reaches another, and the upstream asks a client only for things that the client supports.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use trustrelay_token::Principal;
use uuid::Uuid;

use crate::envelope::RawObject;
use crate::registry::{Kind, Registry};
use crate::upstream::{Fault, Link, Upstream};

/// The token that a session belongs to, and the capabilities of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pat_id: Uuid,
    /// SHA-256 of the version and the capabilities, because clients choose their length.
    capabilities: [u8; 32],
}

impl Key {
    pub(crate) fn new(pat_id: Uuid, version: &str, capabilities: &str) -> Self {
        let digest = Sha256::new_with_prefix(version).chain_update([0]).chain_update(capabilities);
        Self { pat_id, capabilities: digest.finalize().into() }
    }
}

/// A token may use one part in this many of an upstream's processes or shared sessions. The other
/// tokens always have three quarters of them.
const SHARE_OF_TOKEN: usize = 4;

/// Returns the part of `most` that one token may use, at least 1.
fn share_of_token(most: usize) -> usize {
    (most / SHARE_OF_TOKEN).max(1)
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Link>>>>;

#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<Key, (Instant, Slot)>>);

impl Pool {
    /// Finds or creates a slot. `most` limits the slots of all tokens, `most_of_token` those of the
    /// key's token.
    fn slot(&self, key: &Key, most: usize, most_of_token: usize) -> Result<Slot, Fault> {
        let mut slots = self.0.lock();
        let of_token = |other: &Key| other.pat_id == key.pat_id;
        if !slots.contains_key(key) && slots.keys().filter(|key| of_token(key)).count() >= most_of_token {
            let own = slots.iter().filter(|(key, (_, slot))| of_token(key) && is_idle(slot));
            let Some(oldest) = own.min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key) else {
                return Err(Fault::TokenBusy);
            };
            if let Some((_, slot)) = slots.remove(&oldest) {
                tokio::spawn(close(slot));
            }
        }
        if !slots.contains_key(key) && slots.len() >= most {
            let idle = slots.iter().filter(|(_, (_, slot))| is_idle(slot)).min_by_key(|(_, (used, _))| *used);
            let Some(key) = idle.map(|(key, _)| *key) else { return Err(Fault::Busy) };
            if let Some((_, slot)) = slots.remove(&key) {
                tokio::spawn(close(slot));
            }
        }
        let (used, slot) = slots.entry(*key).or_insert_with(|| (Instant::now(), Slot::default()));
        *used = Instant::now();
        Ok(Arc::clone(slot))
    }

    /// Ends the sessions that were not used for this long.
    pub(crate) fn sweep(&self, idle: std::time::Duration) {
        let mut ended = Vec::new();
        self.0.lock().retain(|_, (used, slot)| {
            let keep = used.elapsed() < idle || !is_idle(slot);
            if !keep {
                ended.push(Arc::clone(slot));
            }
            keep
        });
        for slot in ended {
            tokio::spawn(close(slot));
        }
    }

    /// Ends the idle session that was unused for longest, if there is one. Returns whether it ended
    /// within the time.
    async fn make_room(&self, wait: std::time::Duration) -> bool {
        let slot = {
            let mut slots = self.0.lock();
            let idle =
                slots.iter().filter(|(_, (_, slot))| holds_idle(slot)).min_by_key(|(_, (used, _))| *used);
            let Some(key) = idle.map(|(key, _)| *key) else { return false };
            slots.remove(&key).map(|(_, slot)| slot)
        };
        let Some(slot) = slot else { return false };
        let Some(link) = slot.lock().await.take() else { return false };
        link.close().await;
        tokio::time::timeout(wait, link.closed()).await.is_ok()
    }

    /// Removes a session that the upstream has ended.
    pub(crate) async fn forget(&self, key: &Key, link: &Arc<Link>) {
        let slot = self.0.lock().get(key).map(|(_, slot)| Arc::clone(slot));
        if let Some(slot) = slot {
            let mut slot = slot.lock().await;
            if slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
                *slot = None;
            }
        }
    }

    pub(crate) async fn close(&self) {
        let slots: Vec<Slot> = self.0.lock().drain().map(|(_, (_, slot))| slot).collect();
        futures_util::future::join_all(slots.into_iter().map(close)).await;
    }
}

/// Returns whether nothing but the pool uses the slot.
fn is_idle(slot: &Slot) -> bool {
    Arc::strong_count(slot) == 1
        && slot.try_lock().is_ok_and(|held| held.as_ref().is_none_or(|link| Arc::strong_count(link) == 1))
}

/// Returns whether the slot is idle and contains a session.
fn holds_idle(slot: &Slot) -> bool {
    is_idle(slot) && slot.try_lock().is_ok_and(|held| held.is_some())
}

/// Listens to a process for changes of its lists, which it announces on its own pipe.
async fn hear(upstream: Arc<Upstream>, link: Weak<Link>) {
    let said = match link.upgrade() {
        Some(link) => link.listen().await,
        None => return,
    };
    let Ok(mut said) = said else { return };
    while let Some(message) = said.next().await {
        if let Some(message) = message {
            upstream.heard(message.method());
        }
    }
}

async fn close(slot: Slot) {
    let link = slot.lock().await.take();
    if let Some(link) = link {
        link.close().await;
    }
}

impl Upstream {
    /// Returns the token's shared session, opened on first use. `None` if the upstream speaks only
    /// the stateless era. The session is closed when the token is cut, or when it was not used for
    /// a while.
    pub(crate) async fn pooled(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        principal: &Principal,
        key: &Key,
        init: &RawObject,
    ) -> Result<Option<Arc<Link>>, Fault> {
        let most = if self.is_stdio() {
            share_of_token(self.limits.processes)
        } else {
            share_of_token(self.limits.pooled).min(self.limits.sessions_per_token)
        };
        let slot = self.pool.slot(key, self.limits.pooled, most)?;
        let mut held = slot.lock().await;
        if let Some(link) = held.as_ref().filter(|link| link.is_alive()) {
            return Ok(Some(Arc::clone(link)));
        }
        let entry = registry.register(principal, key.pat_id, Kind::Link);
        if !principal.stands() {
            return Err(Fault::SessionGone);
        }
        let opened = match self.session(init).await {
            Err(Fault::Busy) if self.pool.make_room(self.limits.farewell).await => self.session(init).await,
            opened => opened,
        };
        let Some(link) = opened? else { return Ok(None) };
        *held = Some(Arc::clone(&link));
        drop(held);
        if self.is_stdio() {
            tokio::spawn(hear(Arc::clone(self), Arc::downgrade(&link)));
        }
        let (upstream, key, weak) = (Arc::clone(self), *key, Arc::downgrade(&slot));
        let ending = Arc::downgrade(&link);
        tokio::spawn(async move {
            let gone = async {
                // The pool's sweep drops the link without a notification, so this task polls.
                while ending.strong_count() > 0 {
                    tokio::time::sleep(upstream.limits.idle / 4).await;
                }
            };
            tokio::select! {
                () = entry.cancel.cancelled() => {
                    let slot = weak.upgrade();
                    upstream.pool.0.lock().remove(&key);
                    if let Some(link) = ending.upgrade() {
                        // The calls still send their own farewells on the link.
                        link.calls.close();
                        let _ = tokio::time::timeout(upstream.limits.farewell, link.calls.wait()).await;
                    }
                    if let Some(slot) = slot {
                        close(slot).await;
                    }
                }
                () = gone => {}
            }
        });
        Ok(Some(link))
    }
}
