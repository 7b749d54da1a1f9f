//! A node: the real authority, with a clock and open streams of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use trustrelay_authority::*;
use trustrelay_token::{Principal, TokenDigest};
use uuid::Uuid;

use crate::dice::Dice;
use crate::history::{self, History, Moment, TokenNumber};
use crate::powers::Power;
use crate::wire::Wire;
use crate::world::CLIENTS;

/// How long a lease is.
pub const LEASE: Duration = Duration::from_millis(400);
/// How slow or fast a clock may be, in thousandths: so that none loses more on another than the
/// tenth that the fence allows for.
pub const DRIFT: std::ops::RangeInclusive<u32> = 950..=1050;
/// For so long after a renewal its node surely trusts it: that is nine tenths, by a clock that may
/// be fast.
pub const SURE: Duration = Duration::from_millis(340);

/// A machine's clocks. The wall clock may be set wrong, by up to an hour, at any time; the clock
/// that measures leases is a little slow, or fast.
pub struct DriftingClock {
    began: Instant,
    /// How far the wall clock is ahead, in microseconds.
    ahead: AtomicI64,
    thousandths: u32,
    set_at: Mutex<Option<Instant>>,
}

impl DriftingClock {
    pub fn new(began: Instant, ahead: i64, thousandths: u32) -> Self {
        Self { began, ahead: AtomicI64::new(ahead), thousandths, set_at: Mutex::default() }
    }

    /// Sets the wall clock, in microseconds ahead of the true time.
    pub fn set(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
        *self.set_at.lock() = Some(Instant::now());
    }

    /// Returns true if the wall clock was not set within a time: then the node has noticed how it
    /// is set.
    pub fn is_steady_for(&self, time: Duration) -> bool {
        self.set_at.lock().is_none_or(|at| at.elapsed() > time)
    }

    /// When the wall clock was set last.
    pub fn set_at(&self) -> Option<Instant> {
        *self.set_at.lock()
    }
}

impl Clock for DriftingClock {
    fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.began.elapsed().as_micros()).expect("short");
        let ahead = self.ahead.load(Ordering::SeqCst);
        Timestamp::from_microsecond(1_775_563_200_000_000 + micros + ahead).expect("in range")
    }

    fn since_boot(&self) -> Duration {
        Duration::from_secs(1000) + self.began.elapsed() * self.thousandths / 1000
    }
}

/// What a request was let in by, as the MCP endpoint keeps it.
#[derive(Clone)]
pub struct Admitted {
    pub principal: Arc<Principal>,
    pub token: TokenNumber,
    /// When its verification had ended.
    pub at: Moment,
    pub narrowings: u64,
    /// Whether its account might use all upstreams then.
    pub had_wiki: bool,
}

impl Admitted {
    pub fn stands(&self) -> bool {
        self.principal.stands() && self.principal.upstreams.narrowings() == self.narrowings
    }
}

/// Something that a token holds open.
struct Stream {
    admitted: Admitted,
    pat_id: Uuid,
    /// Whether its principal was asked whether it stands, after the stream was registered.
    asked: bool,
}

/// What tokens hold open on a node.
pub struct Streams {
    history: Arc<History>,
    open: Mutex<BTreeMap<u64, Stream>>,
    /// By token: how many were cut here.
    pub cut: Mutex<BTreeMap<Uuid, usize>>,
}

impl Streams {
    pub fn new(history: Arc<History>) -> Arc<Self> {
        Arc::new(Self { history, open: Mutex::default(), cut: Mutex::default() })
    }

    /// Registers first; [`Streams::ask`] comes second.
    pub fn register(&self, admitted: &Admitted) -> u64 {
        let number = self.history.moment();
        let pat_id = admitted.principal.pat_id().expect("a token's");
        let stream = Stream { admitted: admitted.clone(), pat_id, asked: false };
        self.open.lock().insert(number, stream);
        number
    }

    /// Keeps the stream open if its principal still stands.
    pub fn ask(&self, stream: u64, admitted: &Admitted) {
        let mut open = self.open.lock();
        if admitted.stands() {
            open.entry(stream).and_modify(|stream| stream.asked = true);
        } else {
            open.remove(&stream);
        }
    }

