//! An HTTP/1 connection to an upstream that is driven by the task that waits for it.
//!
//! hyper lets its user decide which task polls a connection. With a task of its own, the connection
//! and the call woke each other for the head of an answer, for each part of its body and for its
//! end. A stream of one event then reached the client in three writes. Polled within the call,
//! everything that has arrived is read in one go (docs/PERFORMANCE.md).

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

/// Time limit for closing a connection.
const FAREWELL: Duration = Duration::from_secs(1);

type Asked = Request<Full<Bytes>>;
type Connection<T> = http1::Connection<T, Full<Bytes>>;

/// An HTTP/1 connection; see the module. Dropping it breaks the connection off.
pub(super) struct Line<T: Read + Write + Unpin> {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    connection: Option<Pin<Box<Connection<T>>>>,
}

impl<T: Read + Write + Unpin> Line<T> {
    pub(super) async fn new(io: T, max_head: usize) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::Builder::new().max_buf_size(max_head).handshake(io).await?;
        Ok(Self { sender, connection: Some(Box::pin(connection)) })
    }

    /// Sends a request and waits for the head of its answer. The error contains the request, if
    /// none of it was sent.
    pub(super) async fn ask(&mut self, request: Asked) -> Result<Response<Incoming>, TrySendError<Asked>> {
        let mut asked = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.advance(cx);
            // Only the `advance` above can make it ready, so no waker is needed, here and below.
            asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Returns the next part of the answer's body, or `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut nobody = Context::from_waker(Waker::noop());
        // hyper reads the body only after it was polled for.
        let polled = Pin::new(&mut *body).poll_frame(&mut nobody);
        if polled.is_ready() {
            return polled;
        }
        self.advance(cx);
        Pin::new(body).poll_frame(&mut nobody)
    }

    /// Returns whether the connection is idle: it has not ended, and its previous answer is
    /// complete.
    pub(super) fn rests(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Closes the connection properly, as HTTP and TLS require (RFC 8446, section 6.1). Dropping it
    /// would break it off.
    pub(super) fn close(self)
    where
        T: Send + 'static,
    {
        let Some(connection) = self.connection else { return };
        // Dropping the sender makes the connection end.
        drop(self.sender);
        tokio::spawn(timeout(FAREWELL, connection));
    }

    fn advance(&mut self, cx: &mut Context<'_>) {
        // An error is reported to the task that waits for the answer.
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }
}
