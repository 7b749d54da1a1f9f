//! One connection: its socket's options, HTTP/1.1 or HTTP/2 on it, and what it may cost before it
//! asks for anything.
//!
//! No connection is ended for being idle: agents keep one for hours. But the head of a request that
//! has begun has to be whole in time, and small. hyper bounds the time from one request to the next
//! head with it, so the head's own time is taken here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::requests::{Answer, Answering, Requests};
use crate::unread::Lent;

/// How long the head of a request may take from its first byte to its last.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Most bytes that are read before a head is whole, and of a body before somebody takes them: with
/// all places taken by such heads, 16,384 times that, 1 GiB.
const MAX_HEAD: usize = 64 << 10;
/// What a connection of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection may be silent before its peer is asked whether it is there, and how often
/// it is asked then: a quiet client is kept, a dead one is not.
const SILENCE: Duration = Duration::from_secs(60);
const PROBES: Duration = Duration::from_secs(15);

/// Sets what a socket is served with.
pub(crate) fn prepare(stream: &TcpStream) {
    // Without it an answer of two writes waits for a delayed acknowledgement: 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    let probes = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBES);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "could not set SO_KEEPALIVE");
    }
}

/// A connection whose version is known: the first bytes have come. hyper-util would find the
/// version out too, and hand those bytes on by themselves: hyper then takes them for a head that is
/// not whole yet, and doubles its buffer, 8 KiB for as long as the connection lives.
pub(crate) struct Begun<I> {
    io: I,
    /// What has come and was not handed on yet: no more than a preface.
    first: Vec<u8>,
    is_http2: bool,
}

impl<I: AsyncRead + Unpin> Begun<I> {
    /// Waits for the first bytes for as long as it takes; nothing if the connection ends before.
    pub(crate) async fn wait(mut io: I) -> io::Result<Option<Self>> {
        let mut first = [0; PREFACE.len()];
        let mut len = io.read(&mut first).await?;
        if len == 0 {
            return Ok(None);
        }
        let more = async {
            while len < PREFACE.len() && PREFACE.starts_with(&first[..len]) {
                match io.read(&mut first[len..]).await? {
                    0 => break,
                    read => len += read,
                }
            }
            Ok(())
        };
        timeout(HEAD_TIME, more).await.unwrap_or_else(|_| Err(late_head()))?;
        let first = first[..len].to_vec();
        Ok(Some(Self { io, is_http2: first == PREFACE, first }))
    }
}

/// Serves connections.
pub(crate) struct Server {
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    router: Router,
    stopping: CancellationToken,
}

impl Server {
    /// `stopping`: from then on the next answer on a connection of HTTP/1 is its last, and says so
    /// (RFC 9112 §9.6). Whoever keeps it for many requests has given it up when the server ends,
    /// and loses none that is on its way then. HTTP/2 has GOAWAY for that.
    pub(crate) fn new(router: Router, stopping: CancellationToken) -> Self {
        let mut http1 = Builder::new(TokioExecutor::new()).http1_only();
        http1.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        let mut http2 = Builder::new(TokioExecutor::new()).http2_only();
        http2.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
        Self { http1, http2, router, stopping }
    }

    /// One connection, to its end; and how far its requests are.
    pub(crate) fn serve<I>(
        &self,
        begun: Begun<I>,
        peer: SocketAddr,
    ) -> (impl GracefulConnection<Error: Into<Error>> + Send + use<I>, Arc<Requests>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = Arc::<Requests>::default();
        let builder = if begun.is_http2 { &self.http2 } else { &self.http1 };
        let io = Heads { begun, requests: Arc::clone(&requests), late: None };
        let theirs = Arc::clone(&requests);
        let (router, stopping, is_http2) = (self.router.clone(), self.stopping.clone(), io.begun.is_http2);
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            let answering = Answering::begin(&theirs);
            request.extensions_mut().insert(ConnectInfo(peer));
            let mut back = None;
            let request = if is_http2 || request.body().is_end_stream() {
                request.map(axum::body::Body::new)
            } else {
                let (head, body) = request.into_parts();
                let (lent, its_way_back) = Lent::new(&head.headers, body);
                back = Some(its_way_back);
                http::Request::from_parts(head, axum::body::Body::new(lent))
            };
            // A router is always ready.
            let (answered, stopping) = (router.clone().call(request), stopping.clone());
            async move {
                let mut answer = answered.await?.map(|body| Answer::new(body, answering));
                let goes_on = match back {
                    Some(back) => back.pass_over().await,
                    None => true,
                };
                if !is_http2 && (stopping.is_cancelled() || !goes_on) {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        (builder.serve_connection(TokioIo::new(io), service).into_owned(), requests)
    }
}

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Takes the time of each head. What comes while a request is answered is taken for its body: of a
/// head that is sent ahead of its time, the time is not taken. Neither is it on HTTP/2, which has
/// frames of its own between requests.
struct Heads<I> {
    begun: Begun<I>,
    requests: Arc<Requests>,
    /// Made when a head has to be waited for: most come whole.
    late: Option<Pin<Box<Sleep>>>,
}

impl<I> Heads<I> {
    fn came(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.begun.is_http2
            && self.requests.answering.load(Ordering::Relaxed) == 0
            && !self.requests.begun.swap(true, Ordering::Relaxed)
        {
            self.late = None;
        }
    }

    /// Pending, but for a head that takes too long.
    fn waits(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.requests.begun.load(Ordering::Relaxed) {
            self.late = None;
            return Poll::Pending;
        }
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_TIME)));
        late.as_mut().poll(cx).map(|()| Err(late_head()))
    }
}

