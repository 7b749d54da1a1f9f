//! What is counted. The handles are kept, and made at the first use: the program may install what
//! counts after it opened the authority.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

const VERIFICATIONS: &str = "trustrelay_verifications_by_path_total";
const REVOCATION: &str = "trustrelay_revocation_seconds";
const APPLIED: &str = "trustrelay_log_applied";
const LOST: &str = "trustrelay_leases_lost_total";

struct Kept {
    index: Counter,
    store: Counter,
    refused: Counter,
    revocation: Histogram,
    applied: Gauge,
    lost: Counter,
}

/// As many threads as count without meeting.
const STRIPES: usize = 16;

/// A number that every request adds to: each thread at a place of its own, on a cache line of its
/// own.
#[derive(Default)]
struct Striped([Stripe; STRIPES]);

#[derive(Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
}

impl Striped {
    fn increment(&self) {
        self.0[PLACE.with(|place| *place)].0.fetch_add(1, Ordering::Relaxed);
    }

    /// What was added since this was last asked.
    fn take(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.swap(0, Ordering::Relaxed)).sum()
    }
}

/// The numbers of one authority.
#[derive(Default)]
pub(crate) struct Numbers {
    kept: OnceLock<Kept>,
    from_index: Striped,
}

impl Numbers {
    fn kept(&self) -> &Kept {
        self.kept.get_or_init(|| {
            describe_counter!(
                VERIFICATIONS,
                "Verifications: from memory, by the database, or refused because neither was available"
            );
            describe_histogram!(REVOCATION, "From a revocation's commit until every node has applied it");
            describe_gauge!(APPLIED, "The last log entry that this node has applied");
            describe_counter!(LOST, "How often this node's lease expired");
            Kept {
                index: counter!(VERIFICATIONS, "path" => "index"),
                store: counter!(VERIFICATIONS, "path" => "store"),
                refused: counter!(VERIFICATIONS, "path" => "refused"),
                revocation: histogram!(REVOCATION),
                applied: gauge!(APPLIED),
                lost: counter!(LOST),
            }
        })
    }

    /// A token was judged from memory.
    pub(crate) fn judged_from_index(&self) {
        self.from_index.increment();
    }

    /// Brings the counters up to date that are not counted in place.
    pub(crate) fn publish(&self) {
        self.kept().index.increment(self.from_index.take());
    }

    /// The store was asked for a token; `answered`, or it did not answer and the token was refused.
    pub(crate) fn judged_from_store(&self, answered: bool) {
        let kept = self.kept();
        if answered { &kept.store } else { &kept.refused }.increment(1);
    }

    /// A change that takes power away holds everywhere, so long after its commit.
    pub(crate) fn settled(&self, after: Duration) {
        self.kept().revocation.record(after.as_secs_f64());
    }

    /// This node has applied the log up to here.
    pub(crate) fn applied(&self, seq: u64) {
        self.kept().applied.set(seq as f64);
    }

    /// This node's lease ran out.
    pub(crate) fn lost_lease(&self) {
        self.kept().lost.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_is_counted_once() {
        let count = Striped::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES * 2 {
                scope.spawn(|| (0..100).for_each(|_| count.increment()));
            }
        });
        assert_eq!((count.take(), count.take()), (STRIPES as u64 * 200, 0));
    }
}
