//! A client's session of the session era. It is bound to its token and holds one link for each
//! upstream that it has used.
//!
//! The session's id is sealed and contains all that is needed to start the session again. It
//! therefore survives a restart of the relay, and eviction while idle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use http::HeaderValue;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trustrelay_token::Principal;
use url::Url;
use uuid::Uuid;

use crate::envelope::{self, Message, RawObject, raw};
use crate::era::{Era, SESSION_VERSIONS};
use crate::registry::{Entry, Registry};
use crate::seal::{Purpose, Sealer};
use crate::sse;
use crate::upstream::{Fault, Key, Link, Server, Upstream};

/// Prefix of the ids of the relay's own requests to a client. Ids of an upstream's requests begin
/// with its name.
const ASKED: &str = "trustrelay/";

/// The contents of a sealed session id.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The token's id.
    pat_id: Uuid,
    /// `Some` for `/mcp/NAME`.
    only: Option<String>,
    /// The upstream's own session id, for `/mcp/NAME` over HTTP.
    upstream: Option<String>,
    /// The protocol version of the upstream's session.
    version: String,
    /// The client's `initialize` parameters.
    init: Box<RawValue>,
    /// The node that the session lives on, if there are several nodes.
    #[serde(default)]
    pub(crate) home: Option<Url>,
    /// A number that identifies the session, for example among the ended ones.
    pub(crate) number: u64,
}

/// Maximum size of the `initialize` parameters in an id, in bytes. Of larger ones only the
/// capabilities are kept; if these are too large as well, nothing.
const MAX_INIT: usize = 3 * 1024;

impl Sealed {
    pub(crate) fn new(
        pat_id: Uuid,
        only: Option<String>,
        init: &RawObject,
        link: Option<&Link>,
        home: Option<&Url>,
    ) -> Option<Self> {
        let mut number = [0; 8];
        getrandom::fill(&mut number).ok()?;
        let mut init = init.clone();
        for name in ["_meta", "clientInfo", "capabilities"] {
            if init.to_raw().get().len() > MAX_INIT {
                init.remove(name);
            }
        }
        // The rest has unknown members or an overlong version.
        if init.to_raw().get().len() > MAX_INIT {
            init = RawObject::default();
        }
        let own = link.and_then(|link| link.session_id()).and_then(|id| id.to_str().ok());
        Some(Self {
            pat_id,
            only,
            upstream: own.map(ToOwned::to_owned),
            version: link.map_or_else(|| SESSION_VERSIONS[0].to_owned(), |link| link.server.version.clone()),
            init: init.to_raw(),
            home: home.cloned(),
            number: u64::from_ne_bytes(number),
        })
    }

    pub(crate) fn seal(&self, sealer: &Sealer) -> Option<String> {
        sealer.seal(Purpose::Session, raw(self).get().as_bytes())
    }

    /// Opens an id, if it belongs to this token and this endpoint.
    pub(crate) fn open(sealer: &Sealer, id: &str, pat_id: Uuid, only: Option<&str>) -> Option<Self> {
        let sealed: Self = serde_json::from_slice(&sealer.open(Purpose::Session, id)?).ok()?;
        (sealed.pat_id == pat_id && sealed.only.as_deref() == only).then_some(sealed)
    }
}

/// A link, and whether the session closes the link when it ends.
type Held = Option<(Arc<Link>, bool)>;

/// The slot for the link to one upstream.
#[derive(Default)]
struct Slot {
    held: Mutex<Held>,
    /// Held while the link is opened, so that concurrent users wait for one attempt.
    opening: tokio::sync::Mutex<()>,
}

impl Slot {
    fn alive(&self) -> Option<Arc<Link>> {
        self.held.lock().as_ref().map(|(link, _)| Arc::clone(link)).filter(|link| link.is_alive())
    }
}

/// The newest GET stream, which receives the server's unsolicited messages.
struct Listener {
    frames: mpsc::Sender<Bytes>,
    cancel: CancellationToken,
}

