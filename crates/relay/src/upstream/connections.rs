//! The connections to one upstream. A request uses an idle connection or opens a new one, and
//! returns it at the end of its answer.
//!
//! This module combines hyper's single-connection client with a list of idle connections.
//! hyper-util's client, which pools connections to any number of hosts, needed a task of its own
//! and about 8,000 more instructions per call (docs/PERFORMANCE.md).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tower::Service as _;

use crate::upstream::lean::{self, Lean};
use crate::upstream::line;
use crate::upstream::unanswered::{MAX_HEAD, Unanswered};

/// The time for which an idle connection is kept for the next request.
pub(crate) const KEPT: Duration = Duration::from_secs(90);
/// Maximum number of idle connections.
const KEPT_IDLE: usize = 256;
/// Time limit for an abandoned answer to end, so that its connection can be reused.
const LEFT: Duration = Duration::from_secs(1);
/// Maximum number of abandoned answers that are waited for at a time. An upstream that never ends
/// its answers therefore cannot hold one file descriptor per call.
const LEFT_AT_ONCE: usize = 64;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Line = line::Line<Io>;
type Http2 = http2::SendRequest<Full<Bytes>>;
type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Connections {
    connector: HttpsConnector<HttpConnector>,
    uri: Uri,
    /// The same URI in the form of HTTP/1, without the host, which a header names.
    path: Uri,
    host: HeaderValue,
    kept: Arc<Kept>,
    /// The single HTTP/2 connection, which carries many requests at a time.
    shared: Mutex<Option<Http2>>,
}

/// The HTTP/1 connections that are reused.
struct Kept {
    /// The idle connections, most recently used last.
    idle: Mutex<Vec<Idle>>,
    /// Permits for answers that are about to end.
    left: Arc<Semaphore>,
}

/// An idle connection.
struct Idle {
    line: Line,
    since: Instant,
}

enum Sender {
    Http1(Line),
    Http2(Http2),
}

impl Connections {
    /// Creates the connections to the host that `uri` names. They are opened on demand.
    pub(crate) fn new(connector: HttpsConnector<HttpConnector>, uri: Uri) -> Self {
        let path = uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        let host = host(&uri).and_then(|host| HeaderValue::try_from(host).ok());
        let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
        let kept = Kept { idle: Mutex::default(), left: Arc::new(Semaphore::new(LEFT_AT_ONCE)) };
        Self { connector, uri, path, host, kept: Arc::new(kept), shared: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Sends one request and waits for the head of its answer. Sets the request's URI and `Host`.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answering>, Unanswered> {
        loop {
            let (sender, is_new) = match self.waiting() {
                Some(sender) => (sender, false),
                // Boxed, so that the rare path does not enlarge the future of every request.
                None => (Box::pin(self.open()).await?, true),
            };
            let mut error = match sender {
                Sender::Http1(mut line) => {
                    *request.uri_mut() = self.path.clone();
                    request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
                    match line.ask(request).await {
                        Ok(answer) => return Ok(answer.map(|body| self.answering(body, line))),
                        Err(error) => error,
                    }
                }
                Sender::Http2(mut sender) => {
                    *request.uri_mut() = self.uri.clone();
                    if request.headers().get(HOST) == Some(&self.host) {
                        request.headers_mut().remove(HOST);
                    }
                    match sender.try_send_request(request).await {
                        Ok(answer) => {
                            return Ok(answer.map(|body| Answering::Pooled(Pooled { body, busy: None })));
                        }
                        Err(error) => {
                            *self.shared.lock() = None;
                            error
                        }
                    }
                }
            };
            // If the connection had ended before the request was written, hyper returns the request
            // for another attempt.
            match error.take_message() {
                Some(unsent) if !is_new => request = unsent,
                _ => return Err(error.into_error().into()),
            }
        }
    }

    fn answering(&self, body: Incoming, line: Line) -> Answering {
        let mut pooled = Pooled { body, busy: Some(Busy { line, kept: Arc::clone(&self.kept) }) };
        pooled.release_at_the_end();
        Answering::Pooled(pooled)
    }

    /// Returns an idle connection, which may have been closed in the meantime.
    fn waiting(&self) -> Option<Sender> {
        if let Some(shared) = self.shared.lock().as_ref().filter(|shared| shared.is_ready()) {
            return Some(Sender::Http2(shared.clone()));
        }
        let latest = self.kept.idle.lock().pop_if(|latest| latest.since.elapsed() < KEPT)?;
        Some(Sender::Http1(latest.line))
    }

    /// Requests an answer that may last long, and waits for its head. Uses a lean connection unless
    /// the request can share an HTTP/2 connection.
    pub(crate) async fn stream(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Answering>, Unanswered> {
        let shared = self.shared.lock().as_ref().is_some_and(Http2::is_ready);
        if !shared {
            let io = Box::pin(self.connect()).await?;
            if !io.connected().is_negotiated_h2() {
                let asked = lean::get(TokioIo::new(io), &self.path, &self.host, request.headers());
                return Ok(asked.await?.map(|lean| Answering::Lean(Box::new(lean))));
            }
            self.share(io).await?;
        }
        self.send(request).await
    }

    async fn connect(&self) -> Result<Io, Unanswered> {
        let mut connector = self.connector.clone();
        let opened = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.uri.clone()).await
        };
        opened.await.map_err(|_: Error| Unanswered::Broken)
    }

