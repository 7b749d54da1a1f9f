//! The index: every token that was seen lately, by digest, with all that the judgment needs.
//!
//! Of a token it has one thing, the `Principal` that is handed out: so what is held is reached by a
//! revocation, and a token takes 128 bytes, its place in the table, and its share of what it has in
//! common with others (its account, its scopes).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashSet, HashTable};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use trustrelay_token::{Account, Pat, Principal, ScopeSet, TokenDigest};
use uuid::Uuid;

use crate::ending::Ending;
use crate::record::{Change, LogEntry, PatRecord, UserRecord};

/// As many as a byte has values.
const SHARDS: usize = 256;
/// How many places an eviction looks at before it lets the shard grow by one.
const EVICTION_LOOKS: usize = 64;
/// Up to so many accounts and sets of scopes nobody looks for those that no token has any more.
const FEW: usize = 1024;

/// Each on a cache line of its own: who reads one does not slow the readers of the next down.
#[derive(Default)]
#[repr(align(64))]
struct Shard(RwLock<HashTable<Arc<Principal>>>);

/// See the module. Bounded by `max_entries`; what is evicted comes back by a miss.
pub(crate) struct Index {
    shards: Box<[Shard]>,
    /// More than one of an account where its record has changed while a token was held.
    accounts: Mutex<HashTable<Arc<Account>>>,
    scopes: Mutex<HashSet<Arc<ScopeSet>>>,
    /// Goes up before each change is applied. A miss that began before a change must not put the
    /// record that it read back after it, so it is admitted only in the epoch in which it began.
    epoch: AtomicU64,
    pub(crate) ending: Ending,
    max_per_shard: usize,
}

