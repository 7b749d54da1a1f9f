//! Where a test can hold calls up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// A place where a test can hold calls up: while it is closed they wait there.
#[derive(Debug)]
pub struct Gate {
    closed: AtomicBool,
    held: AtomicUsize,
    turns: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { closed: AtomicBool::new(false), held: AtomicUsize::new(0), turns: Semaphore::new(0) }
    }
}

impl Gate {
    /// Holds up who comes from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Lets everyone through, those who wait as well.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.turns.add_permits(1_000);
    }

    /// Lets one of them through, and goes on holding up who comes.
    pub fn let_one_pass(&self) {
        self.turns.add_permits(1);
    }

    /// How many have been held up so far.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(super) async fn pass(&self) {
        if self.closed.load(Ordering::SeqCst) {
            self.held.fetch_add(1, Ordering::SeqCst);
            self.turns.acquire().await.expect("never closed").forget();
        }
    }
}
