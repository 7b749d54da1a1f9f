//! The body of an answer: whole, or a stream that lives as long as its client.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::DropGuard;

/// An error of any kind, as bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the relay itself says at the end of a stream, whether or not the client has read what came before.
pub(crate) type LastWord = Arc<OnceLock<Bytes>>;

/// The body of the relay's answers.
pub struct RelayBody {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    /// Until it is said.
    last_word: Option<LastWord>,
    said: bool,
    cut: bool,
    /// Says, when the body is dropped, that nobody reads it any more.
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

    /// The same body, with what may be said at its end.
    pub(crate) fn ending(self, last_word: LastWord) -> Self {
        Self { last_word: Some(last_word), ..self }
    }

    /// The same body, with what is told when it is dropped.
    pub(crate) fn guarded(self, gone: DropGuard) -> Self {
        Self { _gone: Some(gone), ..self }
    }
}

impl RelayBody {
    /// The same body, all of which is the relay's own word.
    pub(crate) fn own(self) -> Self {
        Self { said: true, ..self }
    }

    /// Of what an upstream says nothing comes any more: only the relay's own last word, if it has one, and the end.
    pub fn cut(&mut self) {
        self.cut = true;
    }

    /// Whether the frame that came last was the relay's own last word, or all of the body is its own.
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

    /// The rest of what a body says.
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
