//! A store in memory: the plain model of what a store does, with places where a test can hold it up
//! or break it. It looks through everything for everything, so that it can be checked by reading.

mod admin;
mod audit;
mod calls;
mod keys;
mod notices;
mod policy;
mod revoke;
mod rotation;
mod unused;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use parking_lot::Mutex;
use uuid::Uuid;

use self::admin::spare_the_last_administrator;
pub use self::audit::Log as AuditRows;
use self::audit::{append, permit};
use self::calls::{add_up, day_of, forget_networks, latest_first, newest_first, of, use_networks};
use self::keys::Former;
use self::revoke::revoke;
use self::rotation::Retired;
use super::gate::Gate;
use super::nodes::{Node, StoreClock};
use crate::admin::InviteRecord;
use crate::audit::AuditEntry;
use crate::policy::PolicyRecord;
use crate::record::{
    Call, Change, DayCalls, KeptActivity, LogEntry, NetworkUse, PatRecord, SessionRecord, TokenCalls, Usage,
    UserRecord, networks_of,
};
use crate::rotation::PastRotation;
use crate::store::{
    Holder, LATEST_CALLS, Lease, NodeRecord, Renewal, Revocation, RevokeOutcome, Store, StoreError,
    Terminated,
};

#[derive(Default)]
struct Data {
    users: Vec<UserRecord>,
    user_seq: HashMap<Uuid, u64>,
    pats: Vec<PatRecord>,
    revoked_seq: HashMap<Uuid, u64>,
    origins: HashMap<Uuid, (Option<IpAddr>, Option<String>)>,
    networks: Vec<(Uuid, NetworkUse)>,
    /// In no order.
    days: Vec<(Uuid, DayCalls)>,
    /// In the order in which they were written down.
    calls: Vec<(Uuid, Call)>,
    sessions: HashMap<[u8; 32], SessionRecord>,
    log: Vec<LogEntry>,
    nodes: BTreeMap<Uuid, Node>,
    clock: StoreClock,
    cuts: BTreeMap<(u64, Uuid), Terminated>,
    fingerprint: Option<[u8; 16]>,
    earlier_fingerprints: Vec<[u8; 16]>,
    former: Vec<Former>,
    audit: audit::Log,
    /// Of each token, the earliest first.
    retired: Vec<Retired>,
    rotations: HashMap<Uuid, PastRotation>,
    invites: Vec<InviteRecord>,
    policy: PolicyRecord,
    notices: notices::Notices,
}

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    data: Mutex<Data>,
    /// Every call fails while it is set.
    pub broken: AtomicBool,
    /// How often a token was looked up by digest.
    pub lookups: AtomicUsize,
    /// Look-ups by digest have read, and wait here before they answer.
    pub after_lookup: Gate,
    /// Sign-ins wait here before their session is added.
    pub before_session: Gate,
    /// New tokens wait here before they are added, and rotations before they are made.
    pub before_secret: Gate,
    /// Uses wait here before they are added up.
    pub before_usage: Gate,
    /// Uses of retired secrets wait here before they are noted.
    pub before_retired_use: Gate,
    /// Calls wait here before they are written down.
    pub before_calls: Gate,
    /// Renewals of a lease wait here before they read.
    pub before_renewal: Gate,
    /// How many there were.
    pub renewals: AtomicUsize,
}

impl MemoryStore {
    fn data(&self) -> Result<parking_lot::MutexGuard<'_, Data>, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("broken on purpose".into()));
        }
        Ok(self.data.lock())
    }

    /// Damage: an entry that is not in the log any more.
    pub fn lose_log_entry(&self, seq: u64) {
        self.data.lock().log.retain(|entry| entry.seq != seq);
    }

    /// Sets the store's clock ahead, or back, by so many microseconds.
    pub fn set_clock(&self, by: i64) {
        self.data.lock().clock.set += by;
    }

    /// Another process's revocation: committed, and not told to anyone.
    pub fn revoke_behind_the_back(&self, pat_id: Uuid, at: Timestamp) -> u64 {
        let revocation = Revocation::untold(pat_id, super::AUDIT.clone());
        let revoked = revoke(&mut self.data.lock(), &[revocation], at, false);
        revoked.expect("known")[0].as_ref().expect("known").seq
    }
}

