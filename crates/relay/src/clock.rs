//! The relay's one look at the wall clock.

use jiff::Timestamp;

/// Now. Only expiry is compared with it, and the timers behind it are real ones: there is no clock to pass.
#[allow(clippy::disallowed_methods, reason = "the one place; expiry timers sleep in real time anyway")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
