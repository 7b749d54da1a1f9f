//! Random sequences of calls, to the store under test and to the plain model: every answer must be the same.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use trustrelay_token::{KeyId, Limits, Network, TokenDigest};
use uuid::Uuid;

use super::kit::AUDIT;
use super::kit::at;
use super::memory::MemoryStore;
use crate::record::{
    self, Change, DayCalls, KeptActivity, NetworkUse, PatRecord, SessionRecord, TokenCalls, Usage, UserRecord,
};
use crate::rotation::FoundPat;
use crate::store::{Holder, Lease, Renewal, RevokeOutcome, Store, StoreError};

/// How many sequences a store is put through. Each is made from its number alone, so a failure comes again.
pub const SEQUENCES: u64 = 300;
/// How many calls a sequence has.
const CALLS: usize = 60;
/// How long leases are: how long that takes is no matter of the model.
const LENGTH: Duration = Duration::from_secs(3600);
/// How many accounts, and so on, a sequence knows: few, so that calls meet.
const FEW: usize = 4;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("small")
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }

    fn id(&mut self) -> Uuid {
        Uuid::from_bytes(self.bytes())
    }
}

#[derive(Debug, Clone)]
enum Call {
    InsertUser(UserRecord),
    InsertFirstUser(UserRecord),
    UserById(Uuid),
    UserByEmail(String),
    ListUsers,
    HasUsers,
    SetUserDisabled(Uuid, Option<Timestamp>, Timestamp),
    SetPassword(Uuid, String, Option<[u8; 32]>),
    InsertPat(Box<PatRecord>, u64),
    PatByDigest(TokenDigest),
    PatById(Uuid),
    ActivePats(Uuid, Timestamp),
    UnusedPats(Timestamp, Timestamp, Option<NonZeroU16>),
    RevokePat(Uuid, Timestamp),
    RecordUsage(Vec<Usage>),
    RecordCalls(Vec<TokenCalls>),
    Activity(Uuid, Date),
    ForgetCalls(Date),
    InsertSession(SessionRecord),
    SessionByDigest([u8; 32]),
    DeleteSession([u8; 32]),
    DeleteSessionsOf(Uuid, Option<[u8; 32]>),
    DeleteExpiredSessions(Timestamp),
    LogHead,
    RenewLease(Lease),
    EndLease(Uuid),
    LetGo(Vec<Holder>),
    HoldersBehind(u64, Option<Uuid>),
    BindSecret([u8; 16]),
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Is(bool),
    Count(u64),
    Entry(Option<u64>),
    User(Option<UserRecord>),
    Users(Vec<UserRecord>),
    Pat(Option<PatRecord>),
    PatOf(Option<Box<FoundPat>>),
    Pats(Vec<PatRecord>),
    Activity(KeptActivity),
    Session(Option<(SessionRecord, UserRecord)>),
    Revoked(Option<RevokeOutcome>),
    Renewal(Renewal),
    Holders(Vec<Holder>),
}

