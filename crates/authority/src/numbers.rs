//! What is counted. The handles are kept, and made at the first use: the program may install what counts after it opened the
//! authority.

use std::sync::OnceLock;
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

/// The numbers of one authority.
#[derive(Default)]
pub(crate) struct Numbers(OnceLock<Kept>);

impl Numbers {
    fn kept(&self) -> &Kept {
        self.0.get_or_init(|| {
            describe_counter!(
                VERIFICATIONS,
                "Verifications: from the index, by the store, or refused because neither may be asked"
            );
            describe_histogram!(REVOCATION, "From a revocation's commit until every node has applied it");
            describe_gauge!(APPLIED, "The last entry of the log that this node has applied");
            describe_counter!(LOST, "How often this node's lease ran out");
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
        self.kept().index.increment(1);
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
