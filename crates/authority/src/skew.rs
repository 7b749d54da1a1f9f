//! This machine's wall clock beside the store's. Nodes say by it when their clock is wrong, and
//! date what they seal for each other by the store's clock, which is the same for all of them. The
//! fence rests on neither.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::authority::Authority;

/// How far a clock may be off before a node says so. NTP keeps clocks within some 10 ms.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
/// How often the clocks are compared: one short question to the store.
const COMPARE_EVERY: Duration = Duration::from_secs(2);

/// The last comparison.
#[derive(Default)]
pub(crate) struct Skew {
    is_known: AtomicBool,
    /// Microseconds from the time since boot to the store's time.
    store_from_boot: AtomicI64,
    /// Microseconds that this machine's wall clock is ahead of the store's; 0 if the difference is
    /// within what is not known.
    ahead: AtomicI64,
    is_off: AtomicBool,
    /// Microseconds since boot.
    compared_at: AtomicI64,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Authority {
    /// By how much this machine's wall clock is ahead of the store's, as of the last comparison.
    /// `None` if the store has no clock of its own, or has not answered yet.
    pub fn clock_ahead(&self) -> Option<SignedDuration> {
        let is_known = self.skew.is_known.load(Ordering::Acquire);
        is_known.then(|| SignedDuration::from_micros(self.skew.ahead.load(Ordering::Relaxed)))
    }

    /// The store's time, carried on by the time since boot: the same for all nodes of a store,
    /// however their wall clocks are set. The wall clock's time where there is no other.
    pub fn shared_now(&self) -> Timestamp {
        if self.skew.is_known.load(Ordering::Acquire) {
            let offset = self.skew.store_from_boot.load(Ordering::Relaxed);
            let shared = micros(self.clock.since_boot()).saturating_add(offset);
            if let Ok(shared) = Timestamp::from_microsecond(shared) {
                return shared;
            }
        }
        self.clock.now()
    }

    /// Compares the clocks now and then, and warns when they are apart.
    pub(crate) async fn compare_clocks(&self) {
        let before = self.clock.since_boot();
        let since = micros(before).saturating_sub(self.skew.compared_at.load(Ordering::Relaxed));
        if self.skew.is_known.load(Ordering::Acquire) && since < micros(COMPARE_EVERY) {
            return;
        }
        let Ok(Some(store)) = self.store.clock().await else { return };
        let (after, own) = (self.clock.since_boot(), self.clock.now());
        // The store looked at its clock somewhere between the question and the answer.
        let doubt = micros(after.saturating_sub(before)) / 2;
        let store = store.as_microsecond().saturating_add(doubt);
        let apart = own.as_microsecond().saturating_sub(store);
        let ahead = if apart.saturating_abs() <= doubt { 0 } else { apart };
        self.skew.store_from_boot.store(store.saturating_sub(micros(after)), Ordering::Relaxed);
        self.skew.ahead.store(ahead, Ordering::Relaxed);
        self.skew.compared_at.store(micros(before), Ordering::Relaxed);
        self.skew.is_known.store(true, Ordering::Release);
        let is_off = ahead.saturating_abs().saturating_sub(doubt) > micros(CLOCK_TOLERANCE);
        if self.skew.is_off.swap(is_off, Ordering::Relaxed) == is_off {
            return;
        }
        let ahead_seconds = SignedDuration::from_micros(ahead).as_secs_f64();
        if is_off {
            tracing::warn!(
                ahead_seconds,
                "this machine's clock differs from the database's; synchronize both with NTP, because expiry is checked against this machine's clock"
            );
        } else {
            tracing::info!(ahead_seconds, "this machine's clock matches the database's again");
        }
    }
}
