//! The registry of everything that a token has open, by token id, so that one call ends all of it.
//!
//! To close the race with a revocation, a caller registers first and checks `Principal::stands`
//! second. Either the cut finds the entry, or the check fails.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trustrelay_token::{Principal, TokenDigest};
use uuid::Uuid;

use crate::admitted::Admitted;
use crate::clock;

/// Counts of open or ended things, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Client sessions.
    pub sessions: usize,
    /// Streams of notifications: of a session, or of a subscription.
    pub streams: usize,
    /// Calls in flight.
    pub calls: usize,
}

/// The result of a cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// The number of ended things, by kind.
    pub counts: Cut,
    /// The numbers of the ended client sessions. A session has the same number on every node where
    /// it is open.
    pub sessions: Vec<u64>,
}

impl Ended {
    fn count(&mut self, open: &Open) {
        self.counts.count(open.kind);
        self.sessions.extend(open.session);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Session,
    Stream,
    Call,
    /// A session with an upstream. It ends with the rest but is not counted, because it is not the
    /// client's.
    Link,
}

impl Cut {
    fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Session => self.sessions += 1,
            Kind::Stream => self.streams += 1,
            Kind::Call => self.calls += 1,
            Kind::Link => {}
        }
    }
}

impl Kind {
    /// Returns whether things of this kind belong to the request that opened them, not to the
    /// token. Such a thing ends with the secret that the request used, and when its client's
    /// address is no longer allowed.
    fn is_of_a_request(self) -> bool {
        matches!(self, Self::Stream | Self::Call)
    }
}

/// Decides whether tokens may be used from an address. An unknown address is `None`.
pub type AllowsFrom = Arc<dyn Fn(Option<IpAddr>) -> bool + Send + Sync>;

struct Open {
    kind: Kind,
    /// The number of the client session, if it is one.
    session: Option<u64>,
    cancel: CancellationToken,
    /// The secret that it was opened with.
    digest: Option<TokenDigest>,
    /// The client's address, if known.
    address: Option<IpAddr>,
    /// The expiry of the credential that it was opened with. After a rotation a token has two
    /// credentials for a while, and the old one expires sooner.
    expires_at: Timestamp,
}

struct Held {
    user_id: Uuid,
    entries: HashMap<u64, Open>,
}

impl Held {
    /// Cuts the things opened by requests for which `ends` returns true.
    fn cut_requests(&mut self, cut: &mut Cut, ends: impl Fn(&Open) -> bool) {
        self.entries.retain(|_, open| {
            let stays = !open.kind.is_of_a_request() || !ends(open);
            if !stays {
                cut.count(open.kind);
                open.cancel.cancel();
            }
            stays
        });
    }
}

#[derive(Default)]
struct Tokens {
    held: HashMap<Uuid, Held>,
    /// The time of the timer's next check for expired entries. `None` until the timer has started.
    looks_at: Option<Timestamp>,
    /// The addresses that tokens may be used from, once that was changed. Refuses a request that
    /// was admitted before the change and registers after it.
    allows_from: Option<AllowsFrom>,
}

#[derive(Default)]
pub(crate) struct Registry {
    tokens: Mutex<Tokens>,
    next: AtomicU64,
    /// Wakes the timer when an entry is added that expires before the timer's next check.
    sooner: Arc<Notify>,
    /// Notified whenever an entry is removed.
    ended: Notify,
    gauges: OnceLock<[Gauge; 4]>,
}