fn head(data: &Data) -> u64 {
    data.log.last().map_or(0, |entry| entry.seq)
}

fn log_after(data: &Data, seq: u64) -> Vec<LogEntry> {
    data.log.iter().filter(|entry| entry.seq > seq).take(1000).cloned().collect()
}

fn is_active(pat: &PatRecord, now: Timestamp) -> bool {
    pat.revoked_at.is_none() && pat.expires_at > now
}

#[async_trait]
impl Store for MemoryStore {
    async fn insert_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        if data.users.iter().any(|other| other.email == user.email) {
            return Err(StoreError::EmailTaken);
        }
        data.users.push(user.clone());
        append(&mut data, audit)
    }

    async fn insert_first_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let first = data.users.is_empty();
        if first {
            data.users.push(user.clone());
            append(&mut data, audit)?;
        }
        Ok(first)
    }

    async fn user_by_id(&self, user_id: Uuid) -> Result<Option<UserRecord>, StoreError> {
        Ok(self.data()?.users.iter().find(|user| user.user_id == user_id).cloned())
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<UserRecord>, StoreError> {
        Ok(self.data()?.users.iter().find(|user| user.email == email).cloned())
    }

    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError> {
        let mut users = self.data()?.users.clone();
        users.sort_by_key(|user| (user.created_at, user.user_id));
        Ok(users)
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        Ok(!self.data()?.users.is_empty())
    }

    async fn set_user_disabled(
        &self,
        user_id: Uuid,
        at: Option<Timestamp>,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let seq = head(&data) + 1;
        let Some(user) = data.users.iter().find(|user| user.user_id == user_id) else {
            return Ok(None);
        };
        if user.disabled_at.is_some() == at.is_some() {
            return Ok(Some(data.user_seq.get(&user_id).copied().unwrap_or(0)));
        }
        if at.is_some() {
            spare_the_last_administrator(&data, user_id)?;
        }
        let user = data.users.iter_mut().find(|user| user.user_id == user_id).expect("there");
        user.disabled_at = at;
        let change = if at.is_some() { Change::UserDisabled(user_id) } else { Change::UserEnabled(user_id) };
        data.log.push(LogEntry { seq, at: now, change });
        data.user_seq.insert(user_id, seq);
        if at.is_some() {
            data.sessions.retain(|_, session| session.user_id != user_id);
        }
        append(&mut data, audit)?;
        Ok(Some(seq))
    }

    async fn set_password(
        &self,
        user_id: Uuid,
        hash: &str,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let user = data.users.iter_mut().find(|user| user.user_id == user_id).ok_or(StoreError::UserGone)?;
        user.password_hash = hash.to_owned();
        data.sessions.retain(|digest, session| session.user_id != user_id || Some(*digest) == keep);
        append(&mut data, audit)
    }

    async fn insert_pat(&self, pat: &PatRecord, limit: u64, audit: &AuditEntry) -> Result<(), StoreError> {
        self.before_secret.pass().await;
        let mut data = self.data()?;
        permit(&data, audit)?;
        if !data.users.iter().any(|user| user.user_id == pat.user_id && user.disabled_at.is_none()) {
            return Err(StoreError::UserGone);
        }
        if let Some(parent) = pat.parent_id
            && !data
                .pats
                .iter()
                .filter(|p| p.pat_id == parent && p.user_id == pat.user_id && is_active(p, pat.created_at))
                .any(|p| p.expires_at >= pat.expires_at)
        {
            return Err(StoreError::ParentGone);
        }
        let active =
            data.pats.iter().filter(|p| p.user_id == pat.user_id && is_active(p, pat.created_at)).count()
                as u64;
        if active >= limit {
            return Err(StoreError::TooManyPats(active));
        }
        data.pats.push(pat.clone());
        append(&mut data, audit)
    }

    async fn pat_by_id(&self, pat_id: Uuid) -> Result<Option<PatRecord>, StoreError> {
        Ok(self.data()?.pats.iter().find(|pat| pat.pat_id == pat_id).cloned())
    }

    async fn active_pats(&self, user_id: Uuid, now: Timestamp) -> Result<Vec<PatRecord>, StoreError> {
        let mut pats: Vec<_> = self
            .data()?
            .pats
            .iter()
            .filter(|pat| pat.user_id == user_id && is_active(pat, now))
            .cloned()
            .collect();
        pats.sort_by_key(|pat| std::cmp::Reverse((pat.created_at, pat.pat_id)));
        Ok(pats)
    }

    async fn revoke_pats(
        &self,
        pats: &[Revocation],
        at: Timestamp,
        mail: bool,
    ) -> Result<Vec<Option<RevokeOutcome>>, StoreError> {
        revoke(&mut *self.data()?, pats, at, mail)
    }

    async fn record_usage(&self, notes: &[Usage]) -> Result<(), StoreError> {
        self.before_usage.pass().await;
        let mut data = self.data()?;
        let data = &mut *data;
        for note in notes {
            if let Some(pat) = data.pats.iter_mut().find(|pat| pat.pat_id == note.pat_id) {
                pat.last_used_at = pat.last_used_at.max(Some(note.last_used_at));
                let (address, user_agent) = data.origins.entry(note.pat_id).or_default();
                *address = note.address.or(*address);
                *user_agent = note.user_agent.clone().or(user_agent.take());
            }
        }
        let known = |pat_id| data.pats.iter().any(|pat| pat.pat_id == pat_id);
        use_networks(&mut data.networks, networks_of(notes), known);
        Ok(())
    }

    async fn record_calls(&self, notes: &[TokenCalls]) -> Result<(), StoreError> {
        self.before_calls.pass().await;
        let mut data = self.data()?;
        for note in notes {
            if !data.pats.iter().any(|pat| pat.pat_id == note.pat_id) {
                continue;
            }
            for calls in &note.days {
                add_up(&mut data.days, note.pat_id, calls.clone());
            }
            data.calls.extend(note.latest.iter().map(|call| (note.pat_id, call.clone())));
            let stay = newest_first(&data.calls, note.pat_id);
            data.calls.retain(|(pat_id, _)| *pat_id != note.pat_id);
            data.calls.extend(stay.into_iter().take(LATEST_CALLS).rev().map(|call| (note.pat_id, call)));
        }
        Ok(())
    }

    async fn activity(&self, pat_id: Uuid, since: Date) -> Result<KeptActivity, StoreError> {
        let data = self.data()?;
        let (address, user_agent) = data.origins.get(&pat_id).cloned().unwrap_or_default();
        let mut days: Vec<_> = of(&data.days, pat_id).filter(|calls| calls.day >= since).cloned().collect();
        days.sort_by(|a, b| {
            let rest = |calls: &DayCalls| (calls.upstream.clone(), calls.tool.clone(), calls.outcome.clone());
            b.day.cmp(&a.day).then_with(|| rest(a).cmp(&rest(b)))
        });
        let mut latest = newest_first(&data.calls, pat_id);
        latest.retain(|call| day_of(call.at) >= since);
        let mut networks = latest_first(&data.networks, pat_id);
        networks.retain(|used| day_of(used.last_used_at) >= since);
        Ok(KeptActivity { address, user_agent, networks, days, latest })
    }

    async fn forget_calls(&self, before: Date, limit: u64) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let (mut sums, mut single) = (0, 0);
        let networks = forget_networks(&mut data.networks, before, limit);
        data.days.retain(|(_, calls)| {
            !(calls.day < before && sums < limit && {
                sums += 1;
                true
            })
        });
        data.calls.retain(|(_, call)| {
            !(day_of(call.at) < before && single < limit && {
                single += 1;
                true
            })
        });
        Ok(sums + single + networks)
    }

    async fn insert_session(&self, session: &SessionRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        self.before_session.pass().await;
        let mut data = self.data()?;
        permit(&data, audit)?;
        if !data.users.iter().any(|user| user.user_id == session.user_id && user.disabled_at.is_none()) {
            return Err(StoreError::UserGone);
        }
        data.sessions.insert(session.digest, session.clone());
        append(&mut data, audit)
    }

    async fn session_by_digest(
        &self,
        digest: &[u8; 32],
    ) -> Result<Option<(SessionRecord, UserRecord)>, StoreError> {
        let data = self.data()?;
        Ok(data.sessions.get(digest).map(|session| {
            let owner = data.users.iter().find(|user| user.user_id == session.user_id).expect("owner");
            (session.clone(), owner.clone())
        }))
    }

    async fn delete_session(&self, digest: &[u8; 32], audit: &AuditEntry) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let was_there = data.sessions.remove(digest).is_some();
        if was_there {
            append(&mut data, audit)?;
        }
        Ok(was_there)
    }

    async fn delete_sessions_of(
        &self,
        user_id: Uuid,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let before = data.sessions.len();
        data.sessions.retain(|digest, session| session.user_id != user_id || Some(*digest) == keep);
        let ended = (before - data.sessions.len()) as u64;
        if ended > 0 {
            append(&mut data, audit)?;
        }
        Ok(ended)
    }

    async fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let before = data.sessions.len();
        data.sessions.retain(|_, session| session.expires_at > now);
        Ok((before - data.sessions.len()) as u64)
    }

    async fn log_head(&self) -> Result<u64, StoreError> {
        Ok(head(&*self.data()?))
    }

    async fn log_after(&self, seq: u64) -> Result<Vec<LogEntry>, StoreError> {
        Ok(log_after(&*self.data()?, seq))
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<Renewal, StoreError> {
        self.before_renewal.pass().await;
        self.renewals.fetch_add(1, Ordering::SeqCst);
        let mut data = self.data()?;
        let behind = log_after(&data, lease.applied_seq);
        if !behind.is_empty() {
            return Ok(Renewal::Behind(behind));
        }
        let now = data.clock.now();
        data.nodes.retain(|_, node| node.is_remembered(now));
        let Lease { node_id, claim, length, .. } = *lease;
        let node = Node {
            holder: Holder { node_id, claim, length },
            held: true,
            applied_seq: lease.applied_seq,
            name: lease.name.clone(),
            url: lease.url.clone(),
            renewed_at: now,
        };
        data.nodes.insert(node_id, node);
        for (seq, ended) in &lease.cuts {
            data.cuts.entry((*seq, node_id)).or_insert_with(|| ended.clone());
        }
        Ok(Renewal::Held)
    }

    async fn end_lease(&self, node_id: Uuid) -> Result<(), StoreError> {
        self.data()?.nodes.remove(&node_id);
        Ok(())
    }

    async fn holders_behind(&self, seq: u64, except: Option<Uuid>) -> Result<Vec<Holder>, StoreError> {
        let data = self.data()?;
        let others = data.nodes.values().filter(|node| Some(node.holder.node_id) != except);
        Ok(others
            .filter(|node| node.held && node.applied_seq < seq)
            .map(|node| node.holder.clone())
            .collect())
    }

    async fn let_go(&self, holders: &[Holder]) -> Result<(), StoreError> {
        let mut data = self.data()?;
        for holder in holders {
            if let Some(node) = data.nodes.get_mut(&holder.node_id)
                && node.holder.claim == holder.claim
            {
                node.held = false;
            }
        }
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let data = self.data()?;
        let mut nodes: Vec<_> = data.nodes.values().map(|node| node.record(data.clock.now())).collect();
        nodes.sort_by(|a, b| (&a.name, a.node_id).cmp(&(&b.name, b.node_id)));
        Ok(nodes)
    }

    async fn cuts(&self, seq: u64, except: Option<Uuid>) -> Result<Terminated, StoreError> {
        let data = self.data()?;
        let of_others = data.cuts.range((seq, Uuid::nil())..=(seq, Uuid::max()));
        let mut ended = Terminated::default();
        ended
            .extend(of_others.filter(|((_, node), _)| Some(*node) != except).map(|(_, ended)| ended.clone()));
        Ok(ended)
    }

    async fn bind_secret(&self, fingerprint: &[u8; 16]) -> Result<bool, StoreError> {
        Ok(self.data()?.fingerprint.get_or_insert(*fingerprint) == fingerprint)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.data().map(drop)
    }
}
