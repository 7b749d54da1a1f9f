//! The relay: its parts and its public interface.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use trustrelay_token::{Principal, TokenDigest};
use url::Url;
use uuid::Uuid;

use crate::admitted::Admitted;
use crate::body::{BoxError, RelayBody};
use crate::catalogue::UpstreamStatus;
use crate::config::{Limits, RelayConfig, RelayError};
use crate::context::Context;
use crate::envelope::{Message, RawObject};
use crate::input::Parked;
use crate::record::{CallRecord, Records};
use crate::registry::{AllowsFrom, Cut, Ended, Registry};
use crate::reply::{self, Reply};
use crate::seal::Sealer;
use crate::session::{Sealed, Session};
use crate::upstream::{KEPT, Link, Upstream};

/// Number of ended sessions that are remembered. Their sealed ids are still valid, so this memory
/// prevents them from starting a session again. Each takes 8 bytes, twice.
const REMEMBERED_ENDS: usize = 65_536;

/// The sessions in memory.
#[derive(Default)]
struct Sessions {
    /// Sessions by token, in the order of their arrival.
    live: HashMap<Uuid, Vec<Arc<Session>>>,
    ended: HashSet<u64>,
    ended_order: VecDeque<u64>,
}

impl Sessions {
    fn find(&self, pat_id: Uuid, id: &str) -> Option<&Arc<Session>> {
        self.live.get(&pat_id)?.iter().find(|session| session.id == id)
    }

    fn remove(&mut self, session: &Session) {
        if let Some(theirs) = self.live.get_mut(&session.pat_id) {
            theirs.retain(|other| other.number != session.number);
            if theirs.is_empty() {
                self.live.remove(&session.pat_id);
            }
        }
    }

    fn end(&mut self, number: u64) {
        if self.ended.insert(number) {
            self.ended_order.push_back(number);
        }
        if self.ended_order.len() > REMEMBERED_ENDS
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}

pub(crate) struct Inner {
    /// Sorted by name, the order in which clients see them.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) public_origin: Option<String>,
    pub(crate) home: Option<Url>,
    pub(crate) limits: Limits,
    pub(crate) registry: Arc<Registry>,
    pub(crate) sealer: Sealer,
    pub(crate) records: Records,
    pub(crate) parked: Mutex<HashMap<Uuid, Parked>>,
    sessions: Mutex<Sessions>,
    pub(crate) tasks: TaskTracker,
    sweeping: AtomicBool,
}

/// The relay. Cheap to clone.
#[derive(Clone)]
pub struct Relay(pub(crate) Arc<Inner>);

impl Relay {
    /// Creates a relay. It contacts no upstream yet.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the configuration of an upstream is invalid, an HTTP client cannot
    /// be set up, or the system provides no randomness.
    pub fn new(config: RelayConfig) -> Result<Self, RelayError> {
        let mut upstreams = Vec::new();
        for upstream in config.upstreams {
            upstreams.push(Arc::new(Upstream::new(upstream, &config.limits)?));
        }
        upstreams.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        if let Some(pair) = upstreams.windows(2).find(|pair| pair[0].name.as_str() == pair[1].name.as_str()) {
            return Err(RelayError::Twice(pair[0].name.clone()));
        }
        Ok(Self(Arc::new(Inner {
            upstreams,
            public_origin: config.public_origin,
            home: config.home,
            limits: config.limits,
            registry: Arc::default(),
            sealer: Sealer::new(&config.seal_keys).map_err(RelayError::Random)?,
            records: Records::new(config.recorder),
            parked: Mutex::default(),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
            sweeping: AtomicBool::new(false),
        })))
    }

    /// Answers one request. `upstream` is `None` on `/mcp`, and the name on `/mcp/NAME`. The
    /// principal comes from the authentication guard, which has removed the `Authorization` header.
    pub async fn handle<B>(
        &self,
        principal: impl Into<Admitted>,
        upstream: Option<&str>,
        request: Request<B>,
    ) -> Response<RelayBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.sweep_now_and_then();
        crate::front::handle(self, principal.into(), upstream, request).await
    }

