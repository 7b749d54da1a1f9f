//! An in-process client of either era.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use trustrelay_relay::{Admitted, Relay, RelayBody};
use trustrelay_token::Principal;
use uuid::Uuid;

use super::{META, STATELESS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    Session,
    Stateless,
}

pub struct Client {
    pub relay: Relay,
    pub principal: Arc<Principal>,
    pub at: Option<&'static str>,
    pub era: Era,
    pub session: Option<String>,
    /// The client's address, if known.
    pub address: Option<IpAddr>,
    pub capabilities: Value,
    /// In the stateless era: the log level that each request asks for.
    pub log_level: Option<&'static str>,
    next: AtomicU64,
}

pub type Answer = Response<RelayBody>;

impl Client {
    /// Creates a client that has not sent anything yet.
    pub fn silent(relay: &Relay, principal: &Arc<Principal>, at: Option<&'static str>, era: Era) -> Self {
        Self {
            relay: relay.clone(),
            principal: Arc::clone(principal),
            at,
            era,
            session: None,
            address: None,
            capabilities: json!({"sampling": {}, "elicitation": {}, "roots": {}}),
            log_level: None,
            next: AtomicU64::new(7),
        }
    }

    /// Creates a client of the session era and starts its session.
    pub async fn new(relay: &Relay, principal: &Arc<Principal>, at: Option<&'static str>) -> Self {
        Self::of(relay, principal, at, Era::Session).await
    }

    pub fn stateless(relay: &Relay, principal: &Arc<Principal>, at: Option<&'static str>) -> Self {
        Self::silent(relay, principal, at, Era::Stateless)
    }

    pub async fn of(relay: &Relay, principal: &Arc<Principal>, at: Option<&'static str>, era: Era) -> Self {
        let mut client = Self::silent(relay, principal, at, era);
        if era == Era::Session {
            client.begin().await;
        }
        client
    }

    /// Starts a session.
    pub async fn begin(&mut self) {
        let answer = self.initialize().await;
        assert_eq!(answer.status(), 200);
        self.session = Some(answer.headers()["mcp-session-id"].to_str().unwrap().to_owned());
        assert_eq!(self.note("notifications/initialized", json!({})).await, 202);
    }

