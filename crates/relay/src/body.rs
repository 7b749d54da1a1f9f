//! The body of a response: a complete text, or a stream that lives as long as its client reads it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::DropGuard;

/// The error type of bodies.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A final event that the relay itself appends to a stream, even if the client has not read the
/// earlier events.
pub(crate) type LastWord = Arc<OnceLock<Bytes>>;

/// The body of the relay's responses.
pub struct RelayBody {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    /// The relay's final event, until it is sent.
    last_word: Option<LastWord>,
    said: bool,
    cut: bool,
    /// Cancels its token when the body is dropped, which means that the client stopped reading.
    _gone: Option<DropGuard>,
}

impl RelayBody {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::new(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync())
    }

    pub(crate) fn stream(frames: mpsc::Receiver<Bytes>) -> Self {
        let frames = ReceiverStream::new(frames).map(|bytes| Ok(Frame::data(bytes)));
        Self::new(StreamBody::new(frames).boxed_unsync())
    }

    fn new(inner: UnsyncBoxBody<Bytes, BoxError>) -> Self {
        Self { inner, last_word: None, said: false, cut: false, _gone: None }
    }

    /// Adds a final event, which is sent when the stream ends.
    pub(crate) fn ending(self, last_word: LastWord) -> Self {
        Self { last_word: Some(last_word), ..self }
    }

    /// Adds a guard whose token is cancelled when the body is dropped.
    pub(crate) fn guarded(self, gone: DropGuard) -> Self {
        Self { _gone: Some(gone), ..self }
    }
}

impl RelayBody {
    /// Marks the whole body as written by the relay itself, not by an upstream.
    pub(crate) fn own(self) -> Self {
        Self { said: true, ..self }
    }

    /// Drops everything that the upstream still sends. Only the relay's final event, if there is
    /// one, and the end of the stream follow.
    pub fn cut(&mut self) {
        self.cut = true;
    }

    /// Returns whether the most recent frame was the relay's final event, or the whole body is the
    /// relay's own.
    pub fn has_said_its_last_word(&self) -> bool {
        self.said
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(_) if self.cut => {}
                None => {
                    let word = self.last_word.take().and_then(|word| word.get().cloned());
                    self.said |= word.is_some();
                    return Poll::Ready(word.map(|word| Ok(Frame::data(word))));
                }
                frame => return Poll::Ready(frame),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last_word.is_none() && self.inner.is_end_stream()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the rest of a body.
    async fn rest(body: &mut RelayBody) -> Vec<Bytes> {
        let mut said = Vec::new();
        while let Some(frame) = body.frame().await {
            said.extend(frame.expect("no error").into_data());
        }
        said
    }

    fn streaming() -> (mpsc::Sender<Bytes>, LastWord, RelayBody) {
        let (frames, waiting) = mpsc::channel(4);
        let word = LastWord::default();
        let body = RelayBody::stream(waiting).ending(Arc::clone(&word));
        (frames, word, body)
    }

    #[tokio::test]
    async fn the_last_word_comes_behind_what_waits_and_is_told_from_it() {
        let (frames, word, mut body) = streaming();
        frames.send(Bytes::from_static(b"a")).await.expect("room");
        word.set(Bytes::from_static(b"last")).expect("once");
        drop(frames);
        assert_eq!(body.frame().await.expect("a frame").expect("good").into_data().expect("data"), "a");
        assert!(!body.has_said_its_last_word() && !body.is_end_stream());
        assert_eq!(rest(&mut body).await, ["last"]);
        assert!(body.has_said_its_last_word());
    }

    #[tokio::test]
    async fn of_a_body_that_is_cut_nothing_comes_but_the_last_word() {
        let (frames, word, mut body) = streaming();
        frames.send(Bytes::from_static(b"a")).await.expect("room");
        body.cut();
        frames.send(Bytes::from_static(b"b")).await.expect("room");
        word.set(Bytes::from_static(b"last")).expect("once");
        drop(frames);
        assert_eq!(rest(&mut body).await, ["last"]);

        let (frames, _, mut body) = streaming();
        frames.send(Bytes::from_static(b"a")).await.expect("room");
        drop(frames);
        body.cut();
        assert_eq!(rest(&mut body).await.len(), 0, "nor is there always one");
        assert!(!body.has_said_its_last_word());
    }
}
