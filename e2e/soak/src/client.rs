//! A client that does what comes into its head, in either era, and goes away when it likes.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::random::Random;
use crate::token::{Token, Tokens};

const SESSION: &str = "2025-11-25";
const STATELESS: &str = "2026-07-28";
/// How long a client listens to a stream, or waits for a call, at most.
const ATTENTION: usize = 400;
/// Statuses with which the relay may answer while tokens go, sessions are lost and upstreams are
/// down.
const EXPECTED: [u16; 9] = [200, 202, 204, 400, 401, 404, 405, 429, 502];

/// What all clients came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers with a result.
    pub results: usize,
    /// Answers to tokens that were taken away: refused, all of them.
    pub refused: usize,
}

/// Where a client asks.
#[derive(Debug)]
pub struct World {
    /// `http://host:port`.
    pub base: String,
    /// The names of the upstreams.
    pub upstreams: Vec<&'static str>,
    /// What clients ask with.
    pub tokens: Arc<Tokens>,
    /// What they came to.
    pub tally: Mutex<Tally>,
}

/// One client, with connections of its own.
struct Client<'a> {
    world: &'a World,
    http: reqwest::Client,
    url: String,
    token: Arc<Token>,
    is_stateless: bool,
    session: Option<String>,
    prefix: String,
    next: u64,
}

/// One client's life. An error is an answer that must not be.
pub async fn live(world: &World, random: &mut Random) -> Result<()> {
    let token = world.tokens.one(random);
    let upstream = *random.one(&world.upstreams);
    let alone = random.percent(50);
    let url = if alone { format!("{}/mcp/{upstream}", world.base) } else { format!("{}/mcp", world.base) };
    let prefix = if alone { String::new() } else { format!("{upstream}__") };
    let is_stateless = random.percent(50);
    let http = reqwest::Client::new();
    let mut client = Client { world, http, url, token, is_stateless, session: None, prefix, next: 1 };
    if !is_stateless && !client.initialize().await? {
        return Ok(());
    }
    let stream = match random.percent(50) {
        true => client.stream().await?,
        false => None,
    };
    for _ in 0..random.below(5) {
        client.act(random).await?;
    }
    drop(stream);
    // Some say farewell, some don't.
    if let (Some(session), true) = (&client.session, random.percent(50)) {
        let request = client.http.delete(&client.url).header("mcp-session-id", session);
        client.send(client.identified(request)).await?;
    }
    Ok(())
}

impl Client<'_> {
    fn identified(&self, request: RequestBuilder) -> RequestBuilder {
        request.header(AUTHORIZATION, format!("Bearer {}", self.token.text))
    }

    fn post(&self, body: &Value) -> RequestBuilder {
        let method = body["method"].as_str().unwrap_or_default();
        let mut request = self
            .identified(self.http.post(&self.url))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        if self.is_stateless {
            request = request.header("mcp-protocol-version", STATELESS).header("mcp-method", method);
            if let Some(name) = body["params"]["name"].as_str() {
                request = request.header("mcp-name", name);
            }
        } else if method != "initialize" {
            request = request.header("mcp-protocol-version", SESSION);
        }
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        request.body(body.to_string())
    }

    fn request(&mut self, method: &str, mut params: Value) -> Value {
        if self.is_stateless {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "soak", "version": "1" },
            });
        }
        self.next += 1;
        json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params })
    }

    /// Sends a request. The one judgment of the soak is here: whoever was without power all the
    /// while is refused.
    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let before = self.token.power();
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        if self.token.was_without_power(before) {
            ensure!(status == 401, "a token that was taken away is answered with {status}");
            self.world.tally.lock().refused += 1;
        }
        if !EXPECTED.contains(&status) {
            bail!("unexpected: {status} {}", answer.text().await.unwrap_or_default());
        }
        Ok(answer)
    }

    /// Whether there is a session now.
    async fn initialize(&mut self) -> Result<bool> {
        let client = json!({ "name": "soak", "version": "1" });
        let params = json!({ "protocolVersion": SESSION, "capabilities": {}, "clientInfo": client });
        let body = self.request("initialize", params);
        let answer = self.send(self.post(&body)).await?;
        let session = answer.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
        self.session = session.map(str::to_owned);
        if self.session.is_some() {
            let body = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            self.send(self.post(&body)).await?;
        }
        Ok(self.session.is_some())
    }

    /// A stream that stays open until it is dropped.
    async fn stream(&mut self) -> Result<Option<Response>> {
        let request = if self.is_stateless {
            let params = json!({ "notifications": { "toolsListChanged": true } });
            let body = self.request("subscriptions/listen", params);
            self.post(&body)
        } else {
            let session = self.session.as_deref().unwrap_or_default();
            let request = self.http.get(&self.url).header("mcp-session-id", session);
            self.identified(request).header(ACCEPT, "text/event-stream")
        };
        let answer = self.send(request).await?;
        Ok(answer.status().is_success().then_some(answer))
    }

    async fn act(&mut self, random: &mut Random) -> Result<()> {
        let tool =
            *random.one(&["test_simple_text", "test_tool_with_progress", "test_wait", "test_error_handling"]);
        let body = match random.percent(20) {
            true => self.request("tools/list", json!({})),
            false => {
                let params = json!({ "name": format!("{}{tool}", self.prefix), "arguments": {} });
                self.request("tools/call", params)
            }
        };
        let asked = self.send(self.post(&body));
        let attention = random.pause(ATTENTION);
        let read = async { Ok::<_, anyhow::Error>(asked.await?.text().await.unwrap_or_default()) };
        match timeout(attention, read).await {
            Ok(text) => {
                if text?.contains(r#""result":"#) {
                    self.world.tally.lock().results += 1;
                }
            }
            // It has gone away; in the session era some say that they have cancelled.
            Err(_) => {
                if !self.is_stateless && random.percent(50) {
                    let params = json!({ "requestId": body["id"] });
                    let body =
                        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
                    self.send(self.post(&body)).await?;
                }
            }
        }
        Ok(())
    }
}