async fn ask(store: &dyn Store, call: Call) -> Result<Answer, StoreError> {
    Ok(match call {
        Call::InsertUser(user) => store.insert_user(&user, &AUDIT).await.map(|()| Answer::Done)?,
        Call::InsertFirstUser(user) => Answer::Is(store.insert_first_user(&user, &AUDIT).await?),
        Call::UserById(id) => Answer::User(store.user_by_id(id).await?),
        Call::UserByEmail(email) => Answer::User(store.user_by_email(&email).await?),
        Call::ListUsers => Answer::Users(store.list_users().await?),
        Call::HasUsers => Answer::Is(store.has_users().await?),
        Call::SetUserDisabled(id, disabled, now) => {
            Answer::Entry(store.set_user_disabled(id, disabled, now, &AUDIT).await?)
        }
        Call::SetPassword(id, hash, keep) => {
            store.set_password(id, &hash, keep, &AUDIT).await.map(|()| Answer::Done)?
        }
        Call::InsertPat(pat, limit) => store.insert_pat(&pat, limit, &AUDIT).await.map(|()| Answer::Done)?,
        Call::PatByDigest(digest) => Answer::PatOf(store.pat_by_digest(&digest).await?.map(Box::new)),
        Call::UnusedPats(now, by, of_all) => Answer::Pats(store.unused_pats(now, by, of_all, 1000).await?),
        Call::PatById(id) => Answer::Pat(store.pat_by_id(id).await?),
        Call::ActivePats(id, now) => Answer::Pats(store.active_pats(id, now).await?),
        Call::RevokePat(id, now) => Answer::Revoked(store.revoke_pat(id, now, &AUDIT).await?),
        Call::RecordUsage(notes) => store.record_usage(&notes).await.map(|()| Answer::Done)?,
        Call::RecordCalls(notes) => store.record_calls(&notes).await.map(|()| Answer::Done)?,
        Call::Activity(id, since) => Answer::Activity(store.activity(id, since).await?),
        Call::ForgetCalls(before) => Answer::Count(store.forget_calls(before, 1000).await?),
        Call::InsertSession(session) => {
            store.insert_session(&session, &AUDIT).await.map(|()| Answer::Done)?
        }
        Call::SessionByDigest(digest) => Answer::Session(store.session_by_digest(&digest).await?),
        Call::DeleteSession(digest) => Answer::Is(store.delete_session(&digest, &AUDIT).await?),
        Call::DeleteSessionsOf(id, keep) => Answer::Count(store.delete_sessions_of(id, keep, &AUDIT).await?),
        Call::DeleteExpiredSessions(now) => Answer::Count(store.delete_expired_sessions(now).await?),
        Call::LogHead => Answer::Count(store.log_head().await?),
        Call::RenewLease(lease) => Answer::Renewal(sorted(store.renew_lease(&lease).await?)),
        Call::EndLease(id) => store.end_lease(id).await.map(|()| Answer::Done)?,
        Call::LetGo(holders) => store.let_go(&holders).await.map(|()| Answer::Done)?,
        Call::HoldersBehind(seq, except) => {
            let mut holders = store.holders_behind(seq, except).await?;
            holders.sort_by_key(|holder| holder.node_id);
            Answer::Holders(holders)
        }
        Call::BindSecret(fingerprint) => Answer::Is(store.bind_secret(&fingerprint).await?),
    })
}

/// The tokens of one entry come in any order.
fn sorted(mut renewal: Renewal) -> Renewal {
    if let Renewal::Behind(entries) = &mut renewal {
        for entry in entries {
            if let Change::PatsRevoked(pats) = &mut entry.change {
                pats.sort_by_key(|pat| pat.pat_id);
            }
        }
    }
    renewal
}

/// What a sequence has given names to: ids that calls take up again, whether or not they came into the store.
struct Known {
    random: Random,
    now: i64,
    users: Vec<Uuid>,
    pats: Vec<PatRecord>,
    sessions: Vec<[u8; 32]>,
    nodes: Vec<Uuid>,
}