    /// Whether a token has an open stream here.
    pub fn has(&self, pat_id: Uuid) -> bool {
        self.open.lock().values().any(|stream| stream.pat_id == pat_id && stream.asked)
    }

    /// Whether one of these secrets has an open stream here.
    pub fn has_secret(&self, tokens: &[TokenNumber]) -> bool {
        self.open.lock().values().any(|stream| stream.asked && tokens.contains(&stream.admitted.token))
    }

    /// Whether somebody of an account who has something holds a stream open here.
    pub fn has_power(&self, user_id: Uuid, power: Power) -> bool {
        let open = self.open.lock();
        let mut principals = open.values().map(|stream| &stream.admitted.principal);
        principals.any(|principal| principal.user_id == user_id && power.is_had_by(principal))
    }

    /// Whose one of the open streams is.
    pub fn any(&self, dice: &Dice) -> Option<Admitted> {
        let open = self.open.lock();
        open.values().nth(dice.below(open.len())).map(|stream| stream.admitted.clone())
    }

    fn end(&self, ends: impl Fn(Uuid, Uuid) -> bool) -> Vec<u64> {
        self.end_if(|stream| ends(stream.pat_id, stream.admitted.principal.user_id))
    }

    /// Which streams it ended, by number.
    fn end_if(&self, ends: impl Fn(&Stream) -> bool) -> Vec<u64> {
        let mut ended = Vec::new();
        self.open.lock().retain(|number, stream| {
            let stays = !ends(stream);
            if !stays {
                ended.push(*number);
            }
            stays
        });
        ended
    }
}

impl Cut for Streams {
    fn cut_token(&self, pat_id: Uuid) -> Vec<u64> {
        let ended = self.end(|of, _| of == pat_id);
        let streams = ended.len();
        *self.cut.lock().entry(pat_id).or_default() += streams;
        self.history.0.lock().cuts.push(history::Cut { pat_id, streams });
        ended
    }

    fn cut_user(&self, user_id: Uuid) -> Vec<u64> {
        self.end(|_, of| of == user_id)
    }

    fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> usize {
        self.end_if(|stream| {
            stream.pat_id == pat_id
                && stream.admitted.principal.pat().is_some_and(|pat| pat.digest() == digest)
        })
        .len()
    }

    fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> usize {
        self.end_if(|_| allows.as_ref().is_some_and(|allows| !allows(Some(CLIENTS)))).len()
    }
}

/// See the module.
#[derive(Clone)]
pub struct Node {
    pub number: usize,
    pub clock: Arc<DriftingClock>,
    pub authority: Arc<Authority>,
    pub wire: Arc<Wire>,
    pub streams: Arc<Streams>,
}

impl Node {
    /// Hands something of a stream on, as soon as the lease holds, as the gate of the MCP endpoint
    /// does; whether it was handed on.
    pub async fn hand_on(&self, admitted: &Admitted) -> bool {
        loop {
            let changed = self.authority.lease_changed();
            let Look { holds, now } = self.authority.look();
            let stands = admitted.stands() && !admitted.principal.has_expired_by(now);
            if self.wire.has_ended() || !stands || !self.authority.admits_from(Some(CLIENTS)) {
                return false;
            }
            if holds {
                return true;
            }
            changed.await;
        }
    }

    /// Whether a client gets an answer from it at all.
    pub fn answers(&self) -> bool {
        !self.wire.has_ended() && !self.wire.is_paused()
    }
}

/// Opens an authority; a database that can't be reached is asked again, as a program that is
/// started again would.
pub async fn open(
    number: usize,
    wire: Arc<Wire>,
    secret: &ServerSecret,
    clock: DriftingClock,
    history: &Arc<History>,
) -> Node {
    let config = AuthorityConfig {
        lease: LEASE,
        password_memory_kib: 8,
        usage_flush: Duration::from_secs(3600),
        ..AuthorityConfig::default()
    };
    let clock = Arc::new(clock);
    let streams = Streams::new(history.clone());
    loop {
        let secrets = std::slice::from_ref(secret);
        if let Ok(authority) = Authority::open(wire.clone(), secrets, clock.clone(), config.clone()).await {
            authority.set_cut(streams.clone());
            return Node { number, clock, authority, wire, streams };
        }
    }
}
