//! An MCP client that says for each request which node gets it, and keeps no connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use trustrelay_e2e::PATIENCE;
use url::Url;

/// The stateless era's version.
const STATELESS: &str = "2026-07-28";

/// Which era the client is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// It has a session, once it has begun one.
    Session,
    /// Each request stands for itself.
    Stateless,
}

/// A client with a token, at one endpoint of whichever node.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    era: Era,
    token: String,
    path: String,
    /// Its session's id.
    pub session: Option<String>,
    next: AtomicU64,
}

impl Client {
    /// One that has said nothing yet. `path`: `/mcp` or `/mcp/NAME`.
    pub fn new(era: Era, token: &str, path: &str) -> Result<Self> {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        let (token, path) = (token.to_owned(), path.to_owned());
        Ok(Self { http, era, token, path, session: None, next: AtomicU64::new(1) })
    }

    /// One that has begun a session at this node.
    pub async fn begin(node: &Url, token: &str, path: &str) -> Result<Self> {
        let mut client = Self::new(Era::Session, token, path)?;
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "sampling": {}, "elicitation": {}, "roots": {} },
            "clientInfo": { "name": "nodes", "version": "1" },
        });
        let answer = client.post(node, &client.message(0, "initialize", params)).await?;
        ensure!(answer.status() == 200, "initialize: {}", answer.text().await?);
        let id = answer.headers().get("mcp-session-id").context("no session")?.to_str()?;
        client.session = Some(id.to_owned());
        ensure!(client.note(node, "notifications/initialized", json!({})).await? == 202);
        Ok(client)
    }

    /// The name of an upstream's tool at this endpoint.
    pub fn tool(&self, upstream: &str, tool: &str) -> String {
        if self.path == "/mcp" { format!("{upstream}__{tool}") } else { tool.to_owned() }
    }

    fn message(&self, id: u64, method: &str, mut params: Value) -> Value {
        if self.era == Era::Stateless {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(STATELESS);
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                json!({ "sampling": {}, "elicitation": {}, "roots": {} });
        }
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    }

    fn request(&self, node: &Url, method: Method) -> Result<RequestBuilder> {
        let mut request = self.http.request(method, node.join(&self.path)?).bearer_auth(&self.token);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25");
        }
        Ok(request)
    }

    async fn post(&self, node: &Url, message: &Value) -> Result<Response> {
        let mut request = self.request(node, Method::POST)?.json(message);
        request = request.header("accept", "application/json, text/event-stream");
        if self.era == Era::Stateless {
            request = request.header("mcp-protocol-version", STATELESS);
            request = request.header("mcp-method", message["method"].as_str().unwrap_or_default());
            if let Some(name) = message["params"]["name"].as_str().or(message["params"]["uri"].as_str()) {
                request = request.header("mcp-name", name);
            }
        }
        Ok(tokio::time::timeout(PATIENCE, request.send()).await.context("no answer")??)
    }

    /// Sends a request to a node; its id, and the answer as it comes.
    pub async fn open(&self, node: &Url, method: &str, params: Value) -> Result<(u64, Live)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Ok((id, Live::of(self.post(node, &self.message(id, method, params)).await?)))
    }

    /// The response to a request, and the status that it came with.
    pub async fn ask(&self, node: &Url, method: &str, params: Value) -> Result<(u16, Value)> {
        let (_, mut live) = self.open(node, method, params).await?;
        Ok((live.status.as_u16(), live.last().await?))
    }

    /// Calls a tool; the text that comes back.
    pub async fn call(&self, node: &Url, tool: &str, arguments: Value) -> Result<String> {
        text(&self.ask(node, "tools/call", json!({ "name": tool, "arguments": arguments })).await?.1)
    }

    /// Sends a notification; the status.
    pub async fn note(&self, node: &Url, method: &str, params: Value) -> Result<u16> {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        Ok(self.post(node, &message).await?.status().as_u16())
    }

    /// Answers a question of the server's; the status.
    pub async fn respond(&self, node: &Url, question: &Value, result: Value) -> Result<u16> {
        let message = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        Ok(self.post(node, &message).await?.status().as_u16())
    }

    /// The session's own stream.
    pub async fn listen(&self, node: &Url, last_event: Option<&str>) -> Result<Live> {
        let mut request = self.request(node, Method::GET)?.header("accept", "text/event-stream");
        if let Some(last) = last_event {
            request = request.header("last-event-id", last);
        }
        Ok(Live::of(tokio::time::timeout(PATIENCE, request.send()).await.context("no stream")??))
    }

    /// Ends the session; the status.
    pub async fn end(&self, node: &Url) -> Result<u16> {
        Ok(self.request(node, Method::DELETE)?.send().await?.status().as_u16())
    }
}

/// The text of a tool's result.
pub fn text(response: &Value) -> Result<String> {
    let text = response["result"]["content"][0]["text"].as_str();
    Ok(text.with_context(|| format!("no text: {response}"))?.to_owned())
}

/// An answer as it comes: one JSON object, or a stream of them.
#[derive(Debug)]
pub struct Live {
    /// What it began with.
    pub status: StatusCode,
    /// The id of the last event.
    pub last_event: Option<String>,
    is_stream: bool,
    answer: Response,
    read: String,
    found: VecDeque<Value>,
}

impl Live {
    fn of(answer: Response) -> Self {
        let kind =
            answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_stream = kind.starts_with("text/event-stream");
        let (read, found) = (String::new(), VecDeque::new());
        Self { status: answer.status(), last_event: None, is_stream, answer, read, found }
    }

    /// The next message; `None` at the end, however it ends.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        let next = async {
            loop {
                if let Some(message) = self.found.pop_front() {
                    return Ok(Some(message));
                }
                match self.answer.chunk().await {
                    Ok(Some(piece)) => self.read.push_str(std::str::from_utf8(&piece)?),
                    Ok(None) if !self.is_stream && !self.read.is_empty() => {
                        return Ok(Some(serde_json::from_str(&std::mem::take(&mut self.read))?));
                    }
                    Ok(None) | Err(_) => return Ok(None),
                }
                if self.is_stream {
                    self.take_events()?;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.context("the answer neither goes on nor ends")?
    }

    fn take_events(&mut self) -> Result<()> {
        while let Some((event, rest)) = self.read.split_once("\n\n") {
            let field = |name: &str| {
                let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                lines.map(str::trim).collect::<String>()
            };
            let (id, data) = (field("id:"), field("data:"));
            if !id.is_empty() {
                self.last_event = Some(id);
            }
            if !data.is_empty() {
                self.found.push_back(serde_json::from_str(&data)?);
            }
            self.read = rest.to_owned();
        }
        Ok(())
    }

    /// The next message of this method.
    pub async fn until(&mut self, method: &str) -> Result<Value> {
        while let Some(message) = self.next().await? {
            if message["method"] == method {
                return Ok(message);
            }
        }
        bail!("it ended without {method}")
    }

    /// The response, whatever comes before it.
    pub async fn last(&mut self) -> Result<Value> {
        while let Some(message) = self.next().await? {
            if message.get("method").is_none() {
                return Ok(message);
            }
        }
        bail!("it ended without a response ({})", self.status)
    }

    /// Waits for the end, whatever comes before it; what the last message was.
    pub async fn end(&mut self) -> Result<Option<Value>> {
        let mut last = None;
        while let Some(message) = self.next().await? {
            last = Some(message);
        }
        Ok(last)
    }
}
