//! A fake upstream, and a client in process.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::sync::watch;
use trustrelay_relay::{Relay, RelayBody, RelayConfig, UpstreamConfig, UpstreamTransport};
use trustrelay_token::{Credential, Life, Principal};
use uuid::Uuid;

pub type Seen = Arc<watch::Sender<Vec<(String, HeaderMap, String)>>>;

pub struct Fake {
    pub url: url::Url,
    pub seen: Seen,
}

impl Fake {
    pub async fn start() -> Self {
        let seen: Seen = Arc::new(watch::channel(Vec::new()).0);
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }

    /// Waits until the upstream saw a request with this in its method or body.
    pub async fn saw(&self, what: &str) {
        let mut seen = self.seen.subscribe();
        let found = seen.wait_for(|all| all.iter().any(|(m, _, b)| m == what || b.contains(what)));
        tokio::time::timeout(Duration::from_secs(5), found).await.expect(what).unwrap();
    }

    pub fn has_seen(&self, what: &str) -> bool {
        self.seen.borrow().iter().any(|(_, _, body)| body.contains(what))
    }
}

async fn answer(State(seen): State<Seen>, method: Method, headers: HeaderMap, body: String) -> Response {
    seen.send_modify(|all| all.push((method.to_string(), headers, body.clone())));
    let stream = [("content-type", "text/event-stream")];
    let json_kind = [("content-type", "application/json")];
    if method == Method::GET {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        return (stream, axum::body::Body::from_stream(never)).into_response();
    }
    let Ok(message) = serde_json::from_str::<Value>(&body) else { return StatusCode::OK.into_response() };
    if message.get("id").is_none() || message.get("method").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    let ok = |result: Value| {
        (json_kind, json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
            .into_response()
    };
    let cursor = message["params"]["cursor"].as_str();
    match (message["method"].as_str().unwrap(), message["params"]["name"].as_str().unwrap_or_default()) {
        ("initialize", _) => {
            let mut answer = ok(json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "fake", "version": "1"}}));
            answer.headers_mut().insert("mcp-session-id", "upstream-session".parse().unwrap());
            answer
        }
        ("tools/list", _) if cursor.is_none() => {
            ok(json!({"tools": [{"name": "echo", "inputSchema": {}}], "nextCursor": "2"}))
        }
        ("tools/list", _) => ok(json!({"tools": [{"name": "slow", "inputSchema": {}, "x": 1}]})),
        ("tools/call", "slow") => std::future::pending().await,
        ("tools/call", "garbage") => "not json at all".into_response(),
        ("tools/call", "progress") => {
            let text = format!(
                "id: 1\ndata: {}\n\nid: 2\ndata: {}\n\n",
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}),
                json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
            );
            (stream, text).into_response()
        }
        ("tools/call", "verbatim") => {
            let text = message["params"]["arguments"]["raw"].as_str().unwrap().to_owned();
            (json_kind, text).into_response()
        }
        _ => ok(json!({"content": [{"type": "text", "text": "done"}]})),
    }
}

pub fn http(name: &str, url: url::Url) -> UpstreamConfig {
    let headers = vec![("x-upstream-key".to_owned(), "its-own".to_owned())];
    UpstreamConfig { name: name.parse().unwrap(), transport: UpstreamTransport::Http { url, headers } }
}

pub fn relay(upstreams: Vec<UpstreamConfig>) -> Relay {
    Relay::new(RelayConfig { upstreams, ..RelayConfig::default() }).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "tests of expiry sleep in real time")]
pub fn principal(scopes: &str, lives: Duration) -> Arc<Principal> {
    let now = jiff::Timestamp::now();
    Arc::new(Principal {
        user_id: Uuid::from_u128(1),
        email: "a@example.com".into(),
        is_admin: false,
        scopes: scopes.parse().unwrap(),
        credential: Credential::Pat {
            pat_id: Uuid::from_u128(u128::from_ne_bytes({
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).unwrap();
                bytes
            })),
            pat_name: "agent".into(),
            pat_hint: "...abcd".into(),
            created_at: now,
            expires_at: now + jiff::SignedDuration::try_from(lives).unwrap(),
        },
        life: Life::default(),
    })
}

pub struct Client {
    pub relay: Relay,
    pub principal: Arc<Principal>,
    pub at: Option<&'static str>,
    pub session: Option<String>,
}

impl Client {
    pub async fn new(relay: &Relay, principal: Arc<Principal>, at: Option<&'static str>) -> Self {
        let mut client = Self { relay: relay.clone(), principal, at, session: None };
        let answer = client.post(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#).await;
        assert_eq!(answer.status(), 200);
        client.session = Some(answer.headers()["mcp-session-id"].to_str().unwrap().to_owned());
        client
    }

    pub fn request(&self, method: Method, body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("cookie", "session=of-the-client")
            .header("x-other", "of-the-client");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        request.body(Full::from(body.to_owned())).unwrap()
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> http::Response<RelayBody> {
        let handled = self.relay.handle(Arc::clone(&self.principal), self.at, request);
        tokio::time::timeout(Duration::from_secs(20), handled).await.expect("an answer in time")
    }

    pub async fn post(&self, body: &str) -> http::Response<RelayBody> {
        self.send(self.request(Method::POST, body)).await
    }

    pub async fn call(&self, method: &str, params: Value) -> (StatusCode, String) {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
        let answer = self.post(&body).await;
        (answer.status(), text(answer).await)
    }

    pub async fn tools(&self) -> Vec<String> {
        let (_, body) = self.call("tools/list", json!({})).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        body["result"]["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub async fn text(answer: http::Response<RelayBody>) -> String {
    let body = tokio::time::timeout(Duration::from_secs(10), answer.into_body().collect());
    String::from_utf8(body.await.expect("the body ends").unwrap().to_bytes().to_vec()).unwrap()
}
