//! A link to an upstream: a session, or the stateless era's independent requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::envelope::{self, Message, RawObject, raw};
use crate::era::{self, Era, META_SERVER, STATELESS, VERSION};
use crate::upstream::said::{SAID, Said, Unsolicited, carry, stream};
use crate::upstream::stdio::Process;
use crate::upstream::{Asker, Exchange, Fault, HttpAnswer, Transport, Upstream, add_both_kinds, both_kinds};

/// A server's description of itself, from the result of `initialize` or `server/discover`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) version: String,
    pub(crate) capabilities: RawObject,
    pub(crate) info: Option<Box<RawValue>>,
    pub(crate) instructions: Option<Box<RawValue>>,
    /// The complete result of `initialize`.
    pub(crate) initialized: Option<Box<RawValue>>,
}

enum Wire {
    Http { session: Option<HeaderValue> },
    Stdio(Arc<Process>),
}

/// A link to an upstream; see the module.
pub(crate) struct Link {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) era: Era,
    pub(crate) server: Server,
    wire: Wire,
    next: AtomicU64,
    /// The calls on this link.
    pub(crate) calls: TaskTracker,
    /// The log level that was last requested from the upstream.
    pub(crate) level: Mutex<Option<String>>,
    /// Number of the relay's subscribers to each resource on this session.
    subscribers: Mutex<HashMap<String, usize>>,
    /// The session's own stream, while there are listeners.
    said: Arc<tokio::sync::Mutex<Option<Said>>>,
}

/// Returns the `initialize` parameters of the relay's own sessions.
pub(crate) fn own_initialize() -> RawObject {
    let params = serde_json::json!({
        "protocolVersion": era::SESSION_VERSIONS[0], "capabilities": {}, "clientInfo": own_name(),
    });
    RawObject::parse(&params.to_string()).unwrap_or_default()
}

fn own_name() -> serde_json::Value {
    serde_json::json!({ "name": "trustrelay", "version": env!("CARGO_PKG_VERSION") })
}

/// Builds a request of the relay's own in the stateless era.
pub(crate) fn own_request(method: &str, params: RawObject) -> String {
    let mut params = params;
    let meta = era::meta_of(Some(&raw(&own_name())), "{}", None, RawObject::default());
    params.set("_meta", RawValue::from_string(meta).unwrap_or_else(|_| raw(&())));
    envelope::request("\"trustrelay\"", method, params.to_raw().get())
}

impl Link {
    fn new(upstream: &Arc<Upstream>, era: Era, server: Server, wire: Wire) -> Arc<Self> {
        Arc::new(Self {
            upstream: Arc::clone(upstream),
            era,
            server,
            wire,
            next: AtomicU64::new(1),
            calls: TaskTracker::new(),
            level: Mutex::default(),
            subscribers: Mutex::default(),
            said: Arc::default(),
        })
    }

    /// Sends `initialize` with these parameters, then `notifications/initialized`.
    pub(crate) async fn open(upstream: &Arc<Upstream>, params: &RawObject) -> Result<Arc<Self>, Fault> {
        if upstream.is_resting() {
            return Err(Fault::Down);
        }
        let wait = upstream.limits.handshake(upstream.is_stdio());
        let opened = timeout(wait, Self::open_unbounded(upstream, params)).await;
        let opened = opened.unwrap_or(Err(Fault::Slow));
        upstream.note(opened.as_ref().err().copied());
        opened
    }

    async fn open_unbounded(upstream: &Arc<Upstream>, params: &RawObject) -> Result<Arc<Self>, Fault> {
        let body = envelope::request("\"trustrelay-initialize\"", "initialize", raw(params).get());
        let (response, wire) = match &upstream.transport {
            Transport::Http(http) => {
                let wait = upstream.limits.initialize;
                let limit = upstream.limits.answer;
                let sent = http.send(Method::POST, None, both_kinds(), Some(body), wait, limit).await?;
                let (status, session) = (sent.status, sent.session.clone());
                let response = Exchange::Http(sent).response().await;
                let response = match response {
                    Ok(response) => response,
                    Err(_) if !status.is_success() => return Err(Fault::Refused(status)),
                    Err(fault) => return Err(fault),
                };
                (response, Wire::Http { session })
            }
            Transport::Stdio(launcher) => {
                let process = Process::new(launcher.start().await?, &upstream.limits);
                let message = Message::parse(body).map_err(|_| Fault::Garbage)?;
                let mut answer =
                    Exchange::Stdio(process.request(&message, upstream.limits.initialize, None).await?);
                (answer.response().await?, Wire::Stdio(process))
            }
        };
        let result = response.result().ok_or(Fault::Rejected)?;
        let result = RawObject::parse(result).map_err(|_| Fault::Garbage)?;
        let server = Server {
            version: result.str("protocolVersion").ok_or(Fault::Garbage)?,
            capabilities: result.object("capabilities").unwrap_or_default(),
            info: result.get("serverInfo").map(ToOwned::to_owned),
            instructions: result.get("instructions").map(ToOwned::to_owned),
            initialized: Some(result.to_raw()),
        };
        let link = Self::new(upstream, Era::Session, server, wire);
        link.notify(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()).await?;
        Ok(link)
    }

