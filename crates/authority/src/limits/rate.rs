//! How many requests a token has made of late: one number for each, by the generic cell rate
//! algorithm (ITU-T I.371). It says when the token would have used up nothing; each request moves
//! that on by its share of a minute, and one that would move it more than a minute ahead is
//! refused. So a token that was quiet may make a minute's requests at once, and none gets more than
//! its rate in the long run.
//!
//! After a quiet minute the number says nothing any more. So there are two generations of them, and
//! every minute the older one is forgotten whole: what is kept is bounded by the tokens of two
//! minutes, without anybody looking through it. If even those are too many, a generation ends
//! early, and who was in the one before begins anew: that errs on the token's side, and takes more
//! tokens with a rate than a node serves in a minute.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::limits::Allowance;

/// Tokens whose ids fall together wait for each other; with 16 shards on some 16 cores they rarely
/// do.
const SHARDS: usize = 16;
/// How many tokens a generation of a shard counts. 16 shards of two generations of 8,192, at some
/// 32 bytes each: 8 MiB.
const PER_GENERATION: usize = 8_192;
const MINUTE: Duration = Duration::from_secs(60);

/// Whether a request is allowed, and what is left then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) is_allowed: bool,
    pub(super) allowance: Allowance,
}

/// What tokens have made of their rates.
pub(crate) struct Rates {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    /// When each token will have used up nothing, in nanoseconds since boot.
    young: HashMap<Uuid, u64>,
    old: HashMap<Uuid, u64>,
    /// When the young generation began.
    began: Duration,
    /// The latest time that a request was judged at.
    latest: Duration,
}

impl Default for Rates {
    fn default() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new() }
    }
}

impl Rates {
    #[cfg(test)]
    pub(crate) const CAPACITY: usize = SHARDS * 2 * PER_GENERATION;

