//! One connection of HTTP/1 to an upstream, which whoever waits for something on it moves on.
//!
//! hyper leaves it to its user who polls a connection. As a task of its own it and the call woke each other for the head of an answer, for
//! each part of its body and for its end, and a stream of one event reached the client in three writes; within the call all that has come
//! is read in one go (docs/PERFORMANCE.md).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper::rt::{Read, Write};
use tokio::time::timeout;

/// How long the end of one may take.
const FAREWELL: Duration = Duration::from_secs(1);

type Asked = Request<Full<Bytes>>;
type Connection<T> = http1::Connection<T, Full<Bytes>>;

/// See the module. One that is dropped breaks off.
pub(super) struct Line<T: Read + Write + Unpin> {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` when it has ended.
    connection: Option<Pin<Box<Connection<T>>>>,
}

impl<T: Read + Write + Unpin> Line<T> {
    pub(super) async fn new(io: T, max_head: usize) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::Builder::new().max_buf_size(max_head).handshake(io).await?;
        Ok(Self { sender, connection: Some(Box::pin(connection)) })
    }

    /// Sends a request and waits for the head of its answer. The error has the request, if none of it was sent.
    pub(super) async fn ask(&mut self, request: Asked) -> Result<Response<Incoming>, TrySendError<Asked>> {
        let mut asked = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.advance(cx);
            // Only what has just been done makes it ready: there is nobody to be woken, here and below.
            asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// The next part of the answer's body; `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut nobody = Context::from_waker(Waker::noop());
        // Asking for it is what lets it be read.
        let polled = Pin::new(&mut *body).poll_frame(&mut nobody);
        if polled.is_ready() {
            return polled;
        }
        self.advance(cx);
        Pin::new(body).poll_frame(&mut nobody)
    }

    /// Whether it can take a request: it has not ended, and the answer before has come to its end.
    pub(super) fn rests(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Closes it as HTTP and TLS (RFC 8446, section 6.1) would have it: who drops it breaks it off.
    pub(super) fn close(self)
    where
        T: Send + 'static,
    {
        let Some(connection) = self.connection else { return };
        // At which it ends.
        drop(self.sender);
        tokio::spawn(timeout(FAREWELL, connection));
    }

    fn advance(&mut self, cx: &mut Context<'_>) {
        // How it ended is told to whoever waits for an answer.
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }
}