fn late_head() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a request's head took too long")
}

impl<I: AsyncRead + Unpin> AsyncRead for Heads<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let first = self.begun.first.len().min(buffer.remaining());
        if first > 0 {
            buffer.put_slice(&self.begun.first[..first]);
            // Most often all, once, and its memory goes with it.
            self.begun.first = self.begun.first.split_off(first);
        }
        // Together with what has come since. An end or an error is there the next time too.
        match Pin::new(&mut self.begun.io).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) if first == 0 => Poll::Ready(Err(error)),
            Poll::Pending if first == 0 => self.waits(cx),
            _ => {
                self.came(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heads<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.begun.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.begun.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.begun.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.begun.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.begun.io).poll_shutdown(cx)
    }
}

// Time is paused in these tests: it goes on by itself when all wait for it, so that a day is over
// at once.
#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use hyper::body::Bytes;

    const DAY: Duration = Duration::from_secs(86_400);
    const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

    /// The client's end of a connection that is served.
    fn connected() -> DuplexStream {
        let (client, io) = tokio::io::duplex(4096);
        let stream = || async {
            let chunks = futures_util::stream::repeat(()).then(|()| async {
                sleep(DAY / 4).await;
                Ok::<_, std::convert::Infallible>(Bytes::from_static(b"still "))
            });
            axum::body::Body::from_stream(chunks)
        };
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route(
                "/slow",
                get(|| async {
                    sleep(DAY).await;
                    "at last"
                }),
            )
            .route("/stream", get(stream))
            .route("/echo", post(|body: String| async { body }));
        let server = Server::new(router, CancellationToken::new());
        tokio::spawn(async move {
            if let Ok(Some(begun)) = Begun::wait(io).await {
                let _ = server.serve(begun, SocketAddr::from(([127, 0, 0, 1], 1))).0.await;
            }
        });
        client
    }

    /// Reads until this has come.
    async fn until(client: &mut DuplexStream, what: &str) -> String {
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(what) {
            let read = client.read_buf(&mut text).await.unwrap();
            assert!(read > 0, "it ended after {:?}", String::from_utf8_lossy(&text));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_be_idle_for_ever() {
        let mut client = connected();
        // Before its first request, and after each.
        for _ in 0..3 {
            sleep(DAY).await;
            client.write_all(GET.as_bytes()).await.unwrap();
            assert!(until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
        }
        // A head that came in pieces leaves no time-out behind.
        client.write_all(&GET.as_bytes()[..9]).await.unwrap();
        sleep(HEAD_TIME / 2).await;
        client.write_all(&GET.as_bytes()[9..]).await.unwrap();
        until(&mut client, "hello").await;
        sleep(DAY).await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "hello").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_must_be_whole_in_time() {
        for (requests_before, drips) in [(0, false), (0, true), (2, false), (2, true)] {
            let mut client = connected();
            for _ in 0..requests_before {
                client.write_all(GET.as_bytes()).await.unwrap();
                until(&mut client, "hello").await;
                sleep(DAY).await;
            }
            let begun = Instant::now();
            client.write_all(b"G").await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(client);
            if drips {
                tokio::spawn(async move {
                    while writer.write_all(b"E").await.is_ok() {
                        sleep(HEAD_TIME / 10).await;
                    }
                });
            }
            let mut rest = Vec::new();
            timeout(DAY, reader.read_to_end(&mut rest)).await.expect("it ends").unwrap();
            let took = begun.elapsed();
            assert!(took >= HEAD_TIME && took < HEAD_TIME * 2, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_head_has_its_own_time() {
        let mut client = connected();
        for _ in 0..3 {
            for half in [&GET[..9], &GET[9..]] {
                client.write_all(half.as_bytes()).await.unwrap();
                sleep(HEAD_TIME * 2 / 3).await;
            }
            until(&mut client, "hello").await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_and_answers_may_take_longer_than_a_head() {
        let mut client = connected();
        client.write_all(b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        for byte in ["s", "l", "o", "w"] {
            sleep(HEAD_TIME).await;
            client.write_all(byte.as_bytes()).await.unwrap();
        }
        until(&mut client, "slow").await;
        client.write_all(GET.replace("/ ", "/slow ").as_bytes()).await.unwrap();
        until(&mut client, "at last").await;
        client.write_all(GET.replace("/ ", "/stream ").as_bytes()).await.unwrap();
        for _ in 0..3 {
            until(&mut client, "still ").await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_large_ends_the_connection() {
        let mut client = connected();
        let large = format!("GET / HTTP/1.1\r\nhost: h\r\nx-large: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut answer = String::new();
        let ended =
            async { tokio::join!(writer.write_all(large.as_bytes()), reader.read_to_string(&mut answer)) };
        let (_, read) = timeout(DAY, ended).await.expect("it ends");
        read.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let mut client = connected();
        let fits = large.replace(&"x".repeat(MAX_HEAD / 2), "");
        client.write_all(fits.as_bytes()).await.unwrap();
        assert!(until(&mut client, "hello").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_may_come_in_pieces_and_what_only_begins_like_one_is_a_request() {
        let preface = [PREFACE, b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0byte-own"].concat();
        let mut client = connected();
        for byte in &preface {
            client.write_all(&[*byte]).await.unwrap();
            sleep(HEAD_TIME / 100).await;
        }
        until(&mut client, "byte-own").await;
        for method in ["P", "PR", "PRI", "PRINT"] {
            let mut client = connected();
            for part in [method, " / HTTP/1.1\r\nhost: h\r\n\r\n"] {
                client.write_all(part.as_bytes()).await.unwrap();
                sleep(HEAD_TIME / 2).await;
            }
            assert!(until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 405 "), "{method}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_become_a_preface_must_in_time() {
        let mut client = connected();
        sleep(DAY).await;
        client.write_all(b"PRI * HT").await.unwrap();
        let begun = Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(begun.elapsed(), HEAD_TIME);
    }

    #[tokio::test]
    async fn a_head_that_came_whole_is_handed_on_whole() {
        let (mut client, io) = tokio::io::duplex(4096);
        client.write_all(GET.as_bytes()).await.unwrap();
        let begun = Begun::wait(io).await.unwrap().unwrap();
        let mut heads = Heads { begun, requests: Arc::default(), late: None };
        let mut buffer = [0; 1024];
        let read = heads.read(&mut buffer).await.unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..read]), Ok(GET));
        // Nor is anything lost where there is little room.
        let (mut client, io) = tokio::io::duplex(4096);
        client.write_all(GET.as_bytes()).await.unwrap();
        drop(client);
        let begun = Begun::wait(io).await.unwrap().unwrap();
        let mut heads = Heads { begun, requests: Arc::default(), late: None };
        let mut all = Vec::new();
        while let read @ 1.. = heads.read(&mut buffer[..5]).await.unwrap() {
            all.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(std::str::from_utf8(&all), Ok(GET));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_may_be_idle_for_ever_too() {
        let mut client = connected();
        // The preface and empty SETTINGS; a PING a day later (RFC 9113 §3.4, §6.5, §6.7).
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        for ping in ["a-day-on", "two-days"] {
            sleep(DAY).await;
            client.write_all(b"\0\0\x08\x06\0\0\0\0\0").await.unwrap();
            client.write_all(ping.as_bytes()).await.unwrap();
            until(&mut client, ping).await;
        }
    }

    #[tokio::test]
    async fn a_socket_is_asked_whether_its_peer_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(!SockRef::from(&stream).keepalive().unwrap());
        prepare(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBES);
    }
}