    /// Judges a request, and counts it if it is allowed.
    pub(super) fn judge(&self, pat_id: Uuid, per_minute: NonZeroU32, now: Duration) -> Judged {
        let shard = usize::try_from(self.hasher.hash_one(pat_id) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[shard].lock();
        // The clock was read before the lock was taken, so a later request may have come first.
        let now = shard.latest.max(now);
        shard.latest = now;
        shard.age(now);
        let now = nanos(now);
        let known = shard.young.get(&pat_id).or_else(|| shard.old.get(&pat_id)).copied();
        let clear_at = known.unwrap_or(0).max(now);
        let (clear_at, judged) = judge(clear_at, now, per_minute);
        if judged.is_allowed {
            shard.young.insert(pat_id, clear_at);
        }
        judged
    }

    #[cfg(test)]
    pub(crate) fn is_allowed(&self, pat_id: Uuid, per_minute: NonZeroU32, now: Duration) -> bool {
        self.judge(pat_id, per_minute, now).is_allowed
    }

    #[cfg(test)]
    pub(crate) fn counted(&self) -> usize {
        let counted = |shard: &Shard| shard.young.len() + shard.old.len();
        self.shards.iter().map(|shard| counted(&shard.lock())).sum()
    }
}

impl Shard {
    fn age(&mut self, now: Duration) {
        if now.saturating_sub(self.began) >= MINUTE || self.young.len() >= PER_GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.began = now;
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `clear_at`: when the token will have used up nothing, not before `now`; with the answer, what it
/// is from then on.
fn judge(clear_at: u64, now: u64, per_minute: NonZeroU32) -> (u64, Judged) {
    let requests = u64::from(per_minute.get());
    // A request's share of the minute. What the division drops makes the minute some nanoseconds
    // shorter for this token.
    let share = nanos(MINUTE) / requests;
    let minute = share * requests;
    let used = clear_at.saturating_sub(now);
    let is_allowed = used.saturating_add(share) <= minute;
    let used = if is_allowed { used + share } else { used };
    // Under another rate, whose minute was not cut as short, it may have used more than this
    // minute.
    let left = minute.saturating_sub(used) / share;
    let allowance = Allowance {
        per_minute,
        left: u32::try_from(left).unwrap_or(u32::MAX),
        more_in: Duration::from_nanos((used + (left + 1) * share).saturating_sub(minute)),
    };
    (now.saturating_add(used), Judged { is_allowed, allowance })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn per_minute(requests: u32) -> NonZeroU32 {
        NonZeroU32::new(requests).expect("some")
    }

    fn ask(rates: &Rates, requests: u32, at: Duration) -> (bool, u32, Duration) {
        let Judged { is_allowed, allowance } = rates.judge(Uuid::nil(), per_minute(requests), at);
        (is_allowed, allowance.left, allowance.more_in)
    }

    #[test]
    fn a_minutes_requests_may_come_at_once_and_then_one_by_one() {
        let rates = Rates::default();
        let at = SECOND * 1_000;
        for left in (0..6).rev() {
            assert!(matches!(ask(&rates, 6, at), (true, now, _) if now == left));
        }
        assert_eq!(ask(&rates, 6, at), (false, 0, SECOND * 10));
        assert_eq!(ask(&rates, 6, at + SECOND * 9), (false, 0, SECOND), "asking costs nothing");
        assert_eq!(ask(&rates, 6, at + SECOND * 10), (true, 0, SECOND * 10));
        assert_eq!(ask(&rates, 6, at + SECOND * 15), (false, 0, SECOND * 5));
        assert_eq!(ask(&rates, 6, at + SECOND * 35), (true, 1, SECOND * 5));
    }

    #[test]
    fn request_that_read_the_clock_earlier_and_comes_later_leaves_the_count_right() {
        let rates = Rates::default();
        let at = SECOND * 1_000;
        for _ in 0..3 {
            assert!(ask(&rates, 3, at).0);
        }
        assert_eq!(ask(&rates, 3, at - SECOND), (false, 0, SECOND * 20));
        assert_eq!(ask(&rates, 3, at), (false, 0, SECOND * 20));
    }

    #[test]
    fn token_that_used_a_minute_of_another_rate_has_nothing_left() {
        let rates = Rates::default();
        let at = SECOND * 1_000;
        for _ in 0..60 {
            assert!(ask(&rates, 60, at).0);
        }
        let (is_allowed, left, _) = ask(&rates, 7, at);
        assert!(!is_allowed);
        assert_eq!(left, 0);
    }

    #[test]
    fn after_a_quiet_minute_all_of_it_is_there_again() {
        let rates = Rates::default();
        for _ in 0..3 {
            ask(&rates, 3, SECOND);
        }
        assert!(!ask(&rates, 3, SECOND * 20).0);
        assert_eq!(ask(&rates, 3, SECOND * 61), (true, 2, SECOND * 20));
    }

    #[test]
    fn what_was_used_is_remembered_from_one_generation_to_the_next() {
        let rates = Rates::default();
        ask(&rates, 1, SECOND * 59);
        for at in [60, 61, 100, 118] {
            assert!(!ask(&rates, 1, SECOND * at).0, "{at}");
        }
        assert!(ask(&rates, 1, SECOND * 119).0);
        assert!(!ask(&rates, 1, SECOND * 178).0);
    }

    #[test]
    fn tokens_are_counted_each_for_itself() {
        let rates = Rates::default();
        for id in 0..100 {
            assert!(rates.judge(Uuid::from_u128(id), per_minute(1), SECOND).is_allowed);
            assert!(!rates.judge(Uuid::from_u128(id), per_minute(1), SECOND).is_allowed);
        }
    }

    #[test]
    fn however_many_tokens_come_what_is_kept_is_bounded_and_is_forgotten_after_two_minutes() {
        let rates = Rates::default();
        let most = SHARDS * 2 * PER_GENERATION;
        for id in 0..most as u128 * 2 {
            rates.judge(Uuid::from_u128(id), per_minute(60), SECOND);
        }
        assert!(rates.counted() <= most && rates.counted() > most / 4, "{}", rates.counted());
        for minute in [2, 4] {
            for id in 0..1_000 {
                rates.judge(Uuid::from_u128(id), per_minute(60), MINUTE * minute);
            }
        }
        assert!(rates.counted() <= 2_000, "{}", rates.counted());
    }

    proptest! {
        #[test]
        fn no_token_gets_more_than_a_minute_at_once_and_its_rate_after_that(
            requests in 1u32..=200, gaps in proptest::collection::vec(0u64..3_000, 1..600),
        ) {
            let rates = Rates::default();
            let (mut at, mut allowed) = (SECOND, Vec::new());
            for gap in gaps {
                at += Duration::from_millis(gap);
                let (is_allowed, left, more_in) = ask(&rates, requests, at);
                prop_assert!(left < requests);
                prop_assert!(!more_in.is_zero() && more_in <= MINUTE / requests);
                if is_allowed {
                    allowed.push(at);
                } else {
                    prop_assert_eq!(left, 0);
                    // Told the truth: a moment before it is refused, and then it is not.
                    prop_assert!(!ask(&rates, requests, at + more_in - Duration::from_nanos(1)).0);
                }
            }
            for (first, from) in allowed.iter().enumerate() {
                for (last, to) in allowed.iter().enumerate().skip(first) {
                    let most = f64::from(requests) * (1.0 + (*to - *from).as_secs_f64() / 60.0);
                    prop_assert!((last - first + 1) as f64 <= most + 1e-6);
                }
            }
        }

        #[test]
        fn rates_agree_with_a_leaky_bucket_while_clocks_go_back_and_rates_change(
            requests in proptest::collection::vec(
                (0u128..3, -5_000i64..5_000, prop_oneof![1u32..=20, 59u32..=61, Just(1_000_000)]),
                1..400,
            ),
        ) {
            // Each token has a bucket that holds a minute and leaks a nanosecond each nanosecond.
            let mut buckets = [(0u64, 0u64); 3];
            let rates = Rates::default();
            // All tokens share the time, as the tokens of a shard do.
            let shard_of = |id| rates.hasher.hash_one(Uuid::from_u128(id)) % SHARDS as u64;
            let mut latest = std::collections::BTreeMap::new();
            let mut clock = nanos(SECOND * 1_000);
            for (id, step, rate) in requests {
                clock = clock.saturating_add_signed(step * 1_000_003);
                let now = latest.entry(shard_of(id)).or_insert(clock);
                *now = (*now).max(clock);
                let (level, at) = &mut buckets[usize::try_from(id).expect("small")];
                *level = level.saturating_sub(*now - *at);
                *at = *now;
                let share = nanos(MINUTE) / u64::from(rate);
                let minute = share * u64::from(rate);
                let is_allowed = *level + share <= minute;
                if is_allowed {
                    *level += share;
                }
                let judged = rates.judge(Uuid::from_u128(id), per_minute(rate), Duration::from_nanos(clock));
                prop_assert_eq!(judged.is_allowed, is_allowed);
                let left = minute.saturating_sub(*level) / share;
                prop_assert_eq!(u64::from(judged.allowance.left), left);
                prop_assert!(judged.allowance.left < rate);
                prop_assert!(!judged.allowance.more_in.is_zero());
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_refused(requests in 1u32..=10_000, times in 1u32..500) {
            let rates = Rates::default();
            for time in 0..times {
                prop_assert!(ask(&rates, requests, SECOND + MINUTE / requests * time + Duration::from_nanos(u64::from(time))).0);
            }
        }
    }
}
