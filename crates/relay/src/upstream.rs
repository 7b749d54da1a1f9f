//! One upstream: its HTTP client, its health, and a session with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use trustrelay_token::UpstreamName;

use crate::catalogue::Catalogue;
use crate::config::{Limits, RelayError, UpstreamConfig, UpstreamTransport};
use crate::envelope::{RawObject, raw};
use crate::sse::{self, Frames};

pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// What went wrong with an upstream, without its words: they may hold its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Down,
    Slow,
    Garbage,
    TooLarge,
    SessionGone,
    Refused(StatusCode),
}

impl Fault {
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Down => "upstream_down",
            Self::Slow => "upstream_slow",
            Self::Garbage | Self::TooLarge => "upstream_garbage",
            Self::SessionGone | Self::Refused(_) => "upstream_refused",
        }
    }

    pub(crate) fn message(self, upstream: &str) -> String {
        match self {
            Self::Down => format!("upstream `{upstream}` is down; its tools are not available now"),
            Self::Slow => format!("upstream `{upstream}` did not answer in time"),
            Self::Garbage => format!("upstream `{upstream}` answered with something that is not MCP"),
            Self::TooLarge => format!("upstream `{upstream}` answered with more than the relay takes"),
            Self::SessionGone => format!("upstream `{upstream}` ended its session; try again"),
            Self::Refused(status) => {
                format!("upstream `{upstream}` refused the request (HTTP {})", status.as_u16())
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up,
    Down(Instant),
}

pub(crate) struct Upstream {
    pub(crate) name: UpstreamName,
    url: url::Url,
    headers: HeaderMap,
    client: reqwest::Client,
    pub(crate) limits: Limits,
    health: Mutex<Health>,
    pub(crate) catalogue: Catalogue,
}

/// What an upstream answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) is_stream: bool,
    response: reqwest::Response,
    frames: Frames,
    limit: usize,
}

impl Upstream {
    pub(crate) fn new(config: UpstreamConfig, limits: &Limits) -> Result<Self, RelayError> {
        let name = config.name;
        if name.as_str() == crate::builtin::NAME {
            return Err(RelayError::Reserved);
        }
        let UpstreamTransport::Http { url, headers: configured } = config.transport else {
            return Err(RelayError::StdioNotServed(name));
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RelayError::NotHttp(name));
        }
        let mut headers = HeaderMap::new();
        for (number, (key, value)) in configured.into_iter().enumerate() {
            let bad = || RelayError::BadHeader { upstream: name.clone(), number: number + 1 };
            let mut value = HeaderValue::from_str(&value).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.append(HeaderName::from_bytes(key.as_bytes()).map_err(|_| bad())?, value);
        }
        let client = reqwest::Client::builder()
            .tcp_nodelay(true)
            .connect_timeout(limits.connect)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(RelayError::Client)?;
        Ok(Self {
            name,
            url,
            headers,
            client,
            limits: limits.clone(),
            health: Mutex::new(Health::Unknown),
            catalogue: Catalogue::default(),
        })
    }

    pub(crate) fn state(&self) -> &'static str {
        match *self.health.lock() {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down(_) => "down",
        }
    }

    /// Whether it was found down just now, and is left alone for a while.
    pub(crate) fn is_resting(&self) -> bool {
        matches!(*self.health.lock(), Health::Down(until) if until > Instant::now())
    }

    pub(crate) fn note(&self, fault: Option<Fault>) {
        let health = match fault {
            None => Health::Up,
            Some(Fault::Down | Fault::Slow) => Health::Down(Instant::now() + self.limits.down),
            // It spoke: it is there, whatever it said.
            Some(_) => return,
        };
        *self.health.lock() = health;
    }

    /// Sends one request. `extra` holds the few headers of the client that may travel.
    pub(crate) async fn send(
        &self,
        method: Method,
        session: Option<&HeaderValue>,
        extra: &HeaderMap,
        body: Option<String>,
        wait: Duration,
    ) -> Result<Answer, Fault> {
        let mut headers = extra.clone();
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(session) = session {
            headers.insert(SESSION, session.clone());
        }
        let mut request = self.client.request(method, self.url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = match timeout(wait, request.send()).await {
            Err(_) => return Err(Fault::Slow),
            Ok(Err(error)) => {
                // The error's text holds the URL: only its kind is kept.
                let fault =
                    if error.is_connect() || error.is_timeout() { Fault::Down } else { Fault::Garbage };
                // A connection that broke before an answer is an upstream that went away.
                let fault = if error.is_request() { Fault::Down } else { fault };
                self.note(Some(fault));
                return Err(fault);
            }
            Ok(Ok(response)) => response,
        };
        self.note(None);
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_stream = kind.to_ascii_lowercase().starts_with("text/event-stream");
        Ok(Answer {
            status: response.status(),
            session: response.headers().get(SESSION).cloned(),
            is_stream,
            response,
            frames: Frames::default(),
            limit: self.limits.answer,
        })
    }
}

