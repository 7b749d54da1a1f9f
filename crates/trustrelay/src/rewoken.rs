//! Work that wakes itself goes on where it is.
//!
//! hyper's server wakes its own task twice for each request that has a body: the handler asks for
//! the body within the task that reads it, and is told within it that it has come. The runtime
//! takes a task that was woken while it ran for one that yields: it queues it, and wakes another of
//! its threads to take it over. For one call after the other that was two system calls each time,
//! and two threads on the same few requests (docs/PERFORMANCE.md).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::task::coop::has_budget_remaining;

/// How often it is polled in a row before others of its thread get their turn.
const IN_A_ROW: usize = 4;

/// It is being polled.
const POLLED: u8 = 1;
/// It was woken since the last poll began.
const WOKEN: u8 = 2;

/// A future that is polled again at once where it was woken while it was polled.
pub(crate) struct Rewoken<F> {
    work: F,
    wakes: Arc<Wakes>,
    waker: Waker,
}

/// Who is woken: the task, or nobody, if it is being polled just now.
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) & POLLED == 0 {
            self.task.wake();
        }
    }
}

impl<F: Future + Unpin> Rewoken<F> {
    pub(crate) fn new(work: F) -> Self {
        let wakes = Arc::new(Wakes { state: AtomicU8::new(0), task: AtomicWaker::new() });
        Self { work, waker: Waker::from(Arc::clone(&wakes)), wakes }
    }

    /// The work itself, to be told something.
    pub(crate) fn work(&mut self) -> &mut F {
        &mut self.work
    }
}

impl<F: Future + Unpin> Future for Rewoken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, wakes, waker } = self.get_mut();
        wakes.task.register(cx.waker());
        for _ in 0..IN_A_ROW {
            wakes.state.store(POLLED, Ordering::Release);
            let polled = Pin::new(&mut *work).poll(&mut Context::from_waker(waker));
            // From here on a wake goes to the task.
            let was_woken = wakes.state.swap(0, Ordering::AcqRel) & WOKEN != 0;
            if polled.is_ready() || !was_woken {
                return polled;
            }
            // What has used up its turn is woken for its next one.
            if !has_budget_remaining() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use tokio::sync::oneshot;

    use super::*;

    /// Counts how often the task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls once; how often the work was polled by that, and the task woken.
    fn polled<F: Future + Unpin>(work: &mut Rewoken<F>, task: &Arc<Task>) -> (Poll<F::Output>, usize) {
        let before = task.0.load(Ordering::Relaxed);
        let polled = Pin::new(work).poll(&mut Context::from_waker(&Waker::from(Arc::clone(task))));
        (polled, task.0.load(Ordering::Relaxed) - before)
    }

    #[test]
    fn work_that_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        let mut left = 2;
        let mut work = Rewoken::new(poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready("done");
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!(polled(&mut work, &Arc::default()), (Poll::Ready("done"), 0));
    }

    #[test]
    fn work_that_waits_is_polled_once_and_its_task_is_woken_when_it_comes() {
        let (go, mut wait) = oneshot::channel();
        let mut polls = 0;
        let mut work = Rewoken::new(poll_fn(|cx| {
            polls += 1;
            Pin::new(&mut wait).poll(cx)
        }));
        let task = Arc::<Task>::default();
        assert_eq!(polled(&mut work, &task), (Poll::Pending, 0));
        // From another thread, as often.
        thread::scope(|scope| scope.spawn(|| go.send(7).unwrap()).join().unwrap());
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert_eq!(polled(&mut work, &task), (Poll::Ready(Ok(7)), 0));
        drop(work);
        assert_eq!(polls, 2);
    }

    #[test]
    fn work_that_wakes_itself_for_ever_lets_others_have_their_turn() {
        let mut polls = 0;
        let mut work = Rewoken::new(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let task = Arc::<Task>::default();
        assert_eq!(polled(&mut work, &task), (Poll::Pending, 1));
        drop(work);
        assert_eq!(polls, IN_A_ROW);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost_between_two_threads() {
        for _ in 0..10_000 {
            let (go, wait) = oneshot::channel();
            let woken = tokio::spawn(Rewoken::new(wait));
            tokio::spawn(async move { go.send(()) });
            woken.await.unwrap().unwrap();
        }
    }
}
