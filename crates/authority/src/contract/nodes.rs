//! The rows of nodes, and the clock of a store in memory.

use std::time::Duration;

// A test can stop it and move it.
use tokio::time::Instant;

use crate::store::{Holder, NodeRecord};

/// For how long the row of a node that holds no lease is kept, in microseconds.
const REMEMBERED: i64 = 600_000_000;

pub(super) struct Node {
    pub(super) holder: Holder,
    pub(super) held: bool,
    pub(super) applied_seq: u64,
    pub(super) name: String,
    pub(super) url: Option<String>,
    pub(super) renewed_at: i64,
}

impl Node {
    /// Whether its row is still kept.
    pub(super) fn is_remembered(&self, now: i64) -> bool {
        self.held || self.renewed_at.saturating_add(REMEMBERED) >= now
    }

    pub(super) fn record(&self, now: i64) -> NodeRecord {
        let length = i64::try_from(self.holder.length.as_micros()).unwrap_or(i64::MAX);
        let left = u64::try_from(self.renewed_at.saturating_add(length).saturating_sub(now)).unwrap_or(0);
        NodeRecord {
            node_id: self.holder.node_id,
            name: self.name.clone(),
            url: self.url.clone(),
            claim: self.holder.claim,
            applied_seq: self.applied_seq,
            lease_left: (self.held && left > 0).then(|| Duration::from_micros(left)),
        }
    }
}

/// A clock that people set: nothing may rest on it.
pub(super) struct StoreClock {
    began: Instant,
    pub(super) set: i64,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self { began: Instant::now(), set: 0 }
    }
}

impl StoreClock {
    pub(super) fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX).saturating_add(self.set)
    }
}
