//! The outlet of an answer: one JSON object, or a stream that ends with it. The choice is made as
//! late as possible.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::body::{LastWord, RelayBody};
use crate::reply::{self, Reply};
use crate::sse;

/// Number of events that are queued for a slow client. Beyond it, the upstream waits.
const WAITING: usize = 16;

/// An answer on its way to the client.
pub(crate) struct Outlet {
    head: Option<oneshot::Sender<Reply>>,
    events: Option<mpsc::Sender<Bytes>>,
    last_word: LastWord,
    /// Cancelled when nobody reads the answer any more.
    pub(crate) gone: CancellationToken,
    pub(crate) bytes: u64,
}

/// The client's end of an [`Outlet`].
pub(crate) struct Waiting {
    head: oneshot::Receiver<Reply>,
    gone: CancellationToken,
}

impl Outlet {
    /// Creates an outlet and the client's end of it. `gone` is the request's token, cancelled by
    /// the first to notice that the client has disconnected.
    pub(crate) fn new(gone: CancellationToken) -> (Self, Waiting) {
        let (sender, head) = oneshot::channel();
        let waiting = Waiting { head, gone: gone.clone() };
        (Self { head: Some(sender), events: None, last_word: LastWord::default(), gone, bytes: 0 }, waiting)
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.events.is_some()
    }

    /// Begins the stream, unless it has begun.
    pub(crate) fn begin(&mut self) {
        if let Some(head) = self.head.take() {
            let (sender, frames) = mpsc::channel(WAITING);
            self.events = Some(sender);
            let last_word = Arc::clone(&self.last_word);
            let _ = head.send(reply::stream(frames).map(|body| body.ending(last_word)));
        }
    }

    /// Sends a complete event unchanged.
    pub(crate) async fn frame(&mut self, frame: Bytes) {
        self.begin();
        self.bytes += frame.len() as u64;
        if let Some(events) = &self.events {
            // In the session era a disconnected client has not cancelled its request. The rest of
            // the answer is discarded.
            let _ = events.send(frame).await;
        }
    }

    /// Sends a message as an event.
    pub(crate) async fn message(&mut self, text: &str) {
        self.frame(sse::event(text)).await;
    }

    pub(crate) async fn keep_alive(&mut self) {
        self.frame(Bytes::from_static(sse::KEEP_ALIVE)).await;
    }

    /// Sends the response: as the whole answer, or as the last event of the stream.
    pub(crate) async fn finish(&mut self, status: StatusCode, text: impl Into<Bytes>) {
        let text = text.into();
        match self.head.take() {
            Some(head) => {
                self.bytes += text.len() as u64;
                let _ = head.send(reply::json(status, text));
            }
            None => {
                let event = sse::event(&String::from_utf8_lossy(&text));
                self.frame(event).await;
            }
        }
        self.events = None;
    }

    /// Ends the answer without waiting for the client to read. Sends `answer` if nothing was sent
    /// yet, otherwise appends `last` behind the queued events.
    pub(crate) fn end(&mut self, answer: Reply, last: &str) {
        if let Some(head) = self.head.take() {
            let _ = head.send(answer);
        } else if self.events.is_some() {
            // The final event must be set before the stream ends, because it is read at the end.
            let _ = self.last_word.set(sse::event(last));
            self.events = None;
        }
    }

    /// Ends without a response, for a client that did not request one.
    pub(crate) fn close(&mut self) {
        self.begin();
        self.events = None;
    }
}

impl Waiting {
    /// Runs the work in the caller's task until it produces the answer. Returns the answer and the
    /// unfinished rest of the work. The answer must not wake this task: tokio takes a task that
    /// wakes itself for one that yields, and wakes another thread to take over.
    pub(crate) async fn reply_of<W: Future<Output = ()>>(
        mut self,
        mut work: Pin<Box<W>>,
        ended: impl FnOnce() -> Reply,
    ) -> (Reply, Option<Pin<Box<W>>>) {
        let gone = self.gone.drop_guard();
        let (answer, is_done) = poll_fn(|cx| {
            let is_done = work.as_mut().poll(cx).is_ready();
            match self.head.try_recv() {
                Ok(answer) => Poll::Ready((Some(answer), is_done)),
                Err(TryRecvError::Empty) if !is_done => Poll::Pending,
                Err(_) => Poll::Ready((None, is_done)),
            }
        })
        .await;
        let answer = answer.unwrap_or_else(ended).map(|body| body.guarded(gone));
        (answer, (!is_done).then_some(work))
    }

    /// Waits for the answer. Its body reports when it is no longer read.
    pub(crate) async fn reply(self, ended: impl FnOnce() -> Reply) -> Reply {
        let gone = self.gone.drop_guard();
        let reply = self.head.await.unwrap_or_else(|_| ended());
        reply.map(|body: RelayBody| body.guarded(gone))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use http_body_util::BodyExt as _;

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended() -> Reply {
        reply::ended("null")
    }

    #[tokio::test]
    async fn the_answer_of_work_that_is_done_here_wakes_nobody() {
        let (mut outlet, waiting) = Outlet::new(CancellationToken::new());
        let (go, wait) = oneshot::channel::<()>();
        let mut answered = Box::pin(waiting.reply_of(
            Box::pin(async move {
                wait.await.expect("sent");
                outlet.finish(StatusCode::OK, "{}").await;
            }),
            ended,
        ));
        let task = Arc::<Task>::default();
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        assert!(answered.as_mut().poll(&mut cx).is_pending());
        go.send(()).expect("heard");
        let woken = task.0.load(Ordering::Relaxed);
        let Poll::Ready((answer, rest)) = answered.as_mut().poll(&mut cx) else { panic!("it is there") };
        assert_eq!((woken, task.0.load(Ordering::Relaxed)), (1, 1));
        assert!(rest.is_none() && answer.status() == StatusCode::OK);
    }

    #[tokio::test]
    async fn work_that_goes_on_behind_its_answer_is_handed_back() {
        let (mut outlet, waiting) = Outlet::new(CancellationToken::new());
        let (go, wait) = oneshot::channel::<()>();
        let work = Box::pin(async move {
            outlet.message("1").await;
            wait.await.expect("sent");
            outlet.finish(StatusCode::OK, "2").await;
        });
        let (answer, rest) = waiting.reply_of(work, ended).await;
        go.send(()).expect("heard");
        rest.expect("there is more of it").await;
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, [sse::event("1"), sse::event("2")].concat());
    }

    #[tokio::test]
    async fn work_that_ends_without_an_answer_is_answered_for() {
        let (outlet, waiting) = Outlet::new(CancellationToken::new());
        let (answer, rest) = waiting.reply_of(Box::pin(async move { drop(outlet) }), ended).await;
        assert!(rest.is_none() && answer.status() == StatusCode::UNAUTHORIZED);
    }
}