/// A call that the client may cancel.
#[derive(Clone)]
pub(crate) struct InFlight {
    pub(crate) link: Arc<Link>,
    pub(crate) cancel: CancellationToken,
}

pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) pat_id: Uuid,
    /// `Some` for `/mcp/NAME`.
    pub(crate) only: Option<String>,
    /// The session's home node; see [`Sealed`].
    pub(crate) home: Option<Url>,
    /// The client's `initialize` parameters. The session's upstream sessions are opened with them.
    pub(crate) init: RawObject,
    pub(crate) entry: Entry,
    pub(crate) tasks: TaskTracker,
    links: Mutex<HashMap<String, Arc<Slot>>>,
    pub(crate) level: Mutex<Option<String>>,
    /// Calls in flight, by the JSON of their id.
    pub(crate) calls: Mutex<HashMap<String, InFlight>>,
    listener: Mutex<Option<Listener>>,
    /// Requests of the relay's own that the client has not answered yet.
    asked: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
    next_asked: AtomicU64,
    /// Resource subscriptions of the client that the relay must listen to on the client's behalf.
    pub(crate) subscribed: Mutex<HashMap<String, Subscribed>>,
    used: Mutex<Instant>,
    /// Counts the open streams that belong to an upstream: each holds a clone of this `Arc`.
    streams: Arc<()>,
}

/// A session's subscriptions to the resources of one upstream.
#[derive(Default)]
pub(crate) struct Subscribed {
    pub(crate) uris: BTreeSet<String>,
    pub(crate) listening: CancellationToken,
}

impl Session {
    /// Creates the session that an id describes. `link` is the link that it was started with, if
    /// any.
    pub(crate) fn new(id: String, sealed: &Sealed, entry: Entry, link: Option<Arc<Link>>) -> Arc<Self> {
        let slot = |link: Arc<Link>| {
            let name = link.upstream.name.to_string();
            (name, Arc::new(Slot { held: Mutex::new(Some((link, true))), ..Slot::default() }))
        };
        Arc::new(Self {
            id,
            number: sealed.number,
            pat_id: sealed.pat_id,
            only: sealed.only.clone(),
            home: sealed.home.clone(),
            init: RawObject::parse(sealed.init.get()).unwrap_or_default(),
            entry,
            tasks: TaskTracker::new(),
            links: Mutex::new(link.map(slot).into_iter().collect()),
            level: Mutex::default(),
            calls: Mutex::default(),
            listener: Mutex::default(),
            asked: Mutex::default(),
            next_asked: AtomicU64::new(0),
            subscribed: Mutex::default(),
            used: Mutex::new(Instant::now()),
            streams: Arc::default(),
        })
    }

    /// Returns a link to the upstream session that an id names.
    pub(crate) fn adopted(sealed: &Sealed, upstream: &Arc<Upstream>) -> Option<Arc<Link>> {
        let session = HeaderValue::from_str(sealed.upstream.as_deref()?).ok()?;
        let server = Server { version: sealed.version.clone(), ..Server::default() };
        Some(Link::adopted(upstream, Some(session), server))
    }

    fn slot(&self, name: &str) -> Arc<Slot> {
        Arc::clone(self.links.lock().entry(name.to_owned()).or_default())
    }

    /// Returns the key of this session's share of a process.
    fn key(&self) -> Key {
        let version = self.init.get("protocolVersion").map_or("", RawValue::get);
        let capabilities = self.init.get("capabilities").map_or("{}", RawValue::get);
        Key::new(self.pat_id, version, capabilities)
    }

    /// Returns the link to an upstream, opened on first use.
    pub(crate) async fn link(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        registry: &Arc<Registry>,
        principal: &Principal,
    ) -> Result<Arc<Link>, Fault> {
        let slot = self.slot(upstream.name.as_str());
        match slot.alive() {
            Some(link) => Ok(link),
            // Boxed, so that the rare path does not enlarge the future of every call.
            None => Box::pin(self.open(&slot, upstream, registry, principal)).await,
        }
    }