    /// Probes with `server/discover` whether the upstream speaks the stateless era. Uses the
    /// process of `reuse`, if given.
    pub(crate) async fn discover(
        upstream: &Arc<Upstream>,
        reuse: Option<Arc<Link>>,
    ) -> Result<Option<Arc<Self>>, Fault> {
        let body = own_request("server/discover", RawObject::default());
        let message = Message::parse(body).map_err(|_| Fault::Garbage)?;
        let wait = upstream.limits.initialize;
        let (mut exchange, wire) = match (&upstream.transport, reuse.as_deref().map(|link| &link.wire)) {
            (Transport::Http(http), _) => {
                let mut headers = both_kinds();
                headers.extend(era::headers_for(&message, None)?);
                let limit = upstream.limits.answer;
                let answer =
                    http.send(Method::POST, None, headers, Some(message.into_text()), wait, limit).await?;
                (Exchange::Http(answer), Wire::Http { session: None })
            }
            (Transport::Stdio(_), Some(Wire::Stdio(process))) => (
                Exchange::Stdio(process.request(&message, wait, None).await?),
                Wire::Stdio(Arc::clone(process)),
            ),
            (Transport::Stdio(launcher), _) => {
                let process = Process::new(launcher.start().await?, &upstream.limits);
                (Exchange::Stdio(process.request(&message, wait, None).await?), Wire::Stdio(process))
            }
        };
        let started = match (&wire, &reuse) {
            (Wire::Stdio(process), None) => Some(Arc::clone(process)),
            _ => None,
        };
        let found = Self::discovered(upstream, &mut exchange, wire).await;
        if let Some(process) = started.filter(|_| !matches!(found, Ok(Some(_)))) {
            // The session that is opened instead needs the process's place.
            process.stop();
            let _ = timeout(upstream.limits.farewell, process.gone.cancelled()).await;
        }
        found
    }

    async fn discovered(
        upstream: &Arc<Upstream>,
        exchange: &mut Exchange,
        wire: Wire,
    ) -> Result<Option<Arc<Self>>, Fault> {
        let status = exchange.status();
        let response = match exchange.response().await {
            Ok(response) => response,
            // Statuses such as 401 do not come from this era's protocol and say nothing about the
            // era.
            Err(Fault::Garbage) if matches!(status.as_u16(), 401 | 403 | 407 | 429 | 500..) => {
                return Err(Fault::Refused(status));
            }
            Err(Fault::Garbage) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let Some(result) = response.result().and_then(|result| RawObject::parse(result).ok()) else {
            return Ok(None);
        };
        let versions = result.get("supportedVersions").map_or("[]", RawValue::get);
        let versions: Vec<String> = serde_json::from_str(versions).unwrap_or_default();
        if !versions.iter().any(|version| version == STATELESS) {
            return Ok(None);
        }
        let meta = result.object("_meta").unwrap_or_default();
        let server = Server {
            version: STATELESS.to_owned(),
            capabilities: result.object("capabilities").unwrap_or_default(),
            info: meta.get(META_SERVER).map(ToOwned::to_owned),
            instructions: result.get("instructions").map(ToOwned::to_owned),
            initialized: None,
        };
        Ok(Some(Self::new(upstream, Era::Stateless, server, wire)))
    }

    /// Creates a link to a session that a client's `initialize` opened, or that a sealed id names.
    pub(crate) fn adopted(
        upstream: &Arc<Upstream>,
        session: Option<HeaderValue>,
        server: Server,
    ) -> Arc<Self> {
        Self::new(upstream, Era::Session, server, Wire::Http { session })
    }

    /// Returns the upstream's own session id, over HTTP.
    pub(crate) fn session_id(&self) -> Option<&HeaderValue> {
        match &self.wire {
            Wire::Http { session } => session.as_ref(),
            Wire::Stdio(_) => None,
        }
    }

    /// Returns whether a call can be tried on this link.
    pub(crate) fn is_alive(&self) -> bool {
        match &self.wire {
            Wire::Http { .. } => true,
            Wire::Stdio(process) => process.is_alive(),
        }
    }

    pub(crate) fn can(&self, capability: &str) -> bool {
        self.server.capabilities.get(capability).is_some()
    }

    /// Returns a request id that is unique on this link.
    pub(crate) fn fresh_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = both_kinds();
        self.add_version(&mut headers);
        headers
    }

