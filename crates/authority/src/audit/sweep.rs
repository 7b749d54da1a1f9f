//! Retention: what is older than it is kept is cut off, in small batches, once a day.

use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;

use super::{Actor, AuditEntry, CUT};
use crate::authority::Authority;

/// How many entries are cut off at once: at some 20 µs each, the store's writer is held for 10 ms.
const BATCH: u64 = 500;
/// How long after everything old was cut off it is looked again.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// When everything old was last cut off, since the machine's start.
#[derive(Default)]
pub(crate) struct Sweep(Mutex<Option<Duration>>);

impl Authority {
    /// Cuts a batch of old entries off, if it is time.
    pub(crate) async fn sweep_audit(&self) {
        let uptime = self.clock.since_boot();
        if self.sweep.0.lock().is_some_and(|swept| uptime.saturating_sub(swept) < EVERY) {
            return;
        }
        let now = self.clock.now();
        let kept = SignedDuration::try_from(self.config.audit_retention).unwrap_or(SignedDuration::MAX);
        // What is kept since before the beginning of time is kept for ever.
        let Ok(before) = now.checked_sub(kept) else { return };
        let entry = AuditEntry::new(now, Actor::SYSTEM, CUT).with("before", before);
        match self.store.cut_audit(before, BATCH, &entry).await {
            // Less than it might have been: that was all.
            Ok(gone) if gone < BATCH => *self.sweep.0.lock() = Some(uptime),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not delete old audit entries; trying again later"),
        }
    }
}