    async fn open(
        self: &Arc<Self>,
        slot: &Slot,
        upstream: &Arc<Upstream>,
        registry: &Arc<Registry>,
        principal: &Principal,
    ) -> Result<Arc<Link>, Fault> {
        let opening = slot.opening.lock().await;
        if let Some(link) = slot.alive() {
            return Ok(link);
        }
        let own = if upstream.is_stdio() {
            upstream.pooled(registry, principal, &self.key(), &self.init).await?
        } else {
            upstream.session(&self.init).await?
        };
        let (link, closes) = match own {
            Some(link) => (link, !upstream.is_stdio()),
            None => (upstream.stateless().await?.ok_or(Fault::Rejected)?, false),
        };
        *slot.held.lock() = Some((Arc::clone(&link), closes));
        drop(opening);
        // The session was cut while the link was being opened. The farewell may already be over, so
        // this link is closed here.
        if self.entry.cancel.is_cancelled() {
            if closes {
                link.close().await;
            }
            return Err(Fault::SessionGone);
        }
        let level = self.level.lock().clone();
        if let Some(level) = level {
            set_level(&link, &level).await;
        }
        self.pumping(&[Arc::clone(&link)]).await;
        Ok(link)
    }

    /// Drops a link that no longer works.
    pub(crate) async fn drop_link(&self, link: &Arc<Link>) {
        if link.upstream.is_stdio() {
            link.upstream.pool.forget(&self.key(), link).await;
        }
        let slot = self.slot(link.upstream.name.as_str());
        let mut held = slot.held.lock();
        if held.as_ref().is_some_and(|(held, _)| Arc::ptr_eq(held, link)) {
            *held = None;
        }
    }

    fn held(&self) -> Vec<(Arc<Link>, bool)> {
        self.links.lock().values().filter_map(|slot| slot.held.lock().clone()).collect()
    }

    /// Returns the open links.
    pub(crate) fn opened(&self) -> Vec<Arc<Link>> {
        self.held().into_iter().map(|(link, _)| link).collect()
    }

    /// Returns the call that a client's `notifications/cancelled` refers to.
    pub(crate) fn in_flight(&self, cancelled: &Message) -> Option<InFlight> {
        self.calls.lock().get(cancelled.param("requestId")?).cloned()
    }

    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(crate) fn used(&self) -> Instant {
        *self.used.lock()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.listener.lock().as_ref().is_none_or(|listener| listener.frames.is_closed())
            && self.calls.lock().is_empty()
            && Arc::strong_count(&self.streams) == 1
    }

    /// Returns a guard that keeps the session from becoming idle while an upstream's stream is
    /// open.
    pub(crate) fn streams(&self) -> Arc<()> {
        Arc::clone(&self.streams)
    }

    /// Sets the newest GET stream and ends the previous one.
    pub(crate) async fn listen(self: &Arc<Self>, frames: mpsc::Sender<Bytes>, cancel: CancellationToken) {
        let before = self.listener.lock().replace(Listener { frames, cancel });
        if let Some(before) = before {
            before.cancel.cancel();
        }
        self.pumping(&self.opened()).await;
    }

    pub(crate) fn listener(&self) -> Option<(mpsc::Sender<Bytes>, CancellationToken)> {
        self.listener.lock().as_ref().map(|listener| (listener.frames.clone(), listener.cancel.clone()))
    }

    /// Sends a message on the client's GET stream, if there is one.
    pub(crate) async fn tell(&self, text: &str) {
        if let Some((frames, _)) = self.listener() {
            let _ = frames.send(sse::event(text)).await;
        }
    }

    /// Translates an upstream's message for this session's client. Requests of several upstreams
    /// are distinguished by a prefix of their ids.
    pub(crate) fn shown(&self, link: &Link, message: &Message) -> String {
        if self.only.is_none() && message.is_request() {
            let id = format!("{}/{}", link.upstream.name, message.id());
            return message.with_id(raw(&id).get());
        }
        message.text().to_owned()
    }

