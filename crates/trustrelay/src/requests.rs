//! The requests of a connection, from the first byte of a head to the last of the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::Notify;

/// How far they are.
#[derive(Default)]
pub(crate) struct Requests {
    /// The first byte of a head has come, and its last has not.
    pub(crate) begun: AtomicBool,
    /// How many are answered at the moment.
    pub(crate) answering: AtomicUsize,
    /// There was a first one.
    asked: AtomicBool,
    first: Notify,
}

impl Requests {
    /// Waits for the head of the first.
    pub(crate) async fn first(&self) {
        // Before it is looked at: what comes in between is not missed.
        let first = self.first.notified();
        if !self.asked.load(Ordering::SeqCst) {
            first.await;
        }
    }
}

/// A request whose head is whole and whose answer is not.
pub(crate) struct Answering(Arc<Requests>);

impl Answering {
    pub(crate) fn begin(requests: &Arc<Requests>) -> Self {
        requests.begun.store(false, Ordering::Relaxed);
        requests.answering.fetch_add(1, Ordering::Relaxed);
        if !requests.asked.load(Ordering::Relaxed) {
            requests.asked.store(true, Ordering::SeqCst);
            requests.first.notify_waiters();
        }
        Self(Arc::clone(requests))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body.
pub(crate) struct Answer {
    body: axum::body::Body,
    _answering: Answering,
}

impl Answer {
    pub(crate) fn new(body: axum::body::Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
