//! Random sequences of calls, to the store under test and to the plain model: every answer must be
//! the same. Many changes are made by actors that have lost their power meanwhile: those are
//! refused, and change nothing.

mod actors;
mod calls;
mod random;
mod sequence;

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use trustrelay_token::{KeyId, Limits, Network, TokenDigest};
use uuid::Uuid;

pub use self::actors::Refusals;
use self::calls::Call;
use self::random::Random;
pub use self::sequence::agrees_with_the_model;
use super::kit::{MANY, at};
use crate::admin::{InviteRecord, UserChange};
use crate::keys::Rekey;
use crate::notices::WebhookRecord;
use crate::policy::Policy;
use crate::power::Power;
use crate::record::{self, DayCalls, NetworkUse, PatRecord, SessionRecord, TokenCalls, Usage, UserRecord};
use crate::rotation::Rotation;
use crate::store::{Holder, Lease};

/// How many sequences a store is put through. Each is made from its number alone, so a failure
/// comes again.
pub const SEQUENCES: u64 = 240;
/// How long leases are: how long that takes is no matter of the model.
const LENGTH: Duration = Duration::from_secs(3600);
/// How many accounts, and so on, a sequence knows: few, so that calls meet.
const FEW: usize = 4;

/// What a sequence has given names to: ids that calls take up again, whether or not they came into
/// the store.
struct Known {
    random: Random,
    now: i64,
    users: Vec<Uuid>,
    pats: Vec<PatRecord>,
    /// Every secret that a token was given, and whose it is.
    secrets: Vec<(Uuid, Uuid, TokenDigest)>,
    /// Each with the account that it was begun for.
    sessions: Vec<(Uuid, [u8; 32])>,
    invites: Vec<Uuid>,
    webhooks: Vec<Uuid>,
    nodes: Vec<Uuid>,
    /// What actors had when they acted last.
    acted: Vec<Power>,
}

