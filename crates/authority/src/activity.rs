//! What a token has called: noted in memory, bounded, written down in batches. Never on the path of
//! an answer.
//!
//! Calls are added up by day, tool and outcome as they come, so that a busy token costs the store
//! no more than a quiet one; only its latest ones are kept one by one.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;
use tokio::sync::RwLock;
use trustrelay_token::Principal;
use uuid::Uuid;

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::{Call, DayCalls, NetworkUse, PatRecord, TokenCalls};
use crate::revoke::PatRef;
use crate::store::{KEPT_NETWORKS, LATEST_CALLS, OTHER_TOOL};

/// How many days are shown, today among them.
pub const ACTIVITY_DAYS: i32 = 30;
/// How many days are kept: those that are shown anywhere on earth, and some more to look into.
const KEPT_DAYS: i32 = 35;
/// How many sums wait at most: with a long tool name some 400 bytes each, 20 MB. Calls that need
/// another one are not counted.
const MAX_SUMS: usize = 50_000;
/// How many sums of one token wait at most; past that, tools that are new share [`OTHER_TOOL`].
const MAX_SUMS_OF_TOKEN: usize = 256;
/// How many single calls wait at most: some 400 bytes each, 20 MB. Past that a token's own oldest
/// makes room, or the call is only counted.
const MAX_SINGLE: usize = 50_000;
/// How many sums and single calls go into one write, some 10 µs each: 5 ms. A token's are not torn
/// apart, so it may be as many as one token has more.
const BATCH: usize = 500;
/// How many old rows of each kind are forgotten after one flush.
const FORGET: u64 = 1000;

/// A token's calls of one day and tool, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolDay {
    /// The day (UTC).
    pub day: Date,
    /// The upstream's name.
    pub upstream: String,
    /// The tool, by the upstream's own name for it, or the method; [`OTHER_TOOL`] for all beyond a
    /// day's first [`TOOLS_A_DAY`](crate::TOOLS_A_DAY).
    pub tool: String,
    /// How many calls had which outcome; `ok` among them.
    pub outcomes: BTreeMap<Cow<'static, str>, u64>,
    /// How long they took together.
    pub duration: Duration,
    /// Bytes of the requests' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
}

impl ToolDay {
    /// How many calls.
    pub fn calls(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// How many of them did not end well.
    pub fn failed(&self) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| *outcome != "ok").map(|(_, calls)| calls).sum()
    }
}

/// What a token has done lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// The token.
    pub pat: PatRecord,
    /// Where it was last used from, as far as that is known.
    pub address: Option<IpAddr>,
    /// What the client called itself then.
    pub user_agent: Option<String>,
    /// The networks that it was used from in these days, the latest used first: at most
    /// [`KEPT_NETWORKS`].
    pub networks: Vec<NetworkUse>,
    /// The first day (UTC) that is told of: [`ACTIVITY_DAYS`] with today.
    pub since: Date,
    /// Today (UTC).
    pub today: Date,
    /// The calls by day and tool: newest day first, then by upstream and tool.
    pub days: Vec<ToolDay>,
    /// The latest calls, newest first: at most [`LATEST_CALLS`].
    pub latest: Vec<Call>,
}

