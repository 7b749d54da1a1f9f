//! Rotation of the server's secret: which of several secrets is active, and how tokens come to be
//! kept under it as they are used.
//!
//! Of the secrets that a node is given, the one that the store is bound to is active: new digests
//! are made under it. All others only verify. A server that starts with a secret in front that the
//! store has never been bound to moves the binding forward; commands never do, so that they make
//! nothing that a running server cannot verify. docs/SECRETS.md has the procedure.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use parking_lot::Mutex;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use crate::audit::{Actor, AuditEntry};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::judgment::judge;
use crate::keys::{KeyCount, MAX_SECRETS, Rekey, RekeyOutcome};
use crate::rotation::Secret;
use crate::secret::ServerSecret;
use crate::store::Store;

/// How many tokens wait for their re-keying at most: at some 100 bytes each, 1 MB. Others are noted
/// again when they are next used.
const MAX_WAITING: usize = 10_000;
/// How many are re-keyed in one go, every few seconds.
const BATCH: usize = 500;
/// How many of those at a time: few, so that other changes find the store free.
const AT_A_TIME: usize = 8;
/// How many digests are remembered that cannot be re-keyed, such as those of replaced secrets in
/// their overlap: at some 40 bytes each, 400 KB.
const MAX_SETTLED: usize = 10_000;

/// The tokens that were used under an older key.
#[derive(Default)]
pub(crate) struct Rekeying {
    /// By token: the digest that found it, and the one under the active key.
    waiting: Mutex<HashMap<Uuid, (TokenDigest, TokenDigest)>>,
    settled: Mutex<HashSet<TokenDigest>>,
    /// The store has been bound to another secret since this node started.
    is_over: AtomicBool,
}

impl Rekeying {
    /// Notes that a token was used under an older key. Never on the path of a warm verification.
    pub(crate) fn note(&self, pat_id: Uuid, replaces: TokenDigest, digest: TokenDigest) {
        if self.is_over.load(Ordering::Relaxed) || self.settled.lock().contains(&replaces) {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            waiting.insert(pat_id, (replaces, digest));
        }
    }

    fn take(&self) -> Vec<(Uuid, (TokenDigest, TokenDigest))> {
        let mut waiting = self.waiting.lock();
        let ids: Vec<Uuid> = waiting.keys().copied().take(BATCH).collect();
        ids.iter().filter_map(|id| waiting.remove_entry(id)).collect()
    }

    fn settle(&self, digest: TokenDigest) {
        let mut settled = self.settled.lock();
        if settled.len() >= MAX_SETTLED {
            settled.clear();
        }
        settled.insert(digest);
    }
}

/// The secrets with the active one in front. `adopt`: the first one becomes active, unless the
/// store was bound to it before.
pub(crate) async fn active_first<'a>(
    store: &dyn Store,
    secrets: &'a [ServerSecret],
    adopt: bool,
    now: Timestamp,
) -> Result<Vec<&'a ServerSecret>, AuthorityError> {
    if secrets.len() > MAX_SECRETS {
        return Err(AuthorityError::Conflict(format!(
            "there are {} server secrets, but at most {MAX_SECRETS} are allowed; retire those that nothing depends on",
            secrets.len()
        )));
    }
    let Some(mut active) = bound(store, secrets).await? else {
        return Err(AuthorityError::Conflict(
            "the server secret does not belong to this data; use the key file that the data was written with"
                .into(),
        ));
    };
    if let (true, Some(newest)) = (adopt && active > 0, secrets.first()) {
        let (old, new) = (secrets[active].fingerprint(), newest.fingerprint());
        let audit = AuditEntry::new(now, Actor::SYSTEM, "secret.activated")
            .with("key", newest.key_name())
            .with("replaces", secrets[active].key_name());
        // Another node may have done it at the same moment.
        if store.replace_secret(&old, &new, &audit).await? || store.bind_secret(&new).await? {
            tracing::info!(key = %newest.key_name(), "activated this server secret");
            active = 0;
        }
    }
    let mut ordered: Vec<_> = secrets.iter().collect();
    let first = ordered.remove(active);
    ordered.insert(0, first);
    Ok(ordered)
}

/// The position of the secret that the store is bound to.
async fn bound(store: &dyn Store, secrets: &[ServerSecret]) -> Result<Option<usize>, AuthorityError> {
    // Twice: another node may move the binding while this one asks.
    for _ in 0..2 {
        for (at, secret) in secrets.iter().enumerate() {
            if store.bind_secret(&secret.fingerprint()).await? {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

impl Authority {
    /// How much depends on each of the server's secrets, by key id.
    pub async fn key_counts(&self) -> Result<Vec<KeyCount>, AuthorityError> {
        Ok(self.store.key_counts(self.clock.now()).await?)
    }

    /// The key of the active server secret.
    pub fn active_key(&self) -> Option<KeyId> {
        self.keys.first().map(trustrelay_token::DigestKey::id)
    }

    /// Re-keys tokens that were used under an older key since the last time. A failure loses
    /// nothing: the token stays good under the older key and is noted again when it is used.
    pub async fn flush_rekeys(&self) {
        let taken = self.rekeying.take();
        stream::iter(taken)
            .for_each_concurrent(AT_A_TIME, |(pat_id, (replaces, digest))| {
                self.rekey(pat_id, replaces, digest)
            })
            .await;
    }

    async fn rekey(&self, pat_id: Uuid, replaces: TokenDigest, digest: TokenDigest) {
        let Some(key_id) = self.active_key() else { return };
        let asked = Rekey { pat_id, replaces, digest, key_id, fingerprint: self.fingerprint };
        match self.store.rekey_pat(&asked).await {
            Ok(RekeyOutcome::Rekeyed) => tracing::debug!(%pat_id, "re-keyed a token"),
            // Another node may have done it: then this one finds it under the new digest too.
            Ok(RekeyOutcome::Changed) => {}
            Ok(RekeyOutcome::NotBound) => {
                self.rekeying.is_over.store(true, Ordering::Relaxed);
                tracing::info!(
                    "another server secret is active now; put it first in this node's key file and restart the node"
                );
                return;
            }
            Err(error) => {
                tracing::debug!(%error, %pat_id, "could not re-key a token; trying again when the token is used next");
                return;
            }
        }
        self.index_rekeyed(replaces, digest).await;
    }

    /// Puts a re-keyed token into the index under its new digest, so that its next verification is
    /// a warm one. What is held under the earlier digest stays: log entries name both.
    async fn index_rekeyed(&self, replaces: TokenDigest, digest: TokenDigest) {
        let epoch = self.index.epoch();
        if !self.fence.holds(self.clock.since_boot()) {
            return;
        }
        let Ok(found) = self.store.pat_by_digest(&digest).await else { return };
        let Some(found) = found.filter(|found| found.secret == Secret::Current { ends_another: false })
        else {
            self.rekeying.settle(replaces);
            return;
        };
        let (pat, owner) = (&found.pat, &found.owner);
        let now = self.clock.now();
        if pat.digest == digest
            && judge(pat.revoked_at, owner.disabled_at.is_some(), pat.expires_at, now).is_ok()
            && self.index.admit(pat, owner, epoch).is_some()
        {
            self.index.forget_unheld(&replaces);
        }
    }
}