/// Maximum time between two looks at the wall clock. Timers do not count the time that a machine is
/// suspended, and tokio's timers have a limited range.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Registry {
    /// Registers a client session. It belongs to the token.
    pub(crate) fn register_session(
        self: &Arc<Self>,
        principal: &Principal,
        pat_id: Uuid,
        number: u64,
    ) -> Entry {
        self.open_entry(principal, None, pat_id, Kind::Session, Some(number))
    }

    /// Registers something else that belongs to the token.
    pub(crate) fn register(self: &Arc<Self>, principal: &Principal, pat_id: Uuid, kind: Kind) -> Entry {
        self.open_entry(principal, None, pat_id, kind, None)
    }

    /// Registers something that belongs to a request.
    pub(crate) fn register_request(self: &Arc<Self>, caller: &Admitted, pat_id: Uuid, kind: Kind) -> Entry {
        self.open_entry(caller, caller.address(), pat_id, kind, None)
    }

    fn open_entry(
        self: &Arc<Self>,
        principal: &Principal,
        address: Option<IpAddr>,
        pat_id: Uuid,
        kind: Kind,
        session: Option<u64>,
    ) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cancel = CancellationToken::new();
        let expires_at = principal.expires_at();
        let digest = principal.pat().map(|pat| *pat.digest());
        let open = Open { kind, session, cancel: cancel.clone(), digest, address, expires_at };
        let looks_at = {
            let mut tokens = self.tokens.lock();
            if kind.is_of_a_request() && tokens.allows_from.as_ref().is_some_and(|allows| !allows(address)) {
                cancel.cancel();
            }
            let held = tokens.held.entry(pat_id);
            let held = held.or_insert_with(|| Held { user_id: principal.user_id, entries: HashMap::new() });
            held.entries.insert(id, open);
            let looks_at = tokens.looks_at;
            // The first entry starts the timer.
            tokens.looks_at.get_or_insert(Timestamp::MAX);
            looks_at
        };
        match looks_at {
            None => self.start_timer(),
            Some(looks_at) if expires_at < looks_at => self.sooner.notify_one(),
            Some(_) => {}
        }
        self.gauge(kind, 1.0);
        Entry { registry: Arc::clone(self), pat_id, id, kind, cancel }
    }

    /// Starts the timer that ends expired entries. One timer serves all entries, because most calls
    /// end long before their token expires.
    fn start_timer(self: &Arc<Self>) {
        let (registry, sooner) = (Arc::downgrade(self), Arc::clone(&self.sooner));
        tokio::spawn(async move {
            while let Some(left) = registry.upgrade().map(|registry| registry.cut_expired(clock::now())) {
                tokio::select! {
                    () = sooner.notified() => {}
                    () = tokio::time::sleep(left) => {}
                }
            }
        });
    }

    /// Ends everything that was opened with an expired credential. Returns the time until the next
    /// check.
    fn cut_expired(&self, now: Timestamp) -> Duration {
        let mut tokens = self.tokens.lock();
        let mut next = now.saturating_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        tokens.held.retain(|_, held| {
            held.entries.retain(|_, open| {
                let stays = open.expires_at > now;
                if stays {
                    next = next.min(open.expires_at);
                } else {
                    open.cancel.cancel();
                }
                stays
            });
            !held.entries.is_empty()
        });
        // Set under the lock, so that later registrations compare their expiry with it.
        tokens.looks_at = Some(next);
        Duration::try_from(next.duration_since(now)).unwrap_or_default()
    }

    pub(crate) fn cut_token(&self, pat_id: Uuid) -> Ended {
        self.cut_each(vec![pat_id])
    }

    pub(crate) fn cut_user(&self, user_id: Uuid) -> Ended {
        let ids: Vec<Uuid> = self
            .tokens
            .lock()
            .held
            .iter()
            .filter(|(_, held)| held.user_id == user_id)
            .map(|(id, _)| *id)
            .collect();
        self.cut_each(ids)
    }

    /// Ends everything that requests with one of a token's secrets have open. The token's sessions
    /// stay, because the holder of the new secret continues them.
    pub(crate) fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> Cut {
        let mut cut = Cut::default();
        if let Some(held) = self.tokens.lock().held.get_mut(&pat_id) {
            held.cut_requests(&mut cut, |open| open.digest.as_ref() == Some(digest));
        }
        cut
    }

    /// Ends everything that requests from disallowed addresses have open. Also refuses such
    /// requests that were admitted before but register later. `None` allows every address.
    pub(crate) fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> Cut {
        let mut tokens = self.tokens.lock();
        let mut cut = Cut::default();
        if let Some(allows) = &allows {
            for held in tokens.held.values_mut() {
                held.cut_requests(&mut cut, |open| !allows(open.address));
            }
        }
        tokens.allows_from = allows;
        cut
    }

    pub(crate) fn cut_all(&self) -> Ended {
        let ids: Vec<Uuid> = self.tokens.lock().held.keys().copied().collect();
        self.cut_each(ids)
    }

    /// Ends the streams, which would not end by themselves.
    pub(crate) fn end_streams(&self) {
        for held in self.tokens.lock().held.values() {
            for open in held.entries.values() {
                if open.kind == Kind::Stream {
                    open.cancel.cancel();
                }
            }
        }
    }

    /// Waits until no call is in flight.
    pub(crate) async fn without_calls(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on, notifications are received even before the future is awaited.
            ended.as_mut().enable();
            if self.open().calls == 0 {
                return;
            }
            ended.await;
        }
    }

    fn cut_each(&self, ids: Vec<Uuid>) -> Ended {
        let mut ended = Ended::default();
        for id in ids {
            let held = self.tokens.lock().held.remove(&id);
            for open in held.into_iter().flat_map(|held| held.entries.into_values()) {
                ended.count(&open);
                open.cancel.cancel();
            }
        }
        ended
    }

    pub(crate) fn open(&self) -> Cut {
        self.open_where(|_| true)
    }

    pub(crate) fn open_of(&self, user_id: Uuid) -> Cut {
        self.open_where(|held| held.user_id == user_id)
    }

    fn open_where(&self, which: impl Fn(&Held) -> bool) -> Cut {
        let mut open = Cut::default();
        for held in self.tokens.lock().held.values().filter(|held| which(held)) {
            for one in held.entries.values() {
                open.count(one.kind);
            }
        }
        open
    }

    fn gauge(&self, kind: Kind, change: f64) {
        // Created on first use, because the program may install the metrics recorder after it
        // created the relay.
        let gauges = self.gauges.get_or_init(|| {
            [
                metrics::gauge!("trustrelay_mcp_sessions_open"),
                metrics::gauge!("trustrelay_mcp_streams_open"),
                metrics::gauge!("trustrelay_mcp_calls_open"),
                metrics::gauge!("trustrelay_mcp_links_open"),
            ]
        });
        gauges[kind as usize].increment(change);
    }
}

/// A registered entry. Dropping it removes it from the registry.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    pat_id: Uuid,
    id: u64,
    kind: Kind,
    pub(crate) cancel: CancellationToken,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.gauge(self.kind, -1.0);
        let mut tokens = self.registry.tokens.lock();
        if let Some(held) = tokens.held.get_mut(&self.pat_id) {
            held.entries.remove(&self.id);
            if held.entries.is_empty() {
                tokens.held.remove(&self.pat_id);
            }
        }
        drop(tokens);
        self.registry.ended.notify_waiters();
    }
}