/// The day of a time, in UTC.
fn day_of(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

/// The first of so many days up to `today`.
fn first_of(today: Date, days: i32) -> Date {
    today.saturating_sub((days - 1).days())
}

type SumKey = (Date, String, String, Cow<'static, str>);

#[derive(Default)]
struct Sum {
    calls: u64,
    duration: Duration,
    bytes_in: u64,
    bytes_out: u64,
}

impl Sum {
    fn add(&mut self, more: &DayCalls) {
        self.calls += more.calls;
        self.duration += more.duration;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
    }
}

/// What waits of one token.
#[derive(Default)]
struct Pending {
    sums: BTreeMap<SumKey, Sum>,
    latest: VecDeque<Call>,
}

impl Pending {
    fn days(&self) -> impl Iterator<Item = DayCalls> {
        self.sums.iter().map(|((day, upstream, tool, outcome), sum)| DayCalls {
            day: *day,
            upstream: upstream.clone(),
            tool: tool.clone(),
            outcome: outcome.clone(),
            calls: sum.calls,
            duration: sum.duration,
            bytes_in: sum.bytes_in,
            bytes_out: sum.bytes_out,
        })
    }
}

/// What waits of all tokens.
#[derive(Default)]
struct Waiting {
    tokens: HashMap<Uuid, Pending>,
    sums: usize,
    single: usize,
    /// Calls that found no place.
    lost: u64,
}

impl Waiting {
    fn add(&mut self, pat_id: Uuid, mut calls: DayCalls) {
        let full = self.sums >= MAX_SUMS;
        // Not by `entry`: a token for which there is no room must not leave an empty place behind.
        let held = self.tokens.get(&pat_id).map_or(0, |pending| pending.sums.len());
        if full && held == 0 {
            self.lost += calls.calls;
            return;
        }
        let pending = self.tokens.entry(pat_id).or_default();
        let key =
            |calls: &DayCalls| (calls.day, calls.upstream.clone(), calls.tool.clone(), calls.outcome.clone());
        let mut named = key(&calls);
        if held >= MAX_SUMS_OF_TOKEN && !pending.sums.contains_key(&named) {
            OTHER_TOOL.clone_into(&mut calls.tool);
            named = key(&calls);
        }
        match pending.sums.get_mut(&named) {
            Some(sum) => sum.add(&calls),
            None if full => self.lost += calls.calls,
            None => {
                pending.sums.entry(named).or_default().add(&calls);
                self.sums += 1;
            }
        }
    }

    fn keep(&mut self, pat_id: Uuid, call: Call) {
        // Its sum is there already, if there was any room for the token at all.
        let Some(pending) = self.tokens.get_mut(&pat_id) else {
            return;
        };
        if pending.latest.len() >= LATEST_CALLS || self.single >= MAX_SINGLE {
            if pending.latest.pop_front().is_none() {
                return;
            }
            self.single -= 1;
        }
        pending.latest.push_back(call);
        self.single += 1;
    }

    /// Takes back what a store did not take: older than what has come since.
    fn take_back(&mut self, note: TokenCalls) {
        for calls in note.days {
            self.add(note.pat_id, calls);
        }
        let Some(pending) = self.tokens.get_mut(&note.pat_id) else {
            return;
        };
        for call in note.latest.into_iter().rev() {
            if pending.latest.len() >= LATEST_CALLS || self.single >= MAX_SINGLE {
                return;
            }
            pending.latest.push_front(call);
            self.single += 1;
        }
    }
}

#[derive(Default)]
pub(crate) struct CallLog {
    waiting: Mutex<Waiting>,
    /// A flush writes, and who looks reads: what a flush has in its hands is neither here nor
    /// surely in the store.
    flushing: RwLock<()>,
    /// Before which day all is forgotten.
    forgotten: Mutex<Option<Date>>,
}

impl Authority {
    /// Notes a call that a token has made. Quick, and never waits.
    pub fn note_call(&self, pat_id: Uuid, call: Call) {
        // A store keeps whole microseconds.
        let at = Timestamp::from_microsecond(call.at.as_microsecond()).unwrap_or(call.at);
        let duration = Duration::from_micros(u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX));
        let call = Call { at, duration, ..call };
        let sum = DayCalls {
            day: day_of(call.at),
            upstream: call.upstream.clone(),
            tool: call.tool.clone(),
            outcome: call.outcome.clone(),
            calls: 1,
            duration,
            bytes_in: call.bytes_in,
            bytes_out: call.bytes_out,
        };
        let mut waiting = self.calls.waiting.lock();
        waiting.add(pat_id, sum);
        waiting.keep(pat_id, call);
    }

    /// What one of the caller's tokens has done in the last [`ACTIVITY_DAYS`] days. A token may
    /// always ask for its own; others need `tokens`. What other nodes have noted and not written
    /// down yet is missing.
    pub async fn activity(&self, by: &Principal, which: PatRef) -> Result<Activity, AuthorityError> {
        let pat = self.get(by, which).await?;
        let today = day_of(self.clock.now());
        let since = first_of(today, ACTIVITY_DAYS);
        let _no_flush = self.calls.flushing.read().await;
        let origin = self.latest_origin(pat.pat_id);
        let mut kept = self.store.activity(pat.pat_id, since).await?;
        if let Some(recent) = origin {
            kept.address = recent.address.or(kept.address);
            kept.user_agent = recent.user_agent.or(kept.user_agent);
            for used in recent.networks {
                match kept.networks.iter_mut().find(|known| known.network == used.network) {
                    Some(known) => *known = known.and(&used),
                    None => kept.networks.push(used),
                }
            }
            kept.networks.sort_by_key(|used| std::cmp::Reverse(used.last_used_at));
            kept.networks.truncate(KEPT_NETWORKS);
        }
        if let Some(pending) = self.calls.waiting.lock().tokens.get(&pat.pat_id) {
            kept.days.extend(pending.days().filter(|calls| calls.day >= since));
            let recent = pending.latest.iter().filter(|call| day_of(call.at) >= since);
            // The newest come first, and of the same time those that came last.
            kept.latest.splice(..0, recent.rev().cloned());
            kept.latest.sort_by_key(|call| std::cmp::Reverse(call.at));
            kept.latest.truncate(LATEST_CALLS);
        }
        Ok(Activity {
            pat,
            address: kept.address,
            user_agent: kept.user_agent,
            networks: kept.networks,
            since,
            today,
            days: by_tool(kept.days),
            latest: kept.latest,
        })
    }

    /// Writes down what waits. What the store does not take waits on. If it took something and its
    /// answer was lost, that is counted twice: these are no accounts.
    pub async fn flush_calls(&self) {
        let _alone = self.calls.flushing.write().await;
        let taken = std::mem::take(&mut *self.calls.waiting.lock());
        if taken.lost > 0 {
            tracing::warn!(calls = taken.lost, "too many calls are waiting to be written; some were dropped");
            metrics::counter!("trustrelay_activity_lost_total").increment(taken.lost);
        }
        let mut notes: Vec<TokenCalls> = taken
            .tokens
            .into_iter()
            .map(|(pat_id, pending)| TokenCalls {
                pat_id,
                days: pending.days().collect(),
                latest: pending.latest.into(),
            })
            .collect();
        // In the same order on every node: they meet in the same rows without a deadlock.
        notes.sort_by_key(|note| note.pat_id);
        while !notes.is_empty() {
            let batch: Vec<_> = notes.drain(..batch(&notes)).collect();
            if let Err(error) = self.store.record_calls(&batch).await {
                tracing::warn!(%error, tokens = batch.len(), "could not write tool calls; keeping them for the next attempt");
                let mut waiting = self.calls.waiting.lock();
                batch.into_iter().for_each(|note| waiting.take_back(note));
            }
        }
        self.forget_calls().await;
    }

    /// Forgets what is too old, once a day; in several steps, if that is much.
    async fn forget_calls(&self) {
        let before = first_of(day_of(self.clock.now()), KEPT_DAYS);
        if *self.calls.forgotten.lock() >= Some(before) {
            return;
        }
        match self.store.forget_calls(before, FORGET).await {
            // Less than it might have been: that was all.
            Ok(gone) if gone < FORGET => *self.calls.forgotten.lock() = Some(before),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not delete old tool calls; trying again later"),
        }
    }
}

/// How many notes go into one write: at least one.
fn batch(notes: &[TokenCalls]) -> usize {
    let mut rows = 0;
    let fits = |note: &&TokenCalls| {
        rows += note.days.len() + note.latest.len();
        rows <= BATCH
    };
    notes.iter().take_while(fits).count().max(1)
}

/// Puts the outcomes of a day and tool together.
fn by_tool(calls: Vec<DayCalls>) -> Vec<ToolDay> {
    let mut days: BTreeMap<_, ToolDay> = BTreeMap::new();
    for calls in calls {
        let key = (std::cmp::Reverse(calls.day), calls.upstream.clone(), calls.tool.clone());
        let day = days.entry(key).or_insert_with(|| ToolDay {
            day: calls.day,
            upstream: calls.upstream,
            tool: calls.tool,
            outcomes: BTreeMap::new(),
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        });
        *day.outcomes.entry(calls.outcome).or_default() += calls.calls;
        day.duration += calls.duration;
        day.bytes_in += calls.bytes_in;
        day.bytes_out += calls.bytes_out;
    }
    days.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(tool: &str) -> DayCalls {
        DayCalls {
            day: day_of(Timestamp::UNIX_EPOCH),
            upstream: "github".into(),
            tool: tool.into(),
            outcome: "ok".into(),
            calls: 1,
            duration: Duration::from_micros(3),
            bytes_in: 1,
            bytes_out: 2,
        }
    }

    fn call(second: i64) -> Call {
        Call {
            at: Timestamp::from_second(second).expect("in range"),
            upstream: "github".into(),
            tool: "search".into(),
            outcome: "ok".into(),
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    #[test]
    fn a_token_that_calls_ever_new_names_is_counted_in_full_and_bounded() {
        let mut waiting = Waiting::default();
        for n in 0..10_000 {
            waiting.add(Uuid::nil(), sum(&format!("tool-{n}")));
        }
        waiting.add(Uuid::nil(), sum("tool-0"));
        let days: Vec<_> = waiting.tokens[&Uuid::nil()].days().collect();
        assert_eq!(days.len(), MAX_SUMS_OF_TOKEN + 1);
        assert_eq!(waiting.sums, days.len());
        assert_eq!(days.iter().map(|calls| calls.calls).sum::<u64>(), 10_001);
        let calls_of = |tool: &str| days.iter().find(|calls| calls.tool == tool).map(|calls| calls.calls);
        assert_eq!(calls_of(OTHER_TOOL), Some(10_000 - MAX_SUMS_OF_TOKEN as u64));
        assert_eq!(calls_of("tool-0"), Some(2), "what has its place keeps it");
    }

    #[test]
    fn past_the_bound_what_is_there_is_counted_on_and_the_rest_is_told() {
        let mut waiting = Waiting::default();
        for n in 0..MAX_SUMS + 5 {
            waiting.add(Uuid::from_u128(n as u128), sum("search"));
            waiting.keep(Uuid::from_u128(n as u128), call(1));
        }
        assert_eq!((waiting.sums, waiting.lost), (MAX_SUMS, 5));
        assert_eq!((waiting.tokens.len(), waiting.single), (MAX_SUMS, MAX_SINGLE));
        waiting.add(Uuid::nil(), sum("search"));
        waiting.keep(Uuid::nil(), call(2));
        let first = &waiting.tokens[&Uuid::nil()];
        assert_eq!(first.days().next().expect("there").calls, 2);
        assert_eq!(first.latest, [call(2)], "its own oldest makes room");
        waiting.add(Uuid::nil(), sum("another"));
        assert_eq!((waiting.sums, waiting.lost, waiting.single), (MAX_SUMS, 6, MAX_SINGLE));
    }

    #[test]
    fn what_is_taken_back_is_older_than_what_has_come_since() {
        let mut waiting = Waiting::default();
        let id = Uuid::nil();
        for second in 90..100 {
            waiting.add(id, sum("search"));
            waiting.keep(id, call(second));
        }
        let latest = (0..90).chain(0..5).map(call).collect();
        waiting.take_back(TokenCalls { pat_id: id, days: vec![sum("search")], latest });
        let pending = &waiting.tokens[&id];
        assert_eq!(pending.days().next().expect("there").calls, 11);
        let seconds: Vec<_> = pending.latest.iter().map(|call| call.at.as_second()).collect();
        let newest_taken_back = (5..90).chain(0..5);
        assert_eq!(seconds, newest_taken_back.chain(90..100).collect::<Vec<_>>());
        assert_eq!((waiting.single, waiting.sums), (LATEST_CALLS, 1));
    }

    #[test]
    fn a_write_takes_few_tokens_or_one_large_one() {
        let note = |sums: usize| TokenCalls {
            pat_id: Uuid::nil(),
            days: vec![sum("search"); sums],
            latest: Vec::new(),
        };
        assert_eq!(batch(&[note(BATCH + 1), note(1)]), 1);
        assert_eq!(batch(&[note(BATCH - 1), note(1), note(1)]), 2);
        assert_eq!(batch(&[note(1)]), 1);
    }

    #[test]
    fn a_day_is_utc_s() {
        let at = |text: &str| day_of(text.parse().expect("a time")).to_string();
        assert_eq!(at("2026-04-06T23:59:59.999999Z"), "2026-04-06");
        assert_eq!(at("2026-04-07T00:00:00Z"), "2026-04-07");
        assert_eq!(
            first_of(day_of("2026-04-07T00:00:00Z".parse().expect("a time")), 30).to_string(),
            "2026-03-09"
        );
    }
}
