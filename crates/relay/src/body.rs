//! The body of an answer: whole, or a stream that lives as long as its client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::DropGuard;

/// An error of any kind, as bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of the relay's answers.
pub struct RelayBody {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    /// Says, when the body is dropped, that nobody reads it any more.
    _gone: Option<DropGuard>,
}

impl RelayBody {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let inner = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
        Self { inner, _gone: None }
    }

    pub(crate) fn stream(frames: mpsc::Receiver<Bytes>) -> Self {
        let frames = ReceiverStream::new(frames).map(|bytes| Ok(Frame::data(bytes)));
        Self { inner: StreamBody::new(frames).boxed_unsync(), _gone: None }
    }

    /// The same body, with what is told when it is dropped.
    pub(crate) fn guarded(self, gone: DropGuard) -> Self {
        Self { _gone: Some(gone), ..self }
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl std::fmt::Debug for RelayBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelayBody")
    }
}