    /// Builds a request of the relay's own to the client. Returns its text and the pending
    /// response.
    pub(crate) fn ask(self: &Arc<Self>, method: &str, params: &RawValue) -> (String, Asked) {
        let number = self.next_asked.fetch_add(1, Ordering::Relaxed);
        let (sender, response) = oneshot::channel();
        self.asked.lock().insert(number, sender);
        let id = raw(&format!("{ASKED}{number}"));
        let asked = Asked { session: Arc::clone(self), number, response };
        (envelope::request(id.get(), method, params.get()), asked)
    }

    /// Handles a client's response to a request of the relay or of an upstream. Returns whether the
    /// response was expected.
    pub(crate) async fn answered(&self, message: Message, reaches: impl Fn(&str) -> bool) -> bool {
        let id: String = serde_json::from_str(message.id()).unwrap_or_default();
        if let Some(number) = id.strip_prefix(ASKED).and_then(|number| number.parse::<u64>().ok()) {
            let waiting = self.asked.lock().remove(&number);
            return waiting.is_some_and(|waiting| waiting.send(message).is_ok());
        }
        let (name, text) = match &self.only {
            Some(name) => (name.as_str(), message.into_text()),
            None => {
                let Some((name, original)) = id.split_once('/') else { return false };
                if serde_json::from_str::<&RawValue>(original).is_err() {
                    return false;
                }
                (name, message.with_id(original))
            }
        };
        if !reaches(name) {
            return false;
        }
        match self.opened().into_iter().find(|link| link.upstream.name.as_str() == name) {
            Some(link) => link.notify(text).await.is_ok(),
            None => false,
        }
    }

    /// Ends the session. The calls send their own farewells first, then the upstream sessions are
    /// closed.
    pub(crate) async fn close(&self) {
        let subscribed: Vec<_> = self.subscribed.lock().drain().collect();
        for (name, subscribed) in subscribed {
            subscribed.listening.cancel();
            // The process outlives this session and would otherwise keep its subscriptions.
            let link = self.opened().into_iter().find(|link| link.upstream.name.as_str() == name);
            if let Some(link) = link.filter(|link| link.upstream.is_stdio()) {
                link.release(subscribed.uris);
            }
        }
        self.tasks.close();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), self.tasks.wait()).await;
        let held = self.held();
        self.links.lock().clear();
        let own = held.iter().filter(|(_, closes)| *closes);
        futures_util::future::join_all(own.map(|(link, _)| link.close())).await;
    }
}

/// A pending request of the relay's own. Dropping it abandons the request.
pub(crate) struct Asked {
    session: Arc<Session>,
    number: u64,
    response: oneshot::Receiver<Message>,
}

impl Asked {
    /// Waits for the response. Returns `None` if the session has ended.
    pub(crate) async fn response(&mut self) -> Option<Message> {
        (&mut self.response).await.ok()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.session.asked.lock().remove(&self.number);
    }
}

/// Sets the log level of a session-era upstream, unless it already has that level.
pub(crate) async fn set_level(link: &Link, level: &str) {
    if link.era == Era::Stateless || !link.can("logging") || link.level.lock().as_deref() == Some(level) {
        return;
    }
    *link.level.lock() = Some(level.to_owned());
    let id = raw(&format!("trustrelay-level-{}", link.fresh_id()));
    let params = format!(r#"{{"level":{}}}"#, raw(level));
    let body = envelope::request(id.get(), "logging/setLevel", &params);
    let asked = async {
        if let Ok(mut exchange) = link.request(body, http::HeaderMap::new()).await {
            let _ = exchange.response().await;
        }
    };
    // The time is limited, because a call waits for this whether or not the upstream accepts the
    // level.
    let _ = tokio::time::timeout(link.upstream.limits.farewell, asked).await;
}

/// Sends keep-alive comments on a quiet stream until the stream ends, so that proxies do not close
/// it.
pub(crate) async fn keep_alive(frames: &mpsc::Sender<Bytes>, every: std::time::Duration) {
    loop {
        tokio::time::sleep(every).await;
        if frames.send(Bytes::from_static(sse::KEEP_ALIVE)).await.is_err() {
            return;
        }
    }
}