    fn add_version(&self, headers: &mut HeaderMap) {
        if self.era == Era::Session
            && !headers.contains_key(VERSION)
            && let Ok(version) = HeaderValue::from_str(&self.server.version)
        {
            headers.insert(VERSION, version);
        }
    }

    /// Sends a request. Over HTTP these headers are added to those of every request.
    pub(crate) async fn request(&self, body: String, headers: HeaderMap) -> Result<Exchange, Fault> {
        self.send(body, headers, None, false).await
    }

    /// Sends a client's request, in which the upstream may ask the client.
    pub(crate) async fn call(
        &self,
        body: String,
        headers: HeaderMap,
        asker: Asker,
    ) -> Result<Exchange, Fault> {
        self.send(body, headers, Some(asker), false).await
    }

    /// Sends a client's request on a session that was begun for it: a 400 is then its answer.
    pub(crate) async fn call_on_new(
        &self,
        body: String,
        headers: HeaderMap,
        asker: Asker,
    ) -> Result<Exchange, Fault> {
        self.send(body, headers, Some(asker), true).await
    }

    async fn send(
        &self,
        body: String,
        mut headers: HeaderMap,
        asker: Option<Asker>,
        is_new: bool,
    ) -> Result<Exchange, Fault> {
        let wait = self.upstream.limits.first_byte;
        match (&self.wire, &self.upstream.transport) {
            (Wire::Stdio(process), _) => {
                let message = Message::parse(body).map_err(|_| Fault::Garbage)?;
                Ok(Exchange::Stdio(process.request(&message, wait, asker).await?))
            }
            (Wire::Http { session }, Transport::Http(http)) => {
                add_both_kinds(&mut headers);
                self.add_version(&mut headers);
                let limit = self.upstream.limits.answer;
                let answer =
                    http.send(Method::POST, session.as_ref(), headers, Some(body), wait, limit).await;
                let mut answer = self.noted(answer)?;
                let may_end = !is_new || answer.status == StatusCode::NOT_FOUND;
                if session.is_some() && may_end && answer.ends_session().await {
                    return Err(Fault::SessionGone);
                }
                Ok(Exchange::Http(answer))
            }
            _ => Err(Fault::Down),
        }
    }

    fn noted(&self, answer: Result<HttpAnswer, Fault>) -> Result<HttpAnswer, Fault> {
        // A single slow call does not mean that the upstream is down.
        match &answer {
            Err(fault @ Fault::Down) => self.upstream.note(Some(*fault)),
            Err(_) => {}
            Ok(_) => self.upstream.note(None),
        }
        answer
    }

    /// Sends a notification or a response, which is only acknowledged.
    pub(crate) async fn notify(&self, body: String) -> Result<(), Fault> {
        let wait = self.upstream.limits.farewell;
        match (&self.wire, &self.upstream.transport) {
            (Wire::Stdio(process), _) => process.notify(body, wait).await,
            (Wire::Http { session }, Transport::Http(http)) => {
                let limit = self.upstream.limits.answer;
                let mut sent = http
                    .send(Method::POST, session.as_ref(), self.headers(), Some(body), wait, limit)
                    .await?;
                match sent.status {
                    _ if session.is_some() && sent.ends_session().await => Err(Fault::SessionGone),
                    status if status.is_success() => Ok(()),
                    status => Err(Fault::Refused(status)),
                }
            }
            _ => Err(Fault::Down),
        }
    }

    /// Subscribes one more user of the session to a resource. The upstream is asked for the first
    /// subscriber only.
    pub(crate) async fn subscribe(&self, uri: &str) -> Result<(), Fault> {
        let first = {
            let mut subscribers = self.subscribers.lock();
            let count = subscribers.entry(uri.to_owned()).or_default();
            *count += 1;
            *count == 1
        };
        if !first {
            return Ok(());
        }
        let asked = self.about(uri, "resources/subscribe").await;
        if asked.is_err() {
            // The next subscriber asks again.
            self.subscribers.lock().remove(uri);
        }
        asked
    }

    /// Removes one subscriber. The upstream is told when the last one is gone.
    pub(crate) async fn unsubscribe(&self, uri: &str) -> Result<(), Fault> {
        let last = {
            let mut subscribers = self.subscribers.lock();
            let left = subscribers.get(uri).map(|count| count.saturating_sub(1));
            match left {
                Some(0) => subscribers.remove(uri).is_some(),
                Some(left) => {
                    subscribers.insert(uri.to_owned(), left);
                    false
                }
                None => false,
            }
        };
        if last { self.about(uri, "resources/unsubscribe").await } else { Ok(()) }
    }

