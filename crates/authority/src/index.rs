//! The index: every token that was seen lately, by digest, with all that the judgment needs.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use trustrelay_token::{Credential, Denied, Life, Principal, Standing, TokenDigest};
use uuid::Uuid;

use crate::judgment::judge;
use crate::record::{Change, LogEntry, PatRecord, UserRecord};

const SHARDS: usize = 64;
const NOT_REVOKED: i64 = i64::MAX;
/// How many entries an eviction looks at before it lets the shard grow by one.
const EVICTION_LOOKS: usize = 32;

/// A digest is uniform already: its own bytes are its hash.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(8) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.0 = u64::from_le_bytes(word);
        }
    }
}

type Shard = HashMap<TokenDigest, Arc<Entry>, BuildHasherDefault<DigestHasher>>;

/// A token as the index has it.
pub(crate) struct Entry {
    pub(crate) principal: Arc<Principal>,
    expires_at: Timestamp,
    revoked_at: AtomicI64,
}

impl Entry {
    pub(crate) fn judge(&self, now: Timestamp) -> Result<Arc<Principal>, Denied> {
        let revoked_at = match self.revoked_at.load(Ordering::SeqCst) {
            NOT_REVOKED => None,
            at => Timestamp::from_microsecond(at).ok(),
        };
        judge(revoked_at, self.principal.life.owner.has_ended(), self.expires_at, now)?;
        Ok(self.principal.clone())
    }

    /// Whether anyone outside the index holds on to this token: then its standing must stay reachable.
    fn is_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
            || Arc::strong_count(&self.principal) > 1
            || Arc::strong_count(&self.principal.life.token) > 1
    }
}

/// See the module. Bounded by `max_entries`; what is evicted comes back by a miss.
pub(crate) struct Index {
    shards: Vec<RwLock<Shard>>,
    owners: Mutex<HashMap<Uuid, Arc<Standing>>>,
    /// Goes up before each change is applied. A miss that began before a change must not put the record that it
    /// read back after it, so it is admitted only in the epoch in which it began.
    epoch: AtomicU64,
    max_per_shard: usize,
}

