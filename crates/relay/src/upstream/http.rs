//! Streamable HTTP toward an upstream.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::timeout;
use trustrelay_token::UpstreamName;

use crate::config::{Limits, RelayError};
use crate::envelope::Message;
use crate::era::SESSION;
use crate::sse::{self, Frames};
use crate::trace;
use crate::upstream::{Event, Fault};

pub(crate) struct HttpTransport {
    url: url::Url,
    /// The upstream's own credential.
    headers: HeaderMap,
    client: reqwest::Client,
}

impl HttpTransport {
    pub(crate) fn new(
        name: &UpstreamName,
        url: url::Url,
        configured: Vec<(String, String)>,
        limits: &Limits,
    ) -> Result<Self, RelayError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RelayError::NotHttp(name.clone()));
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
        Ok(Self { url, headers, client })
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        session: Option<&HeaderValue>,
        mut headers: HeaderMap,
        body: Option<String>,
        wait: Duration,
        limit: usize,
    ) -> Result<HttpAnswer, Fault> {
        trace::name_current(&mut headers);
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
            // The error's text holds the URL: only its kind is kept. A connection that broke before an answer is an
            // upstream that went away.
            Ok(Err(error)) => {
                let gone = error.is_connect() || error.is_timeout() || error.is_request();
                return Err(if gone { Fault::Down } else { Fault::Garbage });
            }
            Ok(Ok(response)) => response,
        };
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_stream = kind.to_ascii_lowercase().starts_with("text/event-stream");
        Ok(HttpAnswer {
            status: response.status(),
            session: response.headers().get(SESSION).cloned(),
            is_stream,
            response,
            frames: Frames::default(),
            limit,
            body: Some(Vec::new()),
        })
    }
}

/// What every POST says that it takes.
pub(crate) fn both_kinds() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// What an upstream answered: its head, and its body as it comes.
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) is_stream: bool,
    response: reqwest::Response,
    frames: Frames,
    limit: usize,
    /// Of the one JSON answer, what has come, since who waits for it may be interrupted; `None` when it was taken.
    body: Option<Vec<u8>>,
}

impl HttpAnswer {
    /// The whole body, bounded.
    pub(crate) async fn whole(&mut self) -> Result<Bytes, Fault> {
        while let Some(chunk) = self.response.chunk().await.map_err(|_| Fault::Down)? {
            let body = self.body.get_or_insert_default();
            if body.len() + chunk.len() > self.limit {
                return Err(Fault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(self.body.take().unwrap_or_default().into())
    }

    /// The next event of a stream, or the one JSON answer; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        if !self.is_stream {
            if self.body.is_none() {
                return Ok(None);
            }
            let body = self.whole().await?;
            let text = std::str::from_utf8(&body).map_err(|_| Fault::Garbage)?;
            let message = Message::parse(text.to_owned()).ok();
            return Ok(Some(Event { frame: body, message }));
        }
        loop {
            if let Some(frame) = self.frames.next() {
                let message = sse::data(&frame).and_then(|data| Message::parse(data).ok());
                return Ok(Some(Event { frame, message }));
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
}