impl Known {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let users = (0..FEW).map(|_| random.id()).collect();
        let sessions = (0..FEW * 2).map(|_| random.bytes()).collect();
        let nodes = (0..FEW).map(|_| random.id()).collect();
        Self { random, now: 0, users, pats: Vec::new(), sessions, nodes }
    }

    fn user(&mut self) -> Uuid {
        self.users[self.random.below(FEW)]
    }

    fn pat(&mut self) -> Uuid {
        if self.pats.is_empty() || self.random.chance(5) {
            return self.random.id();
        }
        let at = self.random.below(self.pats.len());
        self.pats[at].pat_id
    }

    fn session(&mut self) -> [u8; 32] {
        self.sessions[self.random.below(FEW * 2)]
    }

    fn time(&mut self) -> Timestamp {
        at(self.now)
    }

    /// A time near now: before, at or after it.
    fn near(&mut self) -> Timestamp {
        at(self.now + i64::try_from(self.random.below(21)).expect("small") - 10)
    }

    /// Few of them, at times that are worth writing down and that are not.
    fn network(&mut self) -> NetworkUse {
        let first_used_at = self.near();
        let last_used_at = first_used_at + SignedDuration::from_secs([0, 59, 60, 61][self.random.below(4)]);
        let network = Network::around([192, 0, self.random.bytes::<1>()[0] % 4, 1].into());
        NetworkUse { network, first_used_at, last_used_at }
    }

    fn new_user(&mut self) -> UserRecord {
        let index = self.random.below(FEW);
        UserRecord {
            user_id: self.users[index],
            email: format!("{index}@example.org"),
            password_hash: format!("hash {}", self.random.below(100)),
            is_admin: self.random.chance(50),
            created_at: self.near(),
            disabled_at: None,
            upstreams: None,
        }
    }

    fn new_pat(&mut self) -> PatRecord {
        let parent_id = self.random.chance(50).then(|| self.pat());
        let pat = PatRecord {
            pat_id: self.random.id(),
            user_id: self.user(),
            name: format!("name {}", self.random.below(10)),
            hint: "...abcd".to_owned(),
            scopes: ["mcp", "api tokens", "mcp:a/b"][self.random.below(3)].parse().expect("scopes"),
            digest: TokenDigest::from_bytes(self.random.bytes()),
            key_id: KeyId(3),
            parent_id,
            created_at: self.near(),
            expires_at: at(self.now + i64::try_from(self.random.below(60)).expect("small")),
            revoked_at: None,
            last_used_at: None,
            rotated_at: None,
            limits: [None, None, self.limits()][self.random.below(3)].clone(),
        };
        self.pats.push(pat.clone());
        pat
    }

    fn limits(&mut self) -> Option<Arc<Limits>> {
        let limits = Limits {
            networks: (0..self.random.below(3))
                .map(|_| IpAddr::from(self.random.bytes::<4>()).into())
                .collect(),
            requests_per_minute: NonZeroU32::new(u32::from(self.random.chance(50)) * 60),
            unused_days: NonZeroU16::new(u16::from(self.random.chance(50))),
        };
        limits.shared()
    }

    /// The number of a claim: one of few, so that what is let go is sometimes the one that holds.
    fn claim(&mut self) -> u64 {
        self.random.next() % 2
    }

    /// One of a few days around the beginning.
    fn day(&mut self) -> Date {
        date(2026, 4, 6 + i8::try_from(self.random.below(4)).expect("small"))
    }

    fn calls(&mut self) -> TokenCalls {
        let pat_id = self.pat();
        let tool = |known: &mut Self| ["search", "echo", "sum"][known.random.below(3)].to_owned();
        let days = (0..self.random.below(4)).map(|_| DayCalls {
            day: self.day(),
            upstream: ["github", "files"][self.random.below(2)].to_owned(),
            tool: tool(self),
            outcome: ["ok", "error"][self.random.below(2)].into(),
            calls: self.random.next() % 5 + 1,
            duration: Duration::from_micros(self.random.next() % 1000),
            bytes_in: self.random.next() % 100,
            bytes_out: self.random.next() % 100,
        });
        let days = days.collect();
        let latest = (0..self.random.below(60)).map(|_| {
            let later = Duration::from_secs(86_400) * u32::from(self.random.chance(20));
            record::Call {
                at: self.near().checked_add(later).expect("in range"),
                upstream: "github".to_owned(),
                tool: tool(self),
                outcome: "ok".into(),
                duration: Duration::from_micros(self.random.next() % 1000),
                bytes_in: self.random.next() % 100,
                bytes_out: self.random.next() % 100,
            }
        });
        TokenCalls { pat_id, days, latest: latest.collect() }
    }

    fn call(&mut self, head: u64) -> Call {
        self.now += i64::try_from(self.random.below(4)).expect("small");
        match self.random.below(31) {
            0 | 1 => Call::InsertUser(self.new_user()),
            2 => Call::InsertFirstUser(self.new_user()),
            3 => Call::UserById(self.user()),
            4 => Call::UserByEmail(format!("{}@example.org", self.random.below(FEW + 1))),
            5 => [Call::ListUsers, Call::HasUsers][self.random.below(2)].clone(),
            6 | 7 => {
                let disabled = self.random.chance(40).then(|| self.near());
                Call::SetUserDisabled(self.user(), disabled, self.time())
            }
            8 => {
                let keep = self.random.chance(50).then(|| self.session());
                Call::SetPassword(self.user(), format!("hash {}", self.random.below(100)), keep)
            }
            9..=13 => {
                let limit = [2, 3, 100][self.random.below(3)];
                Call::InsertPat(Box::new(self.new_pat()), limit)
            }
            14 => {
                let pat = self.pat();
                let known = self.pats.iter().find(|known| known.pat_id == pat);
                Call::PatByDigest(known.map_or(TokenDigest::from_bytes([9; 32]), |known| known.digest))
            }
            15 => Call::PatById(self.pat()),
            16 => Call::ActivePats(self.user(), self.near()),
            17 | 18 => Call::RevokePat(self.pat(), self.near()),
            19 => {
                let notes = (0..self.random.below(4)).map(|_| Usage {
                    pat_id: self.pat(),
                    last_used_at: self.near(),
                    networks: (0..self.random.below(3)).map(|_| self.network()).collect(),
                    address: self.random.chance(50).then(|| [192, 0, 2, self.random.bytes::<1>()[0]].into()),
                    user_agent: self.random.chance(50).then(|| "agent/1".to_owned()),
                    count: 1,
                });
                Call::RecordUsage(notes.collect())
            }
            20 => {
                // Digests are random: one does not come twice.
                let digest = self.random.bytes();
                let slot = self.random.below(FEW * 2);
                self.sessions[slot] = digest;
                let (user_id, created_at, expires_at) = (self.user(), self.time(), self.near());
                Call::InsertSession(SessionRecord { digest, user_id, created_at, expires_at })
            }
            21 => Call::SessionByDigest(self.session()),
            22 => Call::DeleteSession(self.session()),
            23 => {
                let keep = self.random.chance(50).then(|| self.session());
                match self.random.chance(50) {
                    true => Call::DeleteSessionsOf(self.user(), keep),
                    false => Call::DeleteExpiredSessions(self.near()),
                }
            }
            24 | 25 => {
                let node_id = self.nodes[self.random.below(FEW)];
                let lacks = self.random.next() % 3;
                Call::RenewLease(Lease {
                    node_id,
                    claim: self.claim(),
                    applied_seq: head.saturating_sub(lacks),
                    length: LENGTH,
                    name: String::new(),
                    cuts: Vec::new(),
                })
            }
            26 => match self.random.below(5) {
                3 | 4 => {
                    let holders = (0..self.random.below(3)).map(|_| Holder {
                        node_id: self.nodes[self.random.below(FEW)],
                        claim: self.claim(),
                        length: LENGTH,
                    });
                    Call::LetGo(holders.collect())
                }
                0 => Call::EndLease(self.nodes[self.random.below(FEW)]),
                1 => Call::LogHead,
                _ => Call::BindSecret([u8::from(self.random.chance(50)); 16]),
            },
            27 => Call::RecordCalls((0..self.random.below(3)).map(|_| self.calls()).collect()),
            28 if self.random.chance(30) => {
                // Days are longer than a sequence: what was made or used before its middle is unused.
                let of_all = u16::try_from(self.random.below(3)).expect("small").try_into().ok();
                Call::UnusedPats(self.near(), self.near() + SignedDuration::from_hours(24), of_all)
            }
            28 => Call::Activity(self.pat(), self.day()),
            29 if self.random.chance(30) => Call::ForgetCalls(self.day()),
            _ => {
                let except = self.random.chance(50).then(|| self.nodes[self.random.below(FEW)]);
                Call::HoldersBehind(self.random.next() % (head + 2), except)
            }
        }
    }

    /// All that can be read.
    fn everything(&self, head: u64) -> Vec<Call> {
        let far = at(self.now);
        let mut calls = vec![Call::ListUsers, Call::LogHead];
        calls.extend(self.users.iter().map(|id| Call::ActivePats(*id, far)));
        calls.extend(self.pats.iter().map(|pat| Call::PatById(pat.pat_id)));
        calls.extend(self.pats.iter().map(|pat| Call::Activity(pat.pat_id, date(2026, 4, 1))));
        calls.extend(self.sessions.iter().map(|digest| Call::SessionByDigest(*digest)));
        calls.extend((0..=head + 1).map(|seq| Call::HoldersBehind(seq, None)));
        let reader = Lease {
            node_id: Uuid::nil(),
            claim: 1,
            applied_seq: 0,
            length: LENGTH,
            name: String::new(),
            cuts: Vec::new(),
        };
        calls.push(Call::RenewLease(reader));
        calls
    }
}

/// Puts a fresh store through one sequence of calls, and reads all of it at the end.
pub async fn agrees_with_the_model(store: &dyn Store, seed: u64) {
    let model = MemoryStore::default();
    let mut known = Known::new(seed);
    for step in 0..CALLS {
        let head = model.log_head().await.expect("the model answers");
        let call = known.call(head);
        compare(store, &model, call, seed, step).await;
    }
    let head = model.log_head().await.expect("the model answers");
    for call in known.everything(head) {
        compare(store, &model, call, seed, CALLS).await;
    }
}

async fn compare(store: &dyn Store, model: &MemoryStore, call: Call, seed: u64, step: usize) {
    let expected = ask(model, call.clone()).await.map_err(|error| error.to_string());
    let answer = ask(store, call.clone()).await.map_err(|error| error.to_string());
    assert_eq!(
        answer, expected,
        "sequence {seed}, call {step}: the store (left) and the model (right) differ on {call:?}"
    );
}
