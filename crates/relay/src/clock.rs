//! The only place where the relay reads the wall clock.

use jiff::Timestamp;

/// Returns the current time. It is compared with expiry times only. The timers behind expiry run in
/// real time, so injecting a clock would not help.
#[allow(clippy::disallowed_methods, reason = "the one place; expiry timers sleep in real time anyway")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