impl Index {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            accounts: Mutex::default(),
            scopes: Mutex::default(),
            epoch: AtomicU64::new(0),
            ending: Ending::default(),
            max_per_shard: (max_entries / SHARDS).max(1),
        }
    }

    fn shard(&self, digest: &TokenDigest) -> &RwLock<HashTable<Arc<Principal>>> {
        // The table goes by other bytes.
        &self.shards[usize::from(digest.as_bytes()[0]) % SHARDS].0
    }

    /// As it was admitted; it may have ended since.
    pub(crate) fn get(&self, digest: &TokenDigest) -> Option<Arc<Principal>> {
        find(&self.shard(digest).read(), digest).cloned()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Begins an epoch, so that nothing that was read before is admitted any more; whether the
    /// index is empty then.
    pub(crate) fn begins_empty(&self) -> bool {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // An account is there before its token is.
        self.len() == 0 && self.accounts.lock().is_empty()
    }

    /// Puts a record that was read in `epoch` into the index. `None` if a change was applied since:
    /// read again.
    pub(crate) fn admit(&self, pat: &PatRecord, owner: &UserRecord, epoch: u64) -> Option<Arc<Principal>> {
        // The account is made reachable before the epoch is looked at: a change that is applied
        // after that look finds it.
        let account = self.account(owner, epoch);
        let scopes = self.shared_scopes(&pat.scopes);
        let mut shard = self.shard(&pat.digest).write();
        if self.epoch() != epoch {
            return None;
        }
        if let Some(principal) = find(&shard, &pat.digest) {
            return Some(principal.clone());
        }
        if shard.len() >= self.max_per_shard {
            self.evict(&mut shard, &pat.digest);
        }
        let shown = Pat::new(pat.pat_id, &pat.name, &pat.hint).known_by(pat.digest);
        let mut principal = Principal::with_pat(account, shown, scopes, pat.expires_at);
        principal.limits = pat.limits.clone();
        let principal = Arc::new(principal);
        if let Some(at) = pat.revoked_at {
            principal.standing().end(at);
        }
        shard.insert_unique(hash(&pat.digest), principal.clone(), hash_of);
        Some(principal)
    }

    /// The account that all its tokens share.
    fn account(&self, owner: &UserRecord, epoch: u64) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        if accounts.len() > FEW && accounts.len() == accounts.capacity() {
            accounts.retain(|account| Arc::strong_count(account) > 1);
        }
        let hash = hash_of_user(owner.user_id);
        let is_same =
            |account: &Arc<Account>| account.user_id == owner.user_id && *account.email == *owner.email;
        let found = accounts.find(hash, is_same).cloned();
        let account = found.unwrap_or_else(|| {
            let account = Arc::new(account_of(owner));
            accounts.insert_unique(hash, account.clone(), |account| hash_of_user(account.user_id));
            account
        });
        // The store is ahead of this node where it says otherwise: an account that it has as
        // enabled is not refused until the entry arrives. Under the lock: a change that is applied
        // meanwhile has the last word.
        if self.epoch() == epoch {
            grant(&account, owner);
            match owner.disabled_at {
                Some(at) => account.standing.end(at),
                None => account.standing.restore(),
            }
        }
        account
    }

    /// The one set like this that all tokens share.
    fn shared_scopes(&self, scopes: &ScopeSet) -> Arc<ScopeSet> {
        let mut sets = self.scopes.lock();
        if let Some(shared) = sets.get(scopes) {
            return shared.clone();
        }
        if sets.len() > FEW && sets.len() == sets.capacity() {
            sets.retain(|set| Arc::strong_count(set) > 1);
        }
        let shared = Arc::new(scopes.clone());
        sets.insert(shared.clone());
        shared
    }

    /// Makes room for `newcomer`, and takes back what the shard grew by when there was none. What
    /// somebody holds stays, so that a revocation reaches it.
    fn evict(&self, shard: &mut HashTable<Arc<Principal>>, newcomer: &TokenDigest) {
        // From another place each time: else the held ones gather where it looks, and nothing is
        // let go any more.
        let [_, a, b, ..] = *newcomer.as_bytes();
        let (from, places) = (usize::from(u16::from_le_bytes([a, b])), shard.num_buckets());
        for look in 0..EVICTION_LOOKS.min(places) {
            if shard.len() < self.max_per_shard {
                return;
            }
            if let Ok(entry) = shard.get_bucket_entry((from + look) % places)
                && Arc::strong_count(entry.get()) == 1
            {
                entry.remove();
            }
        }
    }

    /// Applies a change. Afterwards nothing that it names is accepted from this index. `users`: the
    /// accounts that were changed, as the store has them since.
    pub(crate) fn apply(&self, entry: &LogEntry, users: &[UserRecord]) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        match &entry.change {
            Change::PatsRevoked(pats) => {
                for pat in pats {
                    self.ending.revoke(pat.pat_id, entry.at);
                    // The write lock waits for an admission in progress, which then is in the
                    // table.
                    if let Some(found) = find(&self.shard(&pat.digest).write(), &pat.digest) {
                        found.standing().end(entry.at);
                    }
                }
            }
            Change::SecretsRetired(secrets) => {
                for secret in secrets {
                    let gone = self.remove(&secret.digest);
                    self.ending.add(secret, gone, entry.at);
                }
            }
            Change::UserDisabled(user_id) => self.each(*user_id, |account| account.standing.end(entry.at)),
            Change::UserEnabled(user_id) => self.each(*user_id, |account| account.standing.restore()),
            Change::AdminChanged(user_id) | Change::UpstreamsChanged(user_id) => {
                if let Some(user) = users.iter().find(|user| user.user_id == *user_id) {
                    self.each(*user_id, |account| grant(account, user));
                }
            }
            // No token's: it is held beside the index.
            Change::PolicyChanged => {}
        }
    }

    fn remove(&self, digest: &TokenDigest) -> Option<Arc<Principal>> {
        let mut shard = self.shard(digest).write();
        let found = shard.find_entry(hash(digest), |principal| digest_of(principal) == Some(digest)).ok()?;
        Some(found.remove().0)
    }

    /// Removes a token that nobody holds. One that is held stays, so that a revocation reaches it.
    pub(crate) fn forget_unheld(&self, digest: &TokenDigest) {
        let mut shard = self.shard(digest).write();
        let is_it = |principal: &Arc<Principal>| digest_of(principal) == Some(digest);
        if let Ok(found) = shard.find_entry(hash(digest), is_it)
            && Arc::strong_count(found.get()) == 1
        {
            found.remove();
        }
    }

    /// Ends the secrets whose overlap is over: those. Their next use comes to the store, which
    /// knows what they were.
    pub(crate) fn end_overlaps(&self, now: Timestamp) -> Vec<(Uuid, TokenDigest)> {
        let over = self.ending.over(now);
        for (pat_id, digest) in &over {
            self.ending.overdue(*pat_id);
            if let Some(gone) = self.remove(digest) {
                gone.standing().end(now);
            }
        }
        over
    }

    fn each(&self, user_id: Uuid, act: impl Fn(&Account)) {
        let accounts = self.accounts.lock();
        let of_user = accounts.iter_hash(hash_of_user(user_id)).filter(|account| account.user_id == user_id);
        of_user.for_each(|account| act(account));
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().len()).sum()
    }
}

