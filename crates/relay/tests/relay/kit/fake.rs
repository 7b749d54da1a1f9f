//! An upstream over HTTP: the scripted peer behind a gate through which a test injects faults.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::peer::{Conversation, Eras, Peer};
use super::{META, STATELESS};

/// A request that arrived, or another report about an upstream.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub headers: HeaderMap,
    pub body: String,
}

/// The log of an upstream's requests and reports, in the order of their arrival.
#[derive(Clone)]
pub struct Log(Arc<watch::Sender<Vec<Seen>>>);

impl Log {
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(Vec::new()).0))
    }

    pub fn add(&self, method: &str, headers: HeaderMap, body: String) {
        self.0.send_modify(|all| all.push(Seen { method: method.to_owned(), headers, body }));
    }

    pub fn all(&self) -> Vec<Seen> {
        self.0.borrow().clone()
    }

    /// Waits until an entry's body contains this text, or its method equals it.
    pub async fn saw(&self, what: &str) {
        self.saw_times(what, 1).await;
    }

    pub async fn saw_times(&self, what: &str, times: usize) {
        let mut seen = self.0.subscribe();
        let enough = |all: &Vec<Seen>| all.iter().filter(|seen| is(seen, what)).count() >= times;
        let found = seen.wait_for(enough);
        let found = tokio::time::timeout(Duration::from_secs(10), found).await;
        assert!(
            found.is_ok_and(|seen| seen.is_ok()),
            "not seen {times} times: {what}; but {:#?}",
            self.bodies()
        );
    }

    /// Returns the process ids of the children that have started.
    pub fn started(&self) -> Vec<u32> {
        self.0.borrow().iter().filter_map(|seen| seen.body.strip_prefix("STARTED ")?.parse().ok()).collect()
    }

    pub fn has(&self, what: &str) -> bool {
        self.times(what) > 0
    }

    pub fn times(&self, what: &str) -> usize {
        self.0.borrow().iter().filter(|seen| is(seen, what)).count()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.0.borrow().iter().map(|seen| format!("{} {}", seen.method, seen.body)).collect()
    }
}

fn is(seen: &Seen, what: &str) -> bool {
    seen.method == what || seen.body.contains(what)
}

type Gate = dyn Fn(Seen) -> BoxFuture<'static, Option<Response>> + Send + Sync;

struct Inner {
    peer: Arc<Peer>,
    log: Log,
    sessions: Mutex<HashMap<String, Arc<Conversation>>>,
    alone: Arc<Conversation>,
    gate: Box<Gate>,
}

/// An upstream over HTTP; see the module.
#[derive(Clone)]
pub struct Fake {
    pub url: url::Url,
    pub log: Log,
    pub peer: Arc<Peer>,
    inner: Arc<Inner>,
}

impl Fake {
    pub async fn start(eras: Eras) -> Self {
        Self::gated(eras, |_| async { None }).await
    }

    /// Starts an upstream with a gate that sees each request first. A request that the gate answers
    /// never reaches the peer.
    pub async fn gated<F>(eras: Eras, gate: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Response>> + Send + 'static,
    {
        let log = Log::new();
        let told = log.clone();
        let peer = Peer::new(eras, move |what| told.add("TOLD", HeaderMap::new(), what));
        let inner = Arc::new(Inner {
            alone: peer.begin(),
            peer: Arc::clone(&peer),
            log: log.clone(),
            sessions: Mutex::default(),
            gate: Box::new(move |seen| gate(seen).boxed()),
        });
        let app = axum::Router::new().fallback(arrived).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, log, peer, inner }
    }

    /// Forgets all sessions, like a server after a restart.
    pub fn forget_sessions(&self) {
        self.inner.sessions.lock().unwrap().clear();
    }

    pub fn sessions(&self) -> usize {
        self.inner.sessions.lock().unwrap().len()
    }
}

pub fn stream(text: impl Into<Body>) -> Response {
    ([("content-type", "text/event-stream")], text.into()).into_response()
}

pub fn as_json(text: impl Into<Body>) -> Response {
    ([("content-type", "application/json")], text.into()).into_response()
}