    /// Ends everything that a token has open: sessions, streams, calls in flight. Farewells to the
    /// upstreams are sent in the background.
    pub fn cut_token(&self, pat_id: Uuid) -> Ended {
        self.0.registry.cut_token(pat_id)
    }

    /// Ends everything that the tokens of a user have open.
    pub fn cut_user(&self, user_id: Uuid) -> Ended {
        self.0.registry.cut_user(user_id)
    }

    /// Ends the streams and calls that were opened with one of a token's secrets. The token's
    /// sessions stay.
    pub fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> Cut {
        self.0.registry.cut_secret(pat_id, digest)
    }

    /// Ends the streams and calls of clients at addresses from which tokens may not be used. `None`
    /// allows every address.
    pub fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> Cut {
        self.0.registry.cut_from_elsewhere(allows)
    }

    /// Returns the response that replaces an answer which must no longer be delivered.
    pub fn cut_answer(&self, caller: &Admitted) -> Response<RelayBody> {
        reply::cut(caller, "null").0
    }

    /// Returns the upstreams and their states, sorted by name.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.0.upstreams.iter().map(|upstream| upstream.status()).collect()
    }

    /// Returns the number of open things.
    pub fn open(&self) -> Cut {
        self.0.registry.open()
    }

    /// Returns the number of things that the tokens of a user have open.
    pub fn open_of(&self, user_id: Uuid) -> Cut {
        self.0.registry.open_of(user_id)
    }

    /// Ends the streams, lets the calls in flight finish, and closes the upstream sessions. Takes a
    /// bounded time.
    pub async fn shutdown(&self) {
        self.0.registry.end_streams();
        let _ = tokio::time::timeout(self.0.limits.drain, self.0.registry.without_calls()).await;
        self.0.registry.cut_all();
        self.0.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(4), self.0.tasks.wait()).await;
        let closes = self.0.upstreams.iter().map(|upstream| upstream.close());
        let _ = tokio::time::timeout(Duration::from_secs(6), futures_util::future::join_all(closes)).await;
    }

    /// Returns the upstreams that exist for a principal. An upstream that the account may not use
    /// counts as absent. Every look-up of an upstream goes through this function.
    fn there_for<'r>(&'r self, principal: &'r Principal) -> impl Iterator<Item = &'r Arc<Upstream>> {
        self.0.upstreams.iter().filter(|upstream| principal.upstreams.allow(upstream.name.as_str()))
    }

    /// Returns the existing upstreams of which the scopes allow at least something.
    pub(crate) fn touched(&self, principal: &Principal) -> Vec<Arc<Upstream>> {
        let there = self.there_for(principal);
        there.filter(|u| principal.scopes.touches_upstream(u.name.as_str())).map(Arc::clone).collect()
    }

    /// Returns the existing upstream of this name.
    pub(crate) fn upstream<'r>(&'r self, principal: &'r Principal, name: &str) -> Option<&'r Arc<Upstream>> {
        self.there_for(principal).find(|upstream| upstream.name.as_str() == name)
    }

    /// Returns the session of this id, if it is in memory.
    pub(crate) fn known(&self, context: &Context, id: &str) -> Option<Arc<Session>> {
        self.0.sessions.lock().find(context.pat_id, id).cloned()
    }

    /// Returns the session that an id names, from memory or started again from the id's contents.
    /// Returns `Err` if the limits leave no room for it.
    pub(crate) fn session(&self, context: &Context, id: &str) -> Result<Option<Arc<Session>>, Box<Reply>> {
        let only = context.only_name();
        {
            let sessions = self.0.sessions.lock();
            if let Some(session) = sessions.find(context.pat_id, id) {
                let good = session.only.as_deref() == only && !session.entry.cancel.is_cancelled();
                if good {
                    session.touch();
                }
                return Ok(good.then(|| Arc::clone(session)));
            }
        }
        let Some(sealed) = Sealed::open(&self.0.sealer, id, context.pat_id, only) else { return Ok(None) };
        if self.0.sessions.lock().ended.contains(&sealed.number) {
            return Ok(None);
        }
        let link = context.only.as_ref().and_then(|upstream| Session::adopted(&sealed, upstream));
        self.keep(context, id.to_owned(), &sealed, link).map(Some).map_err(Box::new)
    }

    /// Starts a session. Its id contains all that is needed to start it again.
    pub(crate) fn begin(
        &self,
        context: &Context,
        init: &RawObject,
        link: Option<Arc<Link>>,
    ) -> Result<Arc<Session>, Reply> {
        let only = context.only_name().map(ToOwned::to_owned);
        let sealed = Sealed::new(context.pat_id, only, init, link.as_deref(), self.0.home.as_ref());
        let id = sealed.as_ref().and_then(|sealed| sealed.seal(&self.0.sealer));
        let (Some(sealed), Some(id)) = (sealed, id) else {
            return Err(reply::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "no random numbers available; try again",
            ));
        };
        self.keep(context, id, &sealed, link)
    }

    /// Adds a session to memory. Registers it first and checks the credential second.
    fn keep(
        &self,
        context: &Context,
        id: String,
        sealed: &Sealed,
        link: Option<Arc<Link>>,
    ) -> Result<Arc<Session>, Reply> {
        let entry = self.0.registry.register_session(&context.principal, context.pat_id, sealed.number);
        if !context.principal.stands() {
            return Err(reply::cut(&context.principal, "null").0);
        }
        let session = Session::new(id, sealed, entry, link);
        {
            let mut sessions = self.0.sessions.lock();
            // Another request may have restored the same session concurrently.
            if let Some(other) = sessions.find(context.pat_id, &session.id) {
                return Ok(Arc::clone(other));
            }
            let theirs = sessions.live.entry(context.pat_id).or_default();
            if theirs.len() >= self.0.limits.sessions_per_token {
                let idle = theirs.iter().filter(|other| other.is_idle()).min_by_key(|other| other.used());
                let Some(idle) = idle.cloned() else {
                    let why = "the token has too many sessions in use";
                    return Err(reply::refused(StatusCode::TOO_MANY_REQUESTS, why));
                };
                theirs.retain(|other| other.number != idle.number);
                idle.entry.cancel.cancel();
            }
            theirs.push(Arc::clone(&session));
        }
        let (relay, ending) = (self.clone(), Arc::clone(&session));
        self.0.tasks.spawn(async move {
            ending.entry.cancel.cancelled().await;
            relay.0.sessions.lock().remove(&ending);
            ending.close().await;
        });
        Ok(session)
    }

    /// Ends a session permanently. Its id becomes invalid.
    pub(crate) fn end(&self, session: &Session) {
        self.0.sessions.lock().end(session.number);
        session.entry.cancel.cancel();
    }

    /// Records a call that did not reach its upstream, with a span that ends at once.
    pub(crate) fn refused(
        &self,
        context: &Context,
        upstream: &Upstream,
        what: &str,
        message: &Message,
        outcome: &'static str,
    ) {
        let call = CallRecord {
            at: crate::clock::now(),
            pat_id: context.pat_id,
            user_id: context.principal.user_id,
            upstream: upstream.name.to_string(),
            tool: what.to_owned(),
            outcome,
            duration: Duration::ZERO,
            bytes_in: message.text().len() as u64,
            bytes_out: 0,
        };
        crate::trace::call(upstream.name.as_str()).in_scope(|| self.0.records.note(call));
    }

    /// Drops sessions and links that were not used for a while. A session can be restored from its
    /// id, a link can be opened again.
    fn sweep_now_and_then(&self) {
        if self.0.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let weak = Arc::downgrade(&self.0);
        let idle = self.0.limits.idle;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep((idle / 4).min(KEPT / 4)).await;
                let Some(inner) = weak.upgrade() else { return };
                for upstream in &inner.upstreams {
                    upstream.sweep(idle);
                }
                let sessions = inner.sessions.lock();
                for session in sessions.live.values().flatten() {
                    if session.used().elapsed() > idle && session.is_idle() {
                        session.entry.cancel.cancel();
                    }
                }
            }
        });
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("open", &self.open()).finish_non_exhaustive()
    }
}
