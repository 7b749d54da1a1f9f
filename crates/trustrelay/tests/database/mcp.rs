//! MCP as these stories need it: a client's requests, and a server whose tool never comes to an
//! end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::Api;

const SESSION: &str = "2025-11-25";
const STATELESS: &str = "2026-07-28";
/// How often the server's tool says something.
const TICK: Duration = Duration::from_millis(100);

/// A call of a tool, in the stateless era.
pub(crate) fn call(api: &Api, path: &str, tool: &str) -> RequestBuilder {
    let meta = |name: &str| format!("io.modelcontextprotocol/{name}");
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": tool,
            "arguments": {},
            "_meta": {
                (meta("protocolVersion")): STATELESS,
                (meta("clientCapabilities")): {},
                (meta("clientInfo")): { "name": "test", "version": "1" },
                "progressToken": "t",
            },
        },
    });
    post(api, path)
        .header("mcp-protocol-version", STATELESS)
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .json(&body)
}

/// The tools of a server, in the stateless era.
pub(crate) fn list(api: &Api, path: &str) -> RequestBuilder {
    let meta = |name: &str| format!("io.modelcontextprotocol/{name}");
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/list",
        "params": { "_meta": {
            (meta("protocolVersion")): STATELESS,
            (meta("clientCapabilities")): {},
            (meta("clientInfo")): { "name": "test", "version": "1" },
        } },
    });
    post(api, path).header("mcp-protocol-version", STATELESS).header("mcp-method", "tools/list").json(&body)
}

/// The beginning of a session.
pub(crate) fn initialize(api: &Api, path: &str) -> RequestBuilder {
    let params = json!({ "protocolVersion": SESSION, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    post(api, path).json(&json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }))
}

fn post(api: &Api, path: &str) -> RequestBuilder {
    api.request(Method::POST, path).header(ACCEPT, "application/json, text/event-stream")
}

/// What a session's client listens to.
pub(crate) fn listen(api: &Api, path: &str, session: &str) -> RequestBuilder {
    in_session(api, Method::GET, path, session).header(ACCEPT, "text/event-stream")
}

pub(crate) fn in_session(api: &Api, method: Method, path: &str, session: &str) -> RequestBuilder {
    api.request(method, path).header("mcp-session-id", session).header("mcp-protocol-version", SESSION)
}

/// A server whose tool `tick` says what time it is until nobody listens any more.
pub(crate) struct Clock {
    pub(crate) url: String,
    state: Arc<Ticking>,
    task: JoinHandle<()>,
}

struct Ticking {
    began: Instant,
    open: AtomicUsize,
}

impl Clock {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let state = Arc::new(Ticking { began: Instant::now(), open: AtomicUsize::new(0) });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, state, task }
    }

    /// How many calls go on.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// When a tick was made.
    pub(crate) fn made(&self, event: &str) -> Option<Instant> {
        let micros = event.split_once("\"progress\":")?.1;
        let end = micros.find(|digit: char| !digit.is_ascii_digit())?;
        Some(self.state.began + Duration::from_micros(micros[..end].parse().ok()?))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(state): State<Arc<Ticking>>, body: String) -> Response {
    let Ok(message) = serde_json::from_str::<Value>(&body) else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    let result = match message["method"].as_str() {
        Some("tools/call") => return ticks(state, &message["params"]["_meta"]["progressToken"]),
        Some("server/discover") => {
            json!({ "supportedVersions": [STATELESS], "capabilities": { "tools": {} } })
        }
        Some("tools/list") => {
            json!({ "tools": [{ "name": "tick", "inputSchema": { "type": "object" } }], "ttlMs": 60_000, "cacheScope": "private" })
        }
        _ => {
            let error = json!({ "code": -32601, "message": "no such method" });
            let body = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error });
            return (StatusCode::NOT_FOUND, axum::Json(body)).into_response();
        }
    };
    let mut result = result;
    result["resultType"] = json!("complete");
    axum::Json(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).into_response()
}

/// One call that goes on.
struct Open(Arc<Ticking>);

impl Open {
    fn new(state: Arc<Ticking>) -> Self {
        state.open.fetch_add(1, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn ticks(state: Arc<Ticking>, token: &Value) -> Response {
    let token = token.clone();
    let interval = tokio::time::interval(TICK);
    let events = stream::unfold((Open::new(state), interval), move |(open, mut interval)| {
        let token = token.clone();
        async move {
            interval.tick().await;
            let micros = u64::try_from(open.0.began.elapsed().as_micros()).expect("a short story");
            let params = json!({ "progressToken": token, "progress": micros });
            let message = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            Some((Ok::<_, Infallible>(format!("event: message\ndata: {message}\n\n")), (open, interval)))
        }
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}
