//! Everything a token holds open, by token id, so that cutting it is one call.
//!
//! The rule against the race with a revocation: register first, ask `Principal::stands` second. Either the
//! cut finds the entry, or the question is answered with no.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trustrelay_token::Principal;
use uuid::Uuid;

use crate::clock;

/// How many of each were cut, or are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Client sessions.
    pub sessions: usize,
    /// Streams that tell what happens: a session's, or a subscription's.
    pub streams: usize,
    /// Calls in flight.
    pub calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Session,
    Stream,
    Call,
    /// A session with an upstream: ended with the rest, and not the client's to count.
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

struct Open {
    kind: Kind,
    cancel: CancellationToken,
    /// When the credential that it was opened with ends. A token that was rotated has two for a while, and the old one ends sooner.
    expires_at: Timestamp,
}

struct Held {
    user_id: Uuid,
    entries: HashMap<u64, Open>,
    timer: Arc<Timer>,
}

/// Ends what has expired.
#[derive(Default)]
struct Timer {
    /// Nothing is held any more.
    over: CancellationToken,
    /// Something is held that ends sooner than all the rest.
    sooner: Notify,
}

#[derive(Default)]
pub(crate) struct Registry {
    tokens: Mutex<HashMap<Uuid, Held>>,
    next: AtomicU64,
    /// Told whenever something is not held open any more.
    ended: Notify,
    gauges: OnceLock<[Gauge; 4]>,
}

/// The longest that a timer sleeps before it looks at the wall clock again: a suspended machine's sleep
/// isn't counted by timers, and tokio's reach only so far.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Registry {
    pub(crate) fn register(self: &Arc<Self>, principal: &Principal, pat_id: Uuid, kind: Kind) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cancel = CancellationToken::new();
        let expires_at = principal.expires_at();
        let open = Open { kind, cancel: cancel.clone(), expires_at };
        let mut first = None;
        {
            let mut tokens = self.tokens.lock();
            let held = tokens.entry(pat_id).or_insert_with(|| {
                let timer = Arc::new(Timer::default());
                first = Some(Arc::clone(&timer));
                Held { user_id: principal.user_id, entries: HashMap::new(), timer }
            });
            if held.entries.values().all(|other| expires_at < other.expires_at) {
                held.timer.sooner.notify_one();
            }
            held.entries.insert(id, open);
        }
        if let Some(timer) = first {
            let registry = Arc::clone(self);
            tokio::spawn(async move {
                while let Some(next) = registry.cut_expired(pat_id, clock::now()) {
                    let left = Duration::try_from(next.duration_since(clock::now())).unwrap_or_default();
                    tokio::select! {
                        () = timer.over.cancelled() => return,
                        () = timer.sooner.notified() => {}
                        () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
                    }
                }
            });
        }
        self.gauge(kind, 1.0);
        Entry { registry: Arc::clone(self), pat_id, id, kind, cancel }
    }

    /// Ends what a token has opened with a credential that has expired; when the next one does.
    fn cut_expired(&self, pat_id: Uuid, now: Timestamp) -> Option<Timestamp> {
        let mut tokens = self.tokens.lock();
        let held = tokens.get_mut(&pat_id)?;
        held.entries.retain(|_, open| {
            let stays = open.expires_at > now;
            if !stays {
                open.cancel.cancel();
            }
            stays
        });
        let next = held.entries.values().map(|open| open.expires_at).min();
        if next.is_none() {
            tokens.remove(&pat_id);
        }
        next
    }

    pub(crate) fn cut_token(&self, pat_id: Uuid) -> Cut {
        let held = self.tokens.lock().remove(&pat_id);
        let mut cut = Cut::default();
        if let Some(held) = held {
            held.timer.over.cancel();
            for open in held.entries.into_values() {
                cut.count(open.kind);
                open.cancel.cancel();
            }
        }
        cut
    }

    pub(crate) fn cut_user(&self, user_id: Uuid) -> Cut {
        let ids: Vec<Uuid> = self
            .tokens
            .lock()
            .iter()
            .filter(|(_, held)| held.user_id == user_id)
            .map(|(id, _)| *id)
            .collect();
        self.cut_each(ids)
    }

    pub(crate) fn cut_all(&self) -> Cut {
        let ids: Vec<Uuid> = self.tokens.lock().keys().copied().collect();
        self.cut_each(ids)
    }

    /// Ends the streams, which would not end by themselves.
    pub(crate) fn end_streams(&self) {
        for held in self.tokens.lock().values() {
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
            // From here on it is told, also of what ends before it is awaited.
            ended.as_mut().enable();
            if self.open().calls == 0 {
                return;
            }
            ended.await;
        }
    }

    fn cut_each(&self, ids: Vec<Uuid>) -> Cut {
        ids.into_iter().fold(Cut::default(), |sum, id| {
            let cut = self.cut_token(id);
            Cut {
                sessions: sum.sessions + cut.sessions,
                streams: sum.streams + cut.streams,
                calls: sum.calls + cut.calls,
            }
        })
    }

    pub(crate) fn open(&self) -> Cut {
        self.open_where(|_| true)
    }

    pub(crate) fn open_of(&self, user_id: Uuid) -> Cut {
        self.open_where(|held| held.user_id == user_id)
    }

    fn open_where(&self, which: impl Fn(&Held) -> bool) -> Cut {
        let mut open = Cut::default();
        for held in self.tokens.lock().values().filter(|held| which(held)) {
            for one in held.entries.values() {
                open.count(one.kind);
            }
        }
        open
    }

    fn gauge(&self, kind: Kind, change: f64) {
        // Made at the first use: the program may install what counts after it made the relay.
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

/// One open thing. Dropping it takes it out of the registry.
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
        if let Some(held) = tokens.get_mut(&self.pat_id) {
            held.entries.remove(&self.id);
            if held.entries.is_empty() {
                held.timer.over.cancel();
                tokens.remove(&self.pat_id);
            }
        }
        drop(tokens);
        self.registry.ended.notify_waiters();
    }
}
