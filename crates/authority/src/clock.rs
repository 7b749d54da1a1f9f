//! Time, as an argument.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, in microseconds (what a store can keep).
    fn now(&self) -> Timestamp;
    /// Time since boot, counting a suspended machine's sleep (`CLOCK_BOOTTIME`): what leases are
    /// measured by.
    fn since_boot(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "the one place that asks the wall clock")]
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// A clock that tests move by hand.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new((now, Duration::from_secs(1000))))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock();
        time.0 = time.0.checked_add(by).unwrap_or(Timestamp::MAX);
        time.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().0
    }

    fn since_boot(&self) -> Duration {
        self.0.lock().1
    }
}
