//! The connections to one upstream: a request takes one that has nothing to do, or opens another, and gives it back at the end of its answer.
//!
//! hyper's client for one connection, and the list of those that wait. The client of hyper-util, which keeps connections to any number of
//! hosts, took a task of its own and some 8,000 instructions more for each call (docs/PERFORMANCE.md).

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

/// How long a connection that has no request on it is kept for the next one.
pub(crate) const KEPT: Duration = Duration::from_secs(90);
/// How many of them.
const KEPT_IDLE: usize = 256;
/// How long an answer whose rest nobody needs may take to end.
const LEFT: Duration = Duration::from_secs(1);
/// How many of them are waited for at a time: an upstream that ends none of its answers does not hold a file for each call.
const LEFT_AT_ONCE: usize = 64;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Line = line::Line<Io>;
type Http2 = http2::SendRequest<Full<Bytes>>;
type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Connections {
    connector: HttpsConnector<HttpConnector>,
    uri: Uri,
    /// The same as HTTP/1 names it: within the host, which a header names.
    path: Uri,
    host: HeaderValue,
    kept: Arc<Kept>,
    /// The one connection of HTTP/2: it takes many requests at a time.
    shared: Mutex<Option<Http2>>,
}

/// The connections of HTTP/1 that come back.
struct Kept {
    /// The latest is at the end.
    idle: Mutex<Vec<Idle>>,
    /// Room for those whose answer is about to end.
    left: Arc<Semaphore>,
}

/// One that has nothing to do.
struct Idle {
    line: Line,
    since: Instant,
}

enum Sender {
    Http1(Line),
    Http2(Http2),
}

impl Connections {
    /// To the host that `uri` names, opened as they are needed.
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

    /// Sends one request and waits for the head of its answer. Where it goes is known here.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answering>, Unanswered> {
        loop {
            let (sender, is_new) = match self.waiting() {
                Some(sender) => (sender, false),
                // In a box: what is rare is not carried about with every request.
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
            // Of a connection that has ended before the request was on it, the request comes back.
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

    /// A connection that waits for a request, or has ended meanwhile.
    fn waiting(&self) -> Option<Sender> {
        if let Some(shared) = self.shared.lock().as_ref().filter(|shared| shared.is_ready()) {
            return Some(Sender::Http2(shared.clone()));
        }
        let latest = self.kept.idle.lock().pop_if(|latest| latest.since.elapsed() < KEPT)?;
        Some(Sender::Http1(latest.line))
    }

    /// Asks for an answer that may go on for long, and waits for its head. Where it would take a connection for itself alone, that is a lean one.
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

    /// Takes a connection of HTTP/2 for the one of all requests.
    async fn share(&self, io: Io) -> Result<Http2, Unanswered> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_header_list_size(MAX_HEAD);
        let (sender, connection) = http2.handshake(io).await?;
        tokio::spawn(connection);
        *self.shared.lock() = Some(sender.clone());
        Ok(sender)
    }

    /// Lets go of what has ended, and of what nobody has needed for [`KEPT`].
    pub(crate) fn sweep(&self) {
        let is_over = |one: &mut Idle| one.since.elapsed() >= KEPT || !one.line.rests();
        let over: Vec<_> = self.kept.idle.lock().extract_if(.., is_over).collect();
        for Idle { line, .. } in over {
            line.close();
        }
        self.shared.lock().take_if(|shared| shared.is_closed());
    }
}

/// What names a host in a request (RFC 9110, section 7.2): its port only if it is not the scheme's own.
fn host(uri: &Uri) -> Option<String> {
    let name = uri.host()?;
    match (uri.port_u16(), uri.scheme_str()) {
        (None, _) | (Some(80), Some("http")) | (Some(443), Some("https")) => Some(name.to_owned()),
        (Some(port), _) => Some(format!("{name}:{port}")),
    }
}

/// The body of an answer. Its connection takes the next request when the answer has come to its end. What is dropped before is read on only as
/// far as it has come already; then the connection is closed, which tells an upstream that nobody waits any more.
pub(crate) enum Answering {
    Pooled(Pooled),
    /// In a box: what is rare is not carried about with every answer.
    Lean(Box<Lean<TokioIo<Io>>>),
}

/// See [`Answering`].
pub(crate) struct Pooled {
    body: Incoming,
    /// `None` when it was given back, or is shared.
    busy: Option<Busy>,
}

struct Busy {
    line: Line,
    kept: Arc<Kept>,
}

impl Answering {
    /// The next bytes; `None` at the end. Nothing is lost if it is not waited for to the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Unanswered> {
        match self {
            Self::Pooled(pooled) => poll_fn(|cx| pooled.poll_chunk(cx)).await,
            Self::Lean(lean) => lean.chunk().await,
        }
    }

    /// Nobody needs the rest of an answer that is about to end. If it does, its connection takes the next request.
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
        // What does not rest is closed.
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