/// Returns a stream that sends this text and never ends.
pub fn endless(text: String) -> Response {
    let said = futures_util::stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(text)) });
    stream(Body::from_stream(said.chain(futures_util::stream::pending())))
}

fn event(text: &str) -> Bytes {
    format!("data: {text}\n\n").into()
}

async fn arrived(
    State(inner): State<Arc<Inner>>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response {
    inner.log.add(method.as_str(), headers.clone(), body.clone());
    let seen = Seen { method: method.to_string(), headers: headers.clone(), body: body.clone() };
    match (inner.gate)(seen).await {
        Some(response) => response,
        None => answer(&inner, &method, &headers, &body).await,
    }
}

async fn answer(inner: &Arc<Inner>, method: &Method, headers: &HeaderMap, body: &str) -> Response {
    let id = headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    let session = id.as_ref().and_then(|id| inner.sessions.lock().unwrap().get(id).cloned());
    if id.is_some() && session.is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match (method, &session) {
        (&Method::GET, Some(session)) => {
            let said = session.said.subscribe();
            inner.log.add("TOLD", HeaderMap::new(), "HEARS".into());
            let events = futures_util::stream::unfold(said, |mut said| async move {
                let text = said.recv().await.ok()?;
                Some((Ok::<_, std::io::Error>(event(&text)), said))
            });
            return stream(Body::from_stream(events));
        }
        (&Method::DELETE, Some(_)) => {
            inner.sessions.lock().unwrap().remove(&id.unwrap());
            return StatusCode::OK.into_response();
        }
        (&Method::POST, _) => {}
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
    let Ok(message) = serde_json::from_str::<Value>(body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if message["params"]["_meta"][format!("{META}protocolVersion")].is_string()
        && let Some(refused) = misstated(headers, &message)
    {
        return (StatusCode::BAD_REQUEST, as_json(refused)).into_response();
    }
    let mut begun = None;
    if message["method"] == "initialize" && inner.peer.eras != Eras::Stateless {
        let id = uuid::Uuid::now_v7().to_string();
        inner.sessions.lock().unwrap().insert(id.clone(), inner.peer.begin());
        begun = Some(id);
    }
    let conversation = session.unwrap_or_else(|| Arc::clone(&inner.alone));
    if message.get("id").is_none() || message.get("method").is_none() {
        inner.peer.told(&conversation, &message);
        return StatusCode::ACCEPTED.into_response();
    }
    let mut response = served(Arc::clone(&inner.peer), conversation, message).await;
    if let Some(id) = begun {
        response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
    }
    response
}

/// Answers with a JSON object if the response is the only message, otherwise with a stream.
async fn served(peer: Arc<Peer>, conversation: Arc<Conversation>, message: Value) -> Response {
    let (say, mut said) = mpsc::unbounded_channel::<String>();
    let (last, answer) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let answered = peer.serve(&conversation, &message, &say).await;
        let _ = last.send(answered);
    });
    let first = said.recv().await;
    let Some(first) = first else {
        return match answer.await {
            Ok(Some(text)) if text.contains("\"code\":-32601") => {
                (StatusCode::NOT_FOUND, as_json(text)).into_response()
            }
            Ok(Some(text)) => as_json(text),
            _ => stream(Body::empty()),
        };
    };
    let rest = tokio_stream::wrappers::UnboundedReceiverStream::new(said);
    let events = futures_util::stream::once(async { first }).chain(rest).map(|text| event(&text));
    let end = futures_util::stream::once(answer)
        .filter_map(|text| async { text.ok().flatten().map(|text| event(&text)) });
    stream(Body::from_stream(events.chain(end).map(Ok::<_, std::io::Error>)))
}

/// Returns the error for a stateless request whose headers differ from its body.
fn misstated(headers: &HeaderMap, message: &Value) -> Option<String> {
    let version = &message["params"]["_meta"][format!("{META}protocolVersion")];
    let error = |code: i64| {
        json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": "no"}}).to_string()
    };
    if version != STATELESS {
        return Some(error(-32022));
    }
    let says = |name: &str, expected: &Value| {
        headers.get(name).is_some_and(|value| value.to_str().unwrap() == expected)
    };
    (!says("mcp-protocol-version", version) || !says("mcp-method", &message["method"])).then(|| error(-32020))
}