impl Index {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::new(Shard::default())).collect(),
            owners: Mutex::new(HashMap::new()),
            epoch: AtomicU64::new(0),
            max_per_shard: (max_entries / SHARDS).max(1),
        }
    }

    fn shard(&self, digest: &TokenDigest) -> &RwLock<Shard> {
        // The hash map uses the low bytes; the shard is chosen by another.
        &self.shards[usize::from(digest.as_bytes()[0]) % SHARDS]
    }

    pub(crate) fn get(&self, digest: &TokenDigest) -> Option<Arc<Entry>> {
        self.shard(digest).read().get(digest).cloned()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Begins an epoch, so that nothing that was read before is admitted any more; whether the index is empty then.
    pub(crate) fn begins_empty(&self) -> bool {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // The standing of an owner is made before the token's entry is.
        self.len() == 0 && self.owners.lock().is_empty()
    }

    /// Puts a record that was read in `epoch` into the index. `None` if a change was applied since: read again.
    pub(crate) fn admit(&self, pat: &PatRecord, owner: &UserRecord, epoch: u64) -> Option<Arc<Entry>> {
        // The owner's standing is made reachable before the epoch is looked at: a change that is applied after that
        // look finds it.
        let standing = {
            let mut owners = self.owners.lock();
            if owners.len() > 1024 && owners.len() == owners.capacity() {
                owners.retain(|_, standing| Arc::strong_count(standing) > 1);
            }
            let standing = owners.entry(pat.user_id).or_default().clone();
            // The store is ahead of this node where it says otherwise: an account that it has as enabled is not refused until
            // the entry arrives. Under the lock: a change that is applied meanwhile has the last word.
            if self.epoch() == epoch {
                if owner.disabled_at.is_some() { standing.end() } else { standing.restore() }
            }
            standing
        };
        let mut shard = self.shard(&pat.digest).write();
        if self.epoch() != epoch {
            return None;
        }
        if let Some(entry) = shard.get(&pat.digest) {
            return Some(entry.clone());
        }
        if shard.len() >= self.max_per_shard {
            self.evict(&mut shard, &pat.digest);
        }
        let life = Life { token: Arc::default(), owner: standing };
        if pat.revoked_at.is_some() {
            life.token.end();
        }
        let entry = Arc::new(Entry {
            principal: Arc::new(Principal {
                user_id: pat.user_id,
                email: owner.email.clone(),
                is_admin: owner.is_admin,
                scopes: pat.scopes.clone(),
                credential: Credential::Pat {
                    pat_id: pat.pat_id,
                    pat_name: pat.name.clone(),
                    pat_hint: pat.hint.clone(),
                    created_at: pat.created_at,
                    expires_at: pat.expires_at,
                },
                limits: None,
                life,
            }),
            expires_at: pat.expires_at,
            revoked_at: AtomicI64::new(pat.revoked_at.map_or(NOT_REVOKED, Timestamp::as_microsecond)),
        });
        shard.insert(pat.digest, entry.clone());
        Some(entry)
    }

    /// Makes room for `newcomer`, and takes back what the shard grew by when there was none.
    fn evict(&self, shard: &mut Shard, newcomer: &TokenDigest) {
        // From another place each time: else the held ones gather where it looks, and nothing is let go any more.
        let [_, a, b, ..] = *newcomer.as_bytes();
        let from = usize::from(u16::from_le_bytes([a, b])) % shard.len().max(1);
        let victims: Vec<TokenDigest> = shard
            .iter()
            .cycle()
            .skip(from)
            .take(EVICTION_LOOKS.min(shard.len()))
            .filter(|(_, entry)| !entry.is_held())
            .map(|(digest, _)| *digest)
            .take(shard.len().saturating_sub(self.max_per_shard).saturating_add(1))
            .collect();
        for victim in victims {
            shard.remove(&victim);
        }
    }

    /// Applies a change. Afterwards nothing that it names is accepted from this index.
    pub(crate) fn apply(&self, entry: &LogEntry) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        match &entry.change {
            Change::PatsRevoked(pats) => {
                for pat in pats {
                    // The write lock waits for an admission in progress, which then is in the map.
                    let shard = self.shard(&pat.digest).write();
                    if let Some(found) = shard.get(&pat.digest) {
                        found.revoked_at.store(entry.at.as_microsecond(), Ordering::SeqCst);
                        found.principal.life.token.end();
                    }
                }
            }
            Change::UserDisabled(user_id) => {
                if let Some(standing) = self.owners.lock().get(user_id) {
                    standing.end();
                }
            }
            Change::UserEnabled(user_id) => {
                if let Some(standing) = self.owners.lock().get(user_id) {
                    standing.restore();
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use trustrelay_token::KeyId;

    use super::*;

    fn record(n: u16) -> (PatRecord, UserRecord) {
        let (at, user_id) = (Timestamp::UNIX_EPOCH, Uuid::nil());
        let mut digest = [0; 32];
        // All in one shard, and spread out in it.
        digest[1..3].copy_from_slice(&n.to_le_bytes());
        digest[24..].copy_from_slice(&u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let pat = PatRecord {
            pat_id: Uuid::from_u128(n.into()),
            user_id,
            name: String::new(),
            hint: String::new(),
            scopes: "mcp".parse().expect("a scope"),
            digest: TokenDigest::from_bytes(digest),
            key_id: KeyId(0),
            parent_id: None,
            created_at: at,
            expires_at: at,
            revoked_at: None,
            last_used_at: None,
        };
        let email = String::new();
        let password_hash = String::new();
        (
            pat,
            UserRecord { user_id, email, password_hash, is_admin: false, created_at: at, disabled_at: None },
        )
    }

    #[test]
    fn an_index_that_is_mostly_held_lets_go_of_the_rest_and_of_nothing_else() {
        const PER_SHARD: usize = 100;
        let index = Index::new(SHARDS * PER_SHARD);
        let mut held = Vec::new();
        for n in 0..5000 {
            let (pat, owner) = record(n);
            let entry = index.admit(&pat, &owner, 0).expect("nothing changed");
            // As many as would fill all the places that an eviction looks at, three times over.
            if held.len() < PER_SHARD - 4 && n % 2 == 0 {
                held.push((pat.digest, entry.principal.clone()));
            }
        }
        assert!(index.len() <= PER_SHARD + EVICTION_LOOKS, "it grew to {}", index.len());
        for (digest, _) in &held {
            assert!(index.get(digest).is_some(), "what is held stays reachable for a revocation");
        }
    }
}