    async fn open(&self) -> Result<Sender, Unanswered> {
        let io = self.connect().await?;
        if io.connected().is_negotiated_h2() {
            return self.share(io).await.map(Sender::Http2);
        }
        Ok(Sender::Http1(Line::new(io, MAX_HEAD as usize).await?))
    }

    /// Makes an HTTP/2 connection the shared one.
    async fn share(&self, io: Io) -> Result<Http2, Unanswered> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_header_list_size(MAX_HEAD);
        let (sender, connection) = http2.handshake(io).await?;
        tokio::spawn(connection);
        *self.shared.lock() = Some(sender.clone());
        Ok(sender)
    }

    /// Drops the connections that have ended or were idle for [`KEPT`].
    pub(crate) fn sweep(&self) {
        let is_over = |one: &mut Idle| one.since.elapsed() >= KEPT || !one.line.rests();
        let over: Vec<_> = self.kept.idle.lock().extract_if(.., is_over).collect();
        for Idle { line, .. } in over {
            line.close();
        }
        self.shared.lock().take_if(|shared| shared.is_closed());
    }
}

/// Returns the value of the `Host` header (RFC 9110, section 7.2). It contains the port only if
/// that is not the scheme's default.
fn host(uri: &Uri) -> Option<String> {
    let name = uri.host()?;
    match (uri.port_u16(), uri.scheme_str()) {
        (None, _) | (Some(80), Some("http")) | (Some(443), Some("https")) => Some(name.to_owned()),
        (Some(port), _) => Some(format!("{name}:{port}")),
    }
}

/// The body of an answer. At its end, its connection becomes available for the next request. When
/// it is dropped early, only bytes that have already arrived are read. Unless they complete the
/// answer, the connection is closed, which tells the upstream that nobody waits any more.
pub(crate) enum Answering {
    Pooled(Pooled),
    /// Boxed, so that the rare variant does not enlarge every answer.
    Lean(Box<Lean<TokioIo<Io>>>),
}

/// The body of an answer on a reusable connection; see [`Answering`].
pub(crate) struct Pooled {
    body: Incoming,
    /// `None` once the connection was returned, or if it is shared.
    busy: Option<Busy>,
}

struct Busy {
    line: Line,
    kept: Arc<Kept>,
}

impl Answering {
    /// Returns the next bytes, or `None` at the end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Unanswered> {
        match self {
            Self::Pooled(pooled) => poll_fn(|cx| pooled.poll_chunk(cx)).await,
            Self::Lean(lean) => lean.chunk().await,
        }
    }

    /// Abandons the rest of an answer that is about to end. If it does end, its connection is
    /// reused.
    pub(crate) fn leave(self) {
        let Self::Pooled(mut pooled) = self else { return };
        while let Some(busy) = &pooled.busy {
            let left = Arc::clone(&busy.kept.left);
            match pooled.poll_chunk(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Ok(None) | Err(_)) => return,
                Poll::Pending => {
                    let Ok(room) = left.try_acquire_owned() else { return };
                    tokio::spawn(timeout(LEFT, async move {
                        let _room = room;
                        while let Ok(Some(_)) = poll_fn(|cx| pooled.poll_chunk(cx)).await {}
                    }));
                    return;
                }
            }
        }
    }
}

impl Pooled {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Unanswered>> {
        while !self.body.is_end_stream() {
            let polled = match &mut self.busy {
                Some(busy) => busy.line.poll_frame(cx, &mut self.body),
                None => Pin::new(&mut self.body).poll_frame(cx),
            };
            let Some(frame) = ready!(polled) else { break };
            let chunk = frame.map_err(Unanswered::from)?.into_data();
            self.release_at_the_end();
            if let Ok(chunk) = chunk {
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
        self.release();
        Poll::Ready(Ok(None))
    }

    fn release_at_the_end(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        let Some(Busy { mut line, kept }) = self.busy.take() else { return };
        // A connection that is not idle is closed.
        if line.rests() {
            let mut idle = kept.idle.lock();
            if idle.len() >= KEPT_IDLE {
                idle.retain_mut(|one| one.line.rests());
            }
            if idle.len() < KEPT_IDLE {
                idle.push(Idle { line, since: Instant::now() });
            }
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
