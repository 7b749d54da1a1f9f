//! Runs a request to its end, even if its client disconnects. Otherwise a session with an upstream
//! could be left half open. Besides, a disconnect does not cancel a request in the session era.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;
use tracing::Instrument as _;

type Work<F> = Pin<Box<TrackedFuture<F>>>;

/// Work that runs in the task that awaits it. If it is dropped unfinished, the rest is spawned as a
/// task of its own.
pub(crate) struct Whole<F: Future<Output: Send> + Send + 'static> {
    /// `None` once the work has finished or panicked.
    work: Option<Work<F>>,
    gone: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Whole<F> {
    /// Wraps the work. `gone` is cancelled when the work is no longer awaited.
    pub(crate) fn new(tasks: &TaskTracker, gone: CancellationToken, work: F) -> Self {
        Self { work: Some(Box::pin(tasks.track_future(work))), gone }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Whole<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it is polled, so that work that panics is not polled again.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Whole<F> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        self.gone.cancel();
        // Without a runtime the program has ended.
        if let Ok(runtime) = Handle::try_current() {
            // The rest keeps the span in which it was polled.
            runtime.spawn(work.in_current_span());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn whole<F: Future<Output: Send> + Send + 'static>(
        work: F,
    ) -> (Whole<F>, TaskTracker, CancellationToken) {
        let (tasks, gone) = (TaskTracker::new(), CancellationToken::new());
        (Whole::new(&tasks, gone.clone(), work), tasks, gone)
    }

    #[tokio::test]
    async fn work_that_is_awaited_is_done_where_it_is_awaited() {
        let here = tokio::task::try_id();
        let (work, _, gone) = whole(async { tokio::task::try_id() });
        assert_eq!(work.await, here);
        assert!(!gone.is_cancelled());
    }

    #[tokio::test]
    async fn work_that_nobody_awaits_any_more_goes_on_to_its_end_and_knows_it() {
        let (go, wait) = oneshot::channel::<()>();
        let (done, end) = oneshot::channel();
        let gone = CancellationToken::new();
        let tasks = TaskTracker::new();
        let knows = gone.clone();
        let mut work = Box::pin(Whole::new(&tasks, gone, async move {
            wait.await.expect("sent");
            done.send(knows.is_cancelled()).expect("heard");
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        tasks.close();
        assert_eq!(tasks.len(), 1, "who waits for the tasks waits for it");
        go.send(()).expect("heard");
        assert!(timeout(PATIENCE, end).await.expect("in time").expect("sent"));
        timeout(PATIENCE, tasks.wait()).await.expect("in time");
    }

    #[tokio::test]
    async fn work_that_panicked_is_not_taken_up_again() {
        let (work, tasks, gone) = whole(async { panic!("on purpose") });
        let panicked = tokio::spawn(work).await.expect_err("it panics");
        assert!(panicked.is_panic());
        assert!(tasks.is_empty() && !gone.is_cancelled());
    }
}
