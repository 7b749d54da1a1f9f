//! How fast tokens are refused that nobody knows, or that are dead and not in the index. Each costs
//! a look into the store, so a flood of them would take from the others what those need: past a
//! first few, refusals take turns.

use std::time::Duration;

use parking_lot::Mutex;

/// So many are refused at once.
const BURST: u32 = 200;
/// And then one each millisecond: at some 0.1 ms of work, a tenth of a core.
const EACH: Duration = Duration::from_millis(1);
/// Nobody waits longer for the answer: whoever opens a thousand connections to guess with gets a
/// thousand answers a second.
const LONGEST: Duration = Duration::from_secs(1);

/// When the next turn is, by the time since boot.
#[derive(Default)]
pub(crate) struct Pace(Mutex<Duration>);

impl Pace {
    /// Takes a turn; how long it is until then.
    pub(crate) fn turn(&self, now: Duration) -> Duration {
        let mut next = self.0.lock();
        let turn = (*next).clamp(now.saturating_sub(EACH * BURST), now + LONGEST);
        *next = turn + EACH;
        turn.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_few_are_refused_at_once_and_a_flood_takes_turns() {
        let pace = Pace::default();
        let waits: Vec<_> = (0..BURST + 50).map(|_| pace.turn(NOW)).collect();
        let at_once = waits.iter().filter(|wait| wait.is_zero()).count();
        assert_eq!(at_once, BURST as usize + 1);
        assert_eq!(waits.last(), Some(&(EACH * 49)));
        // Who comes when the flood is over waits for nothing.
        assert_eq!(pace.turn(NOW + EACH * 50), Duration::ZERO);
    }

    #[test]
    fn nobody_waits_longer_than_that_however_many_there_are() {
        let pace = Pace::default();
        let longest = (0..10_000).map(|_| pace.turn(NOW)).max();
        assert_eq!(longest, Some(LONGEST));
        // And what they took is not owed for longer.
        assert_eq!(pace.turn(NOW + LONGEST + EACH * 2), Duration::ZERO);
    }
}
