//! Streamable HTTP to an upstream.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::aws_lc_rs;
use tokio::time::timeout;
use trustrelay_token::UpstreamName;
use url::Url;

use crate::config::{Limits, RelayError};
use crate::envelope::Message;
use crate::headers::ROOM;
use crate::names::SESSION;
use crate::sse::{self, Frames};
use crate::trace;
use crate::upstream::connections::{Answering, Connections};
use crate::upstream::unanswered::Unanswered;
use crate::upstream::{Event, Fault};

/// The idle time after which TCP keep-alive probes begin.
const PROBED: Duration = Duration::from_secs(60);

pub(crate) struct HttpTransport {
    /// The relay's own credential for the upstream.
    headers: HeaderMap,
    connections: Connections,
}

impl HttpTransport {
    pub(crate) fn new(
        name: &UpstreamName,
        mut url: Url,
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
        if let Some(basic) = basic(&mut url)
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, basic);
        }
        url.set_fragment(None);
        let uri = url.as_str().parse().map_err(|_| RelayError::NotHttp(name.clone()))?;
        let connections = Connections::new(connector(url.scheme() == "https", limits)?, uri);
        Ok(Self { headers, connections })
    }

    /// Drops idle connections that are no longer needed.
    pub(crate) fn sweep(&self) {
        self.connections.sweep();
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
        let is_stream = method == Method::GET;
        let mut request = Request::new(Full::from(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let sent = async {
            match is_stream {
                // Boxed, so that the rare path does not enlarge the future of every call.
                true => Box::pin(self.connections.stream(request)).await,
                false => self.connections.send(request).await,
            }
        };
        let response = match timeout(wait, sent).await {
            Err(_) => return Err(Fault::Slow),
            Ok(Err(unanswered)) => return Err(unanswered.into()),
            Ok(Ok(response)) => response,
        };
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_stream = kind.to_ascii_lowercase().starts_with("text/event-stream");
        Ok(HttpAnswer {
            status: response.status(),
            // Copied, because a header is a slice of the read buffer and would keep the whole
            // buffer alive.
            session: response
                .headers()
                .get(SESSION)
                .and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()),
            is_stream,
            answering: response.into_body(),
            frames: Frames::default(),
            limit,
            body: Some(Vec::new()),
        })
    }
}

fn connector(is_secure: bool, limits: &Limits) -> Result<HttpsConnector<HttpConnector>, RelayError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(PROBED));
    connector.set_connect_timeout(Some(limits.connect));
    let builder = HttpsConnectorBuilder::new();
    let builder = if is_secure {
        let provider = aws_lc_rs::default_provider();
        builder.with_provider_and_platform_verifier(provider).map_err(RelayError::Client)?
    } else {
        // Without TLS no certificates are loaded.
        let tls = rustls::ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| RelayError::Client(std::io::Error::other(error)))?;
        builder
            .with_tls_config(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
    };
    Ok(builder.https_or_http().enable_all_versions().wrap_connector(connector))
}

/// Removes the user name and password from a URL and returns them as a header (RFC 7617, section
/// 2).
fn basic(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let credentials = [&plain(url.username())[..], b":", &plain(url.password().unwrap_or_default())].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    // Cannot fail: a URL with a host accepts both.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Some(value)
}

impl From<Unanswered> for Fault {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            // Either there is no connection, or it broke before an answer, so the upstream is gone.
            Unanswered::Broken => Self::Down,
            Unanswered::Garbage => Self::Garbage,
        }
    }
}

/// The `Accept` header of every POST.
pub(crate) const BOTH_KINDS: &str = "application/json, text/event-stream";

/// Returns the headers of every POST.
pub(crate) fn both_kinds() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(ROOM);
    add_both_kinds(&mut headers);
    headers
}

/// Adds the headers of every POST. The client's own `Accept` takes precedence. The `Content-Type`
/// is always the relay's, which has parsed the body as UTF-8.
pub(crate) fn add_both_kinds(headers: &mut HeaderMap) {
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static(BOTH_KINDS));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// An upstream's answer: the head, and the body as it arrives.
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) is_stream: bool,
    answering: Answering,
    frames: Frames,
    limit: usize,
    /// The received part of a single JSON answer, kept because the wait for the rest may be
    /// cancelled. `None` once it was taken.
    body: Option<Vec<u8>>,
}

impl HttpAnswer {
    /// Returns the next bytes of the body. Cancel-safe.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        self.answering.chunk().await.map_err(|_| Fault::Down)
    }

    /// Returns the whole body, up to the limit.
    pub(crate) async fn whole(&mut self) -> Result<Bytes, Fault> {
        while let Some(chunk) = self.chunk().await? {
            let body = self.body.get_or_insert_default();
            if body.len() + chunk.len() > self.limit {
                return Err(Fault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(self.body.take().unwrap_or_default().into())
    }

    /// Returns whether the answer means that the upstream does not know the session of the request:
    /// 404 (MCP 2025-11-25, "Transports", "Session Management"), or 400 with a text about a
    /// session, as servers on the official TypeScript SDK answer after a restart.
    pub(crate) async fn ends_session(&mut self) -> bool {
        match self.status {
            StatusCode::NOT_FOUND => true,
            StatusCode::BAD_REQUEST if !self.is_stream => {
                let Ok(body) = self.whole().await else { return false };
                let is_about_session = body.to_ascii_lowercase().windows(7).any(|word| word == b"session");
                // The receiver of the answer still needs its body.
                self.body = Some(body.into());
                is_about_session
            }
            _ => false,
        }
    }

    /// Abandons the rest of the answer, after the response.
    pub(crate) fn leave(self) {
        self.answering.leave();
    }

    /// Returns the next event of a stream, or the single JSON answer. Returns `None` at the end.
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
            match self.chunk().await? {
                Some(chunk) => self.frames.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_url_names_goes_into_a_header_and_out_of_the_url() {
        for (url, credentials, bare) in [
            ("http://h:1/mcp", None, "http://h:1/mcp"),
            ("https://u@h/mcp", Some("u:"), "https://h/mcp"),
            ("http://u:p%40ss@h:1/mcp?a=b", Some("u:p@ss"), "http://h:1/mcp?a=b"),
            ("http://:p@h/", Some(":p"), "http://h/"),
        ] {
            let mut url = Url::parse(url).unwrap();
            let header = basic(&mut url);
            let expected = credentials.map(|plain| format!("Basic {}", BASE64_STANDARD.encode(plain)));
            assert_eq!(header.as_ref().map(|header| header.to_str().unwrap()), expected.as_deref());
            assert!(header.is_none_or(|header| header.is_sensitive()));
            assert_eq!(url.as_str(), bare);
        }
    }

    #[test]
    fn a_header_that_is_configured_outweighs_the_url() {
        let name: UpstreamName = "up".parse().unwrap();
        let url = Url::parse("http://u:p@h/#part").unwrap();
        let configured = vec![("authorization".to_owned(), "Bearer x".to_owned())];
        let transport = HttpTransport::new(&name, url.clone(), configured, &Limits::default()).unwrap();
        assert_eq!(transport.headers[AUTHORIZATION], "Bearer x");
        assert_eq!(transport.connections.uri(), "http://h/");
        let transport = HttpTransport::new(&name, url, Vec::new(), &Limits::default()).unwrap();
        assert_eq!(transport.headers[AUTHORIZATION], "Basic dTpw");
    }
}