    /// Removes the subscriptions of a session that has ended. The upstream is told in the
    /// background, for resources without further subscribers, and only while it answers.
    pub(crate) fn release(self: &Arc<Self>, uris: impl IntoIterator<Item = String>) {
        if self.era != Era::Session {
            return;
        }
        let mut unused = Vec::new();
        {
            let mut subscribers = self.subscribers.lock();
            for uri in uris {
                match subscribers.get_mut(&uri) {
                    Some(count) if *count > 1 => *count -= 1,
                    Some(_) => {
                        subscribers.remove(&uri);
                        unused.push(uri);
                    }
                    None => {}
                }
            }
        }
        let link = Arc::clone(self);
        tokio::spawn(async move {
            for uri in unused {
                if matches!(link.about(&uri, "resources/unsubscribe").await, Err(Fault::Down | Fault::Slow)) {
                    return;
                }
            }
        });
    }

    async fn about(&self, uri: &str, method: &str) -> Result<(), Fault> {
        let id = raw(&format!("trustrelay-{}", self.fresh_id()));
        let params = format!(r#"{{"uri":{}}}"#, raw(uri));
        let asked = async {
            let body = envelope::request(id.get(), method, &params);
            self.request(body, HeaderMap::new()).await?.response().await
        };
        let response = timeout(self.upstream.limits.initialize, asked).await.unwrap_or(Err(Fault::Slow))?;
        response.result().map(drop).ok_or(Fault::Rejected)
    }

    /// Listens to the upstream's unsolicited messages. Over HTTP all listeners share one stream per
    /// session, which is opened again when it breaks.
    pub(crate) async fn listen(&self) -> Result<Unsolicited, Fault> {
        if let Wire::Stdio(process) = &self.wire {
            return Ok(Unsolicited { said: process.unsolicited(), ended: process.ended.clone() });
        }
        let mut slot = self.said.lock().await;
        if let Some(said) = slot.as_ref().filter(|said| !said.ended.is_cancelled()) {
            return Ok(Unsolicited { said: said.sender.subscribe(), ended: said.ended.clone() });
        }
        let stream = self.stream(None).await?;
        let (sender, said) = broadcast::channel(SAID);
        let ended = CancellationToken::new();
        *slot = Some(Said { sender: sender.clone(), ended: ended.clone() });
        let (slot, over) = (Arc::clone(&self.said), ended.clone().drop_guard());
        let (upstream, session, headers) =
            (Arc::clone(&self.upstream), self.session_id().cloned(), self.headers());
        tokio::spawn(async move {
            let _over = over;
            let carried = carry(&upstream, session.as_ref(), &headers, stream, &sender);
            tokio::pin!(carried);
            loop {
                tokio::select! {
                    () = &mut carried => return,
                    () = sender.closed() => {
                        let mut slot = slot.lock().await;
                        // A new listener may have arrived meanwhile.
                        if sender.receiver_count() == 0 {
                            *slot = None;
                            return;
                        }
                    }
                }
            }
        });
        Ok(Unsolicited { said, ended })
    }

    /// Opens the session's own stream for one listener, byte for byte.
    pub(crate) async fn stream(&self, last_event: Option<&HeaderValue>) -> Result<HttpAnswer, Fault> {
        let mut headers = self.headers();
        if let Some(last) = last_event {
            headers.insert("last-event-id", last.clone());
        }
        stream(&self.upstream, self.session_id(), headers).await
    }

    /// Ends the session with DELETE, or stops the process. Best effort.
    pub(crate) async fn close(&self) {
        match (&self.wire, &self.upstream.transport) {
            (Wire::Stdio(process), _) => process.stop(),
            (Wire::Http { session: Some(session) }, Transport::Http(http)) => {
                let (wait, limit) = (self.upstream.limits.farewell, self.upstream.limits.answer);
                let _ = http.send(Method::DELETE, Some(session), self.headers(), None, wait, limit).await;
            }
            _ => {}
        }
    }

    /// Waits until the link's process has ended, if there is one.
    pub(crate) async fn closed(&self) {
        if let Wire::Stdio(process) = &self.wire {
            process.gone.cancelled().await;
        }
    }

    /// Tells the upstream that the answer to this request is no longer awaited. Sends nothing where
    /// closing the stream already says so.
    pub(crate) async fn cancelled(&self, id: &str, reason: &str) {
        if self.era == Era::Session && matches!(self.wire, Wire::Http { .. }) {
            let params = format!(r#"{{"requestId":{id},"reason":{}}}"#, raw(reason));
            let _ = self.notify(envelope::notification("notifications/cancelled", &params)).await;
        }
    }
}