/// An account, as its record says. Whether it is enabled is said elsewhere.
pub(crate) fn account_of(user: &UserRecord) -> Account {
    let (user_id, email) = (user.user_id, user.email.as_str().into());
    let account = Account { user_id, email, ..Account::default() };
    grant(&account, user);
    account
}

/// What an account may do, as its record says. Whoever holds it learns of it at once.
fn grant(account: &Account, user: &UserRecord) {
    account.role.set_admin(user.is_admin);
    account.upstreams.hold_to(user.upstreams.as_deref());
}

fn find<'a>(shard: &'a HashTable<Arc<Principal>>, digest: &TokenDigest) -> Option<&'a Arc<Principal>> {
    shard.find(hash(digest), |principal| digest_of(principal) == Some(digest))
}

fn digest_of(principal: &Principal) -> Option<&TokenDigest> {
    principal.pat().map(Pat::digest)
}

fn hash_of(principal: &Arc<Principal>) -> u64 {
    digest_of(principal).map_or(0, hash)
}

/// A digest is uniform already: its last bytes are its hash.
fn hash(digest: &TokenDigest) -> u64 {
    let (_, last) = digest.as_bytes().split_at(24);
    last.try_into().map_or(0, u64::from_le_bytes)
}

/// The last bytes of an account's id are random (RFC 9562 §5.7).
fn hash_of_user(user_id: Uuid) -> u64 {
    let (_, last) = user_id.as_u64_pair();
    last.swap_bytes()
}

#[cfg(test)]
mod tests {
    use trustrelay_token::KeyId;

    use super::*;

    fn record(n: u16) -> (PatRecord, UserRecord) {
        let (at, user_id) = (Timestamp::UNIX_EPOCH, Uuid::nil());
        let mut digest = [0; 32];
        // All in one shard, and spread out in it.
        let spread = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        digest[1..9].copy_from_slice(&spread);
        digest[24..].copy_from_slice(&spread);
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
            rotated_at: None,
            limits: None,
        };
        let email = String::new();
        let password_hash = String::new();
        (
            pat,
            UserRecord {
                user_id,
                email,
                password_hash,
                is_admin: false,
                created_at: at,
                disabled_at: None,
                upstreams: None,
            },
        )
    }

    #[test]
    fn an_index_that_is_mostly_held_lets_go_of_the_rest_and_of_nothing_else() {
        const PER_SHARD: usize = 100;
        let index = Index::new(SHARDS * PER_SHARD);
        let mut held = Vec::new();
        for n in 0..5000 {
            let (pat, owner) = record(n);
            let principal = index.admit(&pat, &owner, 0).expect("nothing changed");
            // As many as would fill all the places that an eviction looks at, three times over.
            if held.len() < PER_SHARD - 4 && n % 2 == 0 {
                held.push((pat.digest, principal));
            }
        }
        assert!(index.len() <= PER_SHARD + EVICTION_LOOKS, "it grew to {}", index.len());
        for (digest, _) in &held {
            assert!(index.get(digest).is_some(), "what is held stays reachable for a revocation");
        }
    }
}