    pub async fn initialize(&self) -> Answer {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": self.capabilities,
            "clientInfo": {"name": "c", "version": "1"}});
        self.post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string())
            .await
    }

    pub fn pat_id(&self) -> Uuid {
        self.principal.pat_id().unwrap()
    }

    /// Ends the token as a revocation does.
    pub fn revoke(&self) -> trustrelay_relay::Cut {
        self.principal.standing().end(jiff::Timestamp::UNIX_EPOCH);
        self.relay.cut_token(self.pat_id()).counts
    }

    /// Returns a tool's name at this client's endpoint.
    pub fn tool(&self, name: &str) -> String {
        if self.at.is_some() { name.to_owned() } else { format!("up__{name}") }
    }

    pub fn message(&self, id: &Value, method: &str, params: &Value) -> String {
        let mut params = params.clone();
        if self.era == Era::Stateless {
            params["_meta"][format!("{META}protocolVersion")] = json!(STATELESS);
            params["_meta"][format!("{META}clientCapabilities")] = self.capabilities.clone();
            params["_meta"][format!("{META}clientInfo")] = json!({"name": "c", "version": "1"});
            if let Some(level) = self.log_level {
                params["_meta"][format!("{META}logLevel")] = json!(level);
            }
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    }

    /// Builds a request with the headers that its era requires, and with some that must not reach
    /// an upstream.
    pub fn request(&self, method: Method, body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("cookie", "session=of-the-client")
            .header("x-forwarded-for", "192.0.2.1")
            .header("connection", "x-other")
            .header("x-other", "of-the-client");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if self.era == Era::Stateless {
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            request = request.header("mcp-protocol-version", STATELESS);
            request = request.header("mcp-method", body["method"].as_str().unwrap_or_default());
            if let Some(name) = body["params"]["name"].as_str().or(body["params"]["uri"].as_str()) {
                request = request.header("mcp-name", name);
            }
        }
        request.body(Full::from(body.to_owned())).unwrap()
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let handled =
            self.relay.handle(Admitted::new(Arc::clone(&self.principal), self.address), self.at, request);
        tokio::time::timeout(Duration::from_secs(20), handled).await.expect("an answer in time")
    }

    pub async fn post(&self, body: &str) -> Answer {
        self.send(self.request(Method::POST, body)).await
    }

    pub async fn post_with(&self, body: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = self.request(Method::POST, body);
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        self.send(request).await
    }

    /// Sends a request and returns its answer as it arrives.
    pub async fn open(&self, method: &str, params: Value) -> Live {
        let id = json!(self.next.fetch_add(1, Ordering::SeqCst));
        Live::of(self.post(&self.message(&id, method, &params)).await)
    }

    /// Sends a request and waits for its complete answer.
    pub async fn ask(&self, method: &str, params: Value) -> Whole {
        self.open(method, params).await.whole().await
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Whole {
        self.ask("tools/call", json!({"name": self.tool(tool), "arguments": arguments})).await
    }

    pub async fn open_call(&self, tool: &str, arguments: Value) -> Live {
        self.open("tools/call", json!({"name": self.tool(tool), "arguments": arguments})).await
    }

    /// Starts a call that never ends by itself and already streams, so that the client can
    /// disconnect.
    pub async fn waiting(&self, tag: &str) -> Live {
        let arguments = json!({"tag": tag, "stream": true});
        let params =
            json!({"name": self.tool("wait"), "arguments": arguments, "_meta": {"progressToken": 1}});
        let mut live = self.open("tools/call", params).await;
        assert_eq!(live.message().await["method"], "notifications/progress");
        live
    }

    pub async fn note(&self, method: &str, params: Value) -> StatusCode {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string();
        self.post(&body).await.status()
    }

    /// Answers a question of the server.
    pub async fn respond(&self, id: &Value, what: &str, value: Value) -> StatusCode {
        self.post(&json!({"jsonrpc": "2.0", "id": id, what: value}).to_string()).await.status()
    }

    /// Listens to unsolicited messages: on the GET stream, or by a subscription to changes of the
    /// tool list and to these resources.
    pub async fn listen(&self, uris: &[&str]) -> Live {
        if self.era == Era::Session {
            return Live::of(self.send(self.request(Method::GET, "")).await);
        }
        let filter = json!({"toolsListChanged": true, "resourceSubscriptions": uris});
        let id = self.next.load(Ordering::SeqCst);
        let mut live = self.open("subscriptions/listen", json!({ "notifications": filter })).await;
        let acknowledged = live.message().await;
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(subscription_of(&acknowledged), id, "the subscription has the request's id");
        live
    }

    /// Returns the names in a list.
    pub async fn names(&self, method: &str) -> Vec<String> {
        self.names_on(method, json!({})).await
    }

    /// Returns the names on one page of a list.
    pub async fn names_on(&self, method: &str, page: Value) -> Vec<String> {
        let list = self.ask(method, page).await.last();
        let result = list["result"].as_object().unwrap_or_else(|| panic!("{list}"));
        let items = result.values().find_map(|value| value.as_array()).unwrap();
        let name = |item: &Value| item["name"].as_str().or(item["uri"].as_str()).unwrap().to_owned();
        items.iter().map(name).collect()
    }
}

/// Returns the subscription that a notification names.
pub fn subscription_of(notification: &Value) -> Value {
    notification["params"]["_meta"][format!("{META}subscriptionId")].clone()
}

/// An answer as it arrives.
pub struct Live {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: RelayBody,
    text: String,
    waiting: VecDeque<Value>,
}

impl Live {
    pub fn of(answer: Answer) -> Self {
        let (parts, body) = answer.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
            text: String::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Returns the next message, or `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("nothing came after {:?}", self.text))?;
            let bytes = frame.unwrap().into_data().unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            self.text.push_str(text);
            if text.starts_with('{') {
                self.waiting.push_back(serde_json::from_str(text).unwrap());
            }
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            self.waiting.extend(data.filter_map(|data| serde_json::from_str::<Value>(data).ok()));
        }
    }

    /// Waits for this many keep-alive comments.
    pub async fn keep_alives(&mut self, times: usize) {
        for _ in 0..times {
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await;
            let bytes = frame.expect("kept alive").expect("goes on").unwrap().into_data().unwrap();
            assert!(bytes.starts_with(b": "), "{bytes:?}");
        }
    }

    /// Returns the next message. Panics at the end of the answer.
    pub async fn message(&mut self) -> Value {
        self.next().await.unwrap_or_else(|| panic!("the answer ended after {:?}", self.text))
    }

    pub async fn whole(mut self) -> Whole {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        Whole { status: self.status, headers: self.headers, messages, text: self.text }
    }
}

/// A complete answer.
#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub messages: Vec<Value>,
    pub text: String,
}

impl Whole {
    /// Returns the response, which is the last message.
    pub fn last(&self) -> Value {
        self.messages.last().unwrap_or_else(|| panic!("no message: {self:?}")).clone()
    }

    /// Returns the code of the error response.
    pub fn code(&self) -> i64 {
        self.last()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {self:?}"))
    }

    /// Returns the text of a tool's result, if there is one.
    pub fn done_or_error(&self) -> Option<String> {
        Some(self.last()["result"]["content"][0]["text"].as_str()?.to_owned())
    }

    /// Returns the text of a tool's result. Panics if there is none.
    pub fn done(&self) -> String {
        self.last()["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("no text: {self:?}"))
            .to_owned()
    }
}