impl Known {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut ids = || (0..FEW).map(|_| random.id()).collect::<Vec<_>>();
        let (users, nodes, invites, webhooks) = (ids(), ids(), ids(), ids());
        let sessions = (0..FEW * 2).map(|_| (users[random.below(FEW)], random.bytes())).collect();
        let (pats, secrets, acted) = (Vec::new(), Vec::new(), Vec::new());
        Self { random, now: 0, users, pats, secrets, sessions, invites, webhooks, nodes, acted }
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
        self.sessions[self.random.below(FEW * 2)].1
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
        self.user_at(index)
    }

    fn user_at(&mut self, index: usize) -> UserRecord {
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
        self.secrets.push((pat.user_id, pat.pat_id, pat.digest));
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
        if self.random.chance(30) {
            return self.deed(head);
        }
        match self.random.below(32) {
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
                let (digest, user_id) = (self.random.bytes(), self.user());
                let slot = self.random.below(FEW * 2);
                self.sessions[slot] = (user_id, digest);
                let (created_at, lasts) = (self.time(), self.random.below(40));
                let expires_at = at(self.now - 10 + i64::try_from(lasts).expect("small"));
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
                    url: None,
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
                _ => Call::BindSecret(self.fingerprint()),
            },
            27 => Call::RecordCalls((0..self.random.below(3)).map(|_| self.calls()).collect()),
            28 if self.random.chance(30) => {
                // Days are longer than a sequence: what was made or used before its middle is
                // unused.
                let of_all = u16::try_from(self.random.below(3)).expect("small").try_into().ok();
                Call::UnusedPats(self.near(), self.near() + SignedDuration::from_hours(24), of_all)
            }
            28 => Call::Activity(self.pat(), self.day()),
            29 if self.random.chance(30) => Call::ForgetCalls(self.day()),
            29 | 30 => self.rekeying(),
            _ => {
                let except = self.random.chance(50).then(|| self.nodes[self.random.below(FEW)]);
                Call::HoldersBehind(self.random.next() % (head + 2), except)
            }
        }
    }

    /// Every account with a session and tokens: so that there is power to be taken away from the
    /// beginning on.
    fn beginning(&mut self) -> Vec<Call> {
        let mut calls: Vec<_> = (0..FEW).map(|index| Call::InsertUser(self.user_at(index))).collect();
        for (user_id, digest) in self.sessions.clone() {
            let expires_at = at(20 + i64::try_from(self.random.below(80)).expect("small"));
            let session = SessionRecord { digest, user_id, created_at: self.time(), expires_at };
            calls.push(Call::InsertSession(session));
        }
        calls.extend((0..FEW * 2).map(|_| Call::InsertPat(Box::new(self.new_pat()), MANY)));
        calls.push(Call::BindSecret([0; 16]));
        calls
    }

    /// A change of those that people make with a body that may come late.
    fn deed(&mut self, head: u64) -> Call {
        match self.random.below(15) {
            12 => Call::ReplaceSecret(self.fingerprint(), self.fingerprint()),
            0 | 1 => Call::ChangeUser(self.user(), UserChange::Admin(self.random.chance(40)), self.time()),
            2 => {
                let names = || vec!["files".to_owned(), "github".to_owned()];
                let change = match self.random.below(4) {
                    0 => UserChange::Upstreams(None),
                    1 => UserChange::Upstreams(Some(names())),
                    2 => UserChange::Upstreams(Some(Vec::new())),
                    _ => UserChange::NarrowUpstreams(names()),
                };
                Call::ChangeUser(self.user(), change, self.time())
            }
            3 | 4 | 13 | 14 => self.rotation(),
            5 => Call::RetireSecret(self.pat(), self.time()),
            6 => Call::EndOverlap(self.pat(), self.time()),
            7 => {
                let slot = self.random.below(FEW);
                let invite = InviteRecord {
                    invite_id: self.random.id(),
                    digest: self.random.bytes(),
                    email: format!("{}@example.org", self.random.below(FEW * 2)),
                    is_admin: self.random.chance(50),
                    created_by: None,
                    created_at: self.near(),
                    expires_at: self.near(),
                };
                self.invites[slot] = invite.invite_id;
                Call::InsertInvite(invite, [1, MANY][self.random.below(2)])
            }
            8 => Call::DeleteInvite(self.invites[self.random.below(FEW)]),
            9 => {
                let days = self.random.below(90) as u16;
                let policy = Policy { max_days: NonZeroU16::new(days), ..Policy::default() };
                // The entry that made the present one is one of the last.
                let replaces = self.random.next() % (head + 1);
                Call::SetPolicy(policy, [0, replaces][self.random.below(2)], self.time())
            }
            10 => {
                let slot = self.random.below(FEW);
                let webhook_id = self.random.id();
                let webhook = WebhookRecord {
                    webhook_id,
                    user_id: self.random.chance(70).then(|| self.user()),
                    url: format!("https://hooks.example.org/{webhook_id}"),
                    origin: "https://hooks.example.org".into(),
                    key_id: KeyId(3),
                    created_at: self.time(),
                };
                self.webhooks[slot] = webhook_id;
                Call::InsertWebhook(webhook, [1, MANY][self.random.below(2)])
            }
            _ => Call::DeleteWebhook(self.webhooks[self.random.below(FEW)], self.time()),
        }
    }

    /// A rotation with an overlap, without one, or until the first use.
    fn rotation(&mut self) -> Call {
        let pat_id = self.pat();
        let known = self.secrets.iter().rev().find(|(_, of, _)| *of == pat_id);
        let (user_id, _, replaces) =
            known.copied().unwrap_or((Uuid::nil(), pat_id, TokenDigest::from_bytes([9; 32])));
        let digest = TokenDigest::from_bytes(self.random.bytes());
        let overlap = [0, 0, 5, 20][self.random.below(4)];
        let rotation = Rotation {
            pat_id,
            at: self.time(),
            replaces,
            digest,
            key_id: KeyId(3),
            hint: "...efgh".to_owned(),
            expires_at: at(self.now + 60),
            old_valid_until: at(self.now + overlap),
            until_first_use: self.random.chance(30),
            repeatable: None,
        };
        self.secrets.push((user_id, pat_id, digest));
        Call::RotatePat(Box::new(rotation))
    }

    /// The fingerprint of one of the server's secrets, mostly of the first.
    fn fingerprint(&mut self) -> [u8; 16] {
        [u8::try_from(self.random.below(12).saturating_sub(9)).expect("small"); 16]
    }

    /// Of the secret that a token had last, mostly.
    fn rekeying(&mut self) -> Call {
        let pat_id = self.pat();
        let mut of_it = self.secrets.iter().rev().filter(|(_, of, _)| *of == pat_id);
        let known = if self.random.chance(80) { of_it.next() } else { of_it.nth(1) };
        let (user_id, _, replaces) =
            known.copied().unwrap_or((Uuid::nil(), pat_id, TokenDigest::from_bytes([9; 32])));
        let digest = TokenDigest::from_bytes(self.random.bytes());
        self.secrets.push((user_id, pat_id, digest));
        let fingerprint = self.fingerprint();
        Call::Rekey(Box::new(Rekey { pat_id, replaces, digest, key_id: KeyId(4), fingerprint }))
    }

    /// All that can be read without changing anything.
    fn reads(&self) -> Vec<Call> {
        let far = at(self.now);
        let mut calls =
            vec![Call::ListUsers, Call::LogHead, Call::AuditEnds, Call::Policy, Call::KeyCounts(far)];
        calls.extend([Call::Invites(far), Call::Webhooks(None)]);
        calls.extend(self.users.iter().map(|id| Call::Webhooks(Some(*id))));
        calls.extend(self.secrets.iter().map(|(.., digest)| Call::PatByDigest(*digest)));
        calls.extend(self.users.iter().map(|id| Call::ActivePats(*id, far)));
        calls.extend(self.pats.iter().map(|pat| Call::PatById(pat.pat_id)));
        calls.extend(self.pats.iter().map(|pat| Call::Activity(pat.pat_id, date(2026, 4, 1))));
        calls.extend(self.sessions.iter().map(|(_, digest)| Call::SessionByDigest(*digest)));
        calls
    }

    /// All that can be read.
    fn everything(&self, head: u64) -> Vec<Call> {
        let mut calls = self.reads();
        calls.extend((0..=head + 1).map(|seq| Call::HoldersBehind(seq, None)));
        let reader = Lease {
            node_id: Uuid::nil(),
            claim: 1,
            applied_seq: 0,
            length: LENGTH,
            name: String::new(),
            url: None,
            cuts: Vec::new(),
        };
        calls.push(Call::RenewLease(reader));
        calls
    }
}