impl Answer {
    /// The whole body, bounded.
    pub(crate) async fn whole(&mut self) -> Result<Bytes, Fault> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.response.chunk().await.map_err(|_| Fault::Garbage)? {
            if body.len() + chunk.len() > self.limit {
                return Err(Fault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The next event as it came; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(frame) = self.frames.next() {
                return Ok(Some(frame));
            }
            if self.frames.len() > self.limit {
                return Err(Fault::TooLarge);
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.frames.push(&chunk),
                Ok(None) => return Ok(None),
                Err(_) => return Err(Fault::Down),
            }
        }
    }

    /// The response to a request of our own, whichever way it comes.
    pub(crate) async fn response(&mut self) -> Result<RawObject, Fault> {
        if !self.is_stream {
            let body = self.whole().await?;
            let text = std::str::from_utf8(&body).map_err(|_| Fault::Garbage)?;
            return RawObject::parse(text).map_err(|_| Fault::Garbage);
        }
        while let Some(frame) = self.frame().await? {
            let Some(data) = sse::data(&frame) else { continue };
            let object = RawObject::parse(&data).map_err(|_| Fault::Garbage)?;
            if object.get("result").is_some() || object.get("error").is_some() {
                return Ok(object);
            }
        }
        Err(Fault::Garbage)
    }
}

/// A session with an upstream: opened for one session of a client, or for the catalogue.
pub(crate) struct Link {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) version: String,
    capabilities: RawObject,
}

pub(crate) fn both_kinds() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

impl Link {
    /// `initialize` with these parameters, then `notifications/initialized`.
    pub(crate) async fn open(upstream: &Arc<Upstream>, params: &RawObject) -> Result<Arc<Self>, Fault> {
        if upstream.is_resting() {
            return Err(Fault::Down);
        }
        let limit = upstream.limits.initialize;
        let opened = timeout(limit, Self::open_unbounded(upstream, params)).await;
        let opened = opened.unwrap_or(Err(Fault::Slow));
        upstream.note(opened.as_ref().err().copied());
        opened
    }

    async fn open_unbounded(upstream: &Arc<Upstream>, params: &RawObject) -> Result<Arc<Self>, Fault> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"trustrelay-initialize","method":"initialize","params":{}}}"#,
            raw(params)
        );
        let wait = upstream.limits.initialize;
        let mut answer = upstream.send(Method::POST, None, &both_kinds(), Some(body), wait).await?;
        if !answer.status.is_success() {
            return Err(Fault::Refused(answer.status));
        }
        let session = answer.session.clone();
        let response = answer.response().await?;
        let result = response.get("result").ok_or(Fault::Garbage)?;
        let result = RawObject::parse(result.get()).map_err(|_| Fault::Garbage)?;
        let version = result.str("protocolVersion").ok_or(Fault::Garbage)?;
        let capabilities =
            result.get("capabilities").and_then(|c| RawObject::parse(c.get()).ok()).unwrap_or_default();
        let link = Arc::new(Self { upstream: Arc::clone(upstream), session, version, capabilities });
        link.notify(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()).await?;
        Ok(link)
    }

    pub(crate) fn can(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = both_kinds();
        if let Ok(version) = HeaderValue::from_str(&self.version) {
            headers.insert(VERSION, version);
        }
        headers
    }

    pub(crate) async fn post(&self, body: String, wait: Duration) -> Result<Answer, Fault> {
        let headers = self.headers();
        let answer =
            self.upstream.send(Method::POST, self.session.as_ref(), &headers, Some(body), wait).await?;
        match answer.status {
            StatusCode::NOT_FOUND if self.session.is_some() => Err(Fault::SessionGone),
            _ => Ok(answer),
        }
    }

    /// A notification or a response: nothing but an acknowledgement comes back.
    pub(crate) async fn notify(&self, body: String) -> Result<(), Fault> {
        self.post(body, self.upstream.limits.farewell).await.map(|_| ())
    }

    pub(crate) async fn listen(&self) -> Result<Answer, Fault> {
        let mut headers = self.headers();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let wait = self.upstream.limits.initialize;
        let answer = self.upstream.send(Method::GET, self.session.as_ref(), &headers, None, wait).await?;
        if answer.status.is_success() && answer.is_stream {
            Ok(answer)
        } else {
            Err(Fault::Refused(answer.status))
        }
    }

    /// DELETE of the session, best effort.
    pub(crate) async fn close(&self) {
        if let Some(session) = &self.session {
            let wait = self.upstream.limits.farewell;
            let _ = self.upstream.send(Method::DELETE, Some(session), &self.headers(), None, wait).await;
        }
    }
}

impl Link {
    /// A session that a client's own `initialize` opened.
    pub(crate) fn adopted(
        upstream: &Arc<Upstream>,
        session: Option<HeaderValue>,
        version: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstream: Arc::clone(upstream),
            session,
            version,
            capabilities: RawObject::default(),
        })
    }
}
