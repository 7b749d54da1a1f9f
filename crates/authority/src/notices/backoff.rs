//! When a delivery that failed is tried again.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The waits after each try. Together with the tries they are some 45 hours: a receiver may be down
/// for a night and a day.
const WAITS: [u64; 7] = [MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR];
/// A wait becomes up to a tenth longer, so that what failed together does not come again together.
const JITTER: u64 = 10;

/// How long to wait after the try of this number, from 1; `None`: it was the last. `dice`:
/// anything, evenly spread.
pub(crate) fn next_wait(attempt: u32, dice: u32) -> Option<Duration> {
    let at = usize::try_from(attempt.checked_sub(1)?).ok()?;
    let wait = Duration::from_secs(*WAITS.get(at)?);
    let part = wait.as_millis() as u64 / JITTER;
    let jitter = (u128::from(part) * u128::from(dice) / u128::from(u32::MAX)) as u64;
    Some(wait + Duration::from_millis(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_minute_to_a_day_and_then_it_is_given_up() {
        let waits: Vec<_> =
            (1..).map_while(|attempt| next_wait(attempt, 0)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [60, 300, 1800, 7200, 21_600, 43_200, 86_400]);
        for attempt in [0, 8, 9, u32::MAX] {
            assert_eq!(next_wait(attempt, 7), None, "{attempt}");
        }
    }

    #[test]
    fn a_wait_becomes_up_to_a_tenth_longer_and_never_shorter() {
        for (dice, millis) in [(0, 60_000), (u32::MAX / 2, 62_999), (u32::MAX, 66_000)] {
            assert_eq!(next_wait(1, dice), Some(Duration::from_millis(millis)), "{dice}");
        }
        assert_eq!(next_wait(7, u32::MAX), Some(Duration::from_secs(86_400 + 8_640)));
    }
}
