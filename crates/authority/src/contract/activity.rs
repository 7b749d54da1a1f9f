//! Stories of what tokens have called.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::civil::{Date, date};
use uuid::Uuid;

use super::kit::{added, at, issued};
use crate::record::{Call, DayCalls, KeptActivity, NetworkUse, PatRecord, TokenCalls, Usage};
use crate::store::{KEPT_NETWORKS, LATEST_CALLS, NETWORK_STEP, OTHER_TOOL, Store, TOOLS_A_DAY};

/// The day on which the stories begin.
const TODAY: Date = date(2026, 4, 7);

fn sum(day: Date, upstream: &str, tool: &str, outcome: &'static str) -> DayCalls {
    DayCalls {
        day,
        upstream: upstream.to_owned(),
        tool: tool.to_owned(),
        outcome: outcome.into(),
        calls: 1,
        duration: Duration::from_micros(1_000_001),
        bytes_in: 10,
        bytes_out: 100,
    }
}

fn call(at: Timestamp, tool: &str) -> Call {
    Call {
        at,
        upstream: "github".to_owned(),
        tool: tool.to_owned(),
        outcome: "upstream_down".into(),
        duration: Duration::from_micros(7),
        bytes_in: 1,
        bytes_out: 5_000_000_000,
    }
}

fn note(pat: &PatRecord, days: &[DayCalls], latest: &[Call]) -> TokenCalls {
    TokenCalls { pat_id: pat.pat_id, days: days.to_vec(), latest: latest.to_vec() }
}

async fn kept(store: &dyn Store, pat: &PatRecord) -> KeptActivity {
    store.activity(pat.pat_id, date(2026, 1, 1)).await.expect("asks")
}

/// Sums by day, upstream, tool and outcome; single calls by time, and those of one time by their
/// coming.
pub async fn calls_read_back_newest_first(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let yesterday = TODAY.yesterday().expect("in range");
    // In the order of their bytes, as which capitals come first.
    let sorted = [
        sum(TODAY, "files", "Zip", "ok"),
        sum(TODAY, "files", "read ✓", "error"),
        sum(TODAY, "files", "read ✓", "ok"),
        sum(TODAY, "github", "search", "ok"),
        sum(yesterday, "files", "Zip", "ok"),
    ];
    let mut days = sorted.clone();
    days.reverse();
    let latest = [call(at(5), "first"), call(at(5), "second"), call(at(4), "early"), call(at(6), "late")];
    store.record_calls(&[note(&pat, &days, &latest[..1])]).await.expect("recorded");
    store.record_calls(&[note(&pat, &[], &latest[1..])]).await.expect("recorded");
    let kept_of_pat = kept(store, &pat).await;
    assert_eq!(kept_of_pat.days, sorted);
    let [first, second, early, late] = latest;
    assert_eq!(kept_of_pat.latest, [late, second, first, early]);
    assert_eq!(kept(store, &other).await, KeptActivity::default(), "of another token nothing is known");
}

/// Whether they come in one note or in several.
pub async fn sums_of_the_same_day_tool_and_outcome_are_added_up(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let good = sum(TODAY, "github", "search", "ok");
    let failed = sum(TODAY, "github", "search", "error");
    let notes =
        [note(&pat, &[good.clone(), failed.clone()], &[]), note(&other, std::slice::from_ref(&good), &[])];
    store.record_calls(&notes).await.expect("recorded");
    let more =
        DayCalls { calls: 41, duration: Duration::from_secs(9), bytes_in: 0, bytes_out: 1, ..good.clone() };
    store.record_calls(&[note(&pat, &[more], &[])]).await.expect("recorded");
    let added_up = DayCalls {
        calls: 42,
        duration: Duration::from_micros(10_000_001),
        bytes_in: 10,
        bytes_out: 101,
        ..good.clone()
    };
    assert_eq!(kept(store, &pat).await.days, [failed, added_up]);
    assert_eq!(kept(store, &other).await.days, [good]);
}

/// Clients choose the names of tools that are not there: they can't fill the store with them.
pub async fn past_the_tools_that_have_a_place_a_day_s_others_are_one(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let tools: Vec<_> =
        (0..TOOLS_A_DAY + 5).map(|n| sum(TODAY, "github", &format!("{n:03}"), "error")).collect();
    store.record_calls(&[note(&pat, &tools, &[])]).await.expect("recorded");
    let late = [
        // One that has its place keeps it, with another outcome too.
        sum(TODAY, "github", "000", "error"),
        sum(TODAY, "github", "001", "ok"),
        // The same name at another upstream is another tool.
        sum(TODAY, "files", "000", "ok"),
        // Another day has places of its own.
        sum(TODAY.tomorrow().expect("in range"), "github", "new", "ok"),
    ];
    store.record_calls(&[note(&pat, &late, &[]), note(&other, &late[2..3], &[])]).await.expect("recorded");
    let days = kept(store, &pat).await.days;
    let calls_of = |upstream: &str, tool: &str| {
        let named = days.iter().filter(|calls| calls.upstream == upstream && calls.tool == tool);
        named.map(|calls| calls.calls).sum::<u64>()
    };
    assert_eq!(calls_of("github", OTHER_TOOL), 5);
    assert_eq!(calls_of("files", OTHER_TOOL), 1);
    assert_eq!((calls_of("github", "000"), calls_of("github", "001")), (2, 2));
    assert_eq!(calls_of("github", "new"), 1);
    assert_eq!(
        days.len(),
        TOOLS_A_DAY + 4,
        "one more for another outcome, one for another day, two for the rest"
    );
    assert_eq!(kept(store, &other).await.days, [late[2].clone()], "another token has places of its own");
}

/// However many come, and in whatever order.
pub async fn of_the_single_calls_the_newest_stay(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let latest: Vec<_> = (0..LATEST_CALLS as i64).map(|micros| call(at(micros), "search")).collect();
    let old = call(at(-1), "old");
    store.record_calls(&[note(&other, &[], std::slice::from_ref(&old))]).await.expect("recorded");
    store.record_calls(&[note(&pat, &[], &latest)]).await.expect("recorded");
    store.record_calls(&[note(&pat, &[], std::slice::from_ref(&old))]).await.expect("recorded");
    let mut expected: Vec<_> = latest.into_iter().rev().collect();
    assert_eq!(kept(store, &pat).await.latest, expected, "what is older than all of them is not kept");
    let same = call(at(0), "at the same time");
    store.record_calls(&[note(&pat, &[], std::slice::from_ref(&same))]).await.expect("recorded");
    expected[LATEST_CALLS - 1] = same;
    assert_eq!(kept(store, &pat).await.latest, expected, "of the same time, what came later");
    let new = call(at(1000), "new");
    store.record_calls(&[note(&pat, &[], std::slice::from_ref(&new))]).await.expect("recorded");
    expected.insert(0, new);
    expected.truncate(LATEST_CALLS);
    assert_eq!(kept(store, &pat).await.latest, expected);
    assert_eq!(kept(store, &other).await.latest, [old]);
}

/// To the microsecond.
pub async fn who_looks_from_a_day_on_sees_nothing_earlier(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let yesterday = TODAY.yesterday().expect("in range");
    let midnight: Timestamp = "2026-04-07T00:00:00Z".parse().expect("a time");
    let before = midnight.checked_sub(Duration::from_micros(1)).expect("in range");
    let days = [sum(TODAY, "github", "search", "ok"), sum(yesterday, "github", "search", "ok")];
    let latest = [call(before, "before"), call(midnight, "at midnight")];
    store.record_calls(&[note(&pat, &days, &latest)]).await.expect("recorded");
    let seen = store.activity(pat.pat_id, TODAY).await.expect("asks");
    assert_eq!((seen.days, seen.latest), (vec![days[0].clone()], vec![latest[1].clone()]));
    let seen = store.activity(pat.pat_id, yesterday).await.expect("asks");
    assert_eq!((seen.days.len(), seen.latest.len()), (2, 2));
    let seen = store.activity(pat.pat_id, TODAY.tomorrow().expect("in range")).await.expect("asks");
    assert_eq!(seen, KeptActivity::default());
}

/// Of whichever token, and in steps.
pub async fn what_is_old_is_forgotten_and_nothing_else(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (one, two) = (issued(store, &ada).await, issued(store, &ada).await);
    let yesterday = TODAY.yesterday().expect("in range");
    let old_sums: Vec<_> = (0..4).map(|n| sum(yesterday, "github", &n.to_string(), "ok")).collect();
    let new_sum = sum(TODAY, "github", "new", "ok");
    let midnight: Timestamp = "2026-04-07T00:00:00Z".parse().expect("a time");
    let old = call(midnight.checked_sub(Duration::from_micros(1)).expect("in range"), "old");
    let new = call(midnight, "new");
    for pat in [&one, &two] {
        let days = [old_sums.as_slice(), std::slice::from_ref(&new_sum)].concat();
        store.record_calls(&[note(pat, &days, &[old.clone(), new.clone()])]).await.expect("recorded");
    }
    assert_eq!(store.forget_calls(yesterday, 100).await.expect("asks"), 0);
    assert_eq!(store.forget_calls(TODAY, 5).await.expect("asks"), 7, "five of eight sums, and both calls");
    assert_eq!(store.forget_calls(TODAY, 5).await.expect("asks"), 3);
    assert_eq!(store.forget_calls(TODAY, 5).await.expect("asks"), 0);
    for pat in [&one, &two] {
        let kept = kept(store, pat).await;
        assert_eq!((kept.days, kept.latest), (vec![new_sum.clone()], vec![new.clone()]));
    }
}

/// The known ones beside them are written down; and nothing is nothing.
pub async fn calls_of_unknown_tokens_are_passed_over(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let unknown = PatRecord { pat_id: Uuid::now_v7(), ..pat.clone() };
    let (days, latest) = ([sum(TODAY, "github", "search", "ok")], [call(at(1), "search")]);
    store.record_calls(&[]).await.expect("recorded");
    let notes = [note(&unknown, &days, &latest), note(&pat, &days, &latest), note(&unknown, &days, &latest)];
    store.record_calls(&notes).await.expect("recorded");
    assert_eq!(kept(store, &unknown).await, KeptActivity::default());
    let kept = kept(store, &pat).await;
    assert_eq!((kept.days.as_slice(), kept.latest.as_slice()), (days.as_slice(), latest.as_slice()));
}

/// Several nodes write at the same time.
pub async fn notes_that_come_at_once_are_all_counted(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let notes: Vec<_> = (0..20)
        .map(|n| [note(&pat, &[sum(TODAY, "github", "search", "ok")], &[call(at(n), "search")])])
        .collect();
    for recorded in join_all(notes.iter().map(|note| store.record_calls(note))).await {
        recorded.expect("recorded");
    }
    let kept = kept(store, &pat).await;
    assert_eq!(kept.days[0].calls, 20);
    let times: Vec<_> = kept.latest.iter().map(|call| call.at).collect();
    assert_eq!(times, (0..20).rev().map(at).collect::<Vec<_>>());
}

/// Some uses come without an address, or without a name.
pub async fn where_a_token_was_last_used_from_is_kept_until_it_is_known_better(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    for (address, user_agent, expected) in [
        (None, None, (None, None)),
        (Some("2001:db8::7"), Some("agent/1 ✓"), (Some("2001:db8::7"), Some("agent/1 ✓"))),
        (None, Some("agent/2"), (Some("2001:db8::7"), Some("agent/2"))),
        (Some("192.0.2.1"), None, (Some("192.0.2.1"), Some("agent/2"))),
    ] {
        let parsed = |address: &str| address.parse().expect("an address");
        let used = Usage {
            pat_id: pat.pat_id,
            last_used_at: at(1),
            address: address.map(parsed),
            user_agent: user_agent.map(str::to_owned),
            count: 1,
            networks: Vec::new(),
        };
        store.record_usage(&[used]).await.expect("recorded");
        let kept = kept(store, &pat).await;
        assert_eq!((kept.address, kept.user_agent.as_deref()), (expected.0.map(parsed), expected.1));
    }
    assert_eq!(kept(store, &other).await, KeptActivity::default());
}

fn from(pat: &PatRecord, networks: &[NetworkUse]) -> Usage {
    Usage {
        pat_id: pat.pat_id,
        last_used_at: at(1),
        address: None,
        user_agent: None,
        count: 1,
        networks: networks.to_vec(),
    }
}

fn used(network: &str, first: Timestamp, last: Timestamp) -> NetworkUse {
    NetworkUse { network: network.parse().expect("a network"), first_used_at: first, last_used_at: last }
}

/// The first use of each, and the latest to the minute.
pub async fn networks_are_kept_with_their_first_and_last_use(store: &dyn Store) {
    const OFFICE: &str = "192.0.2.0/24";
    const ELSEWHERE: &str = "2001:db8:7::/48";
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let noon: Timestamp = "2026-04-07T12:00:00Z".parse().expect("a time");
    let step = |steps: i32| noon + NETWORK_STEP * steps;
    let short = step(1) - jiff::SignedDuration::from_micros(1);
    for (notes, expected) in [
        (vec![used(OFFICE, noon, noon)], vec![used(OFFICE, noon, noon)]),
        // Too soon to be worth a change; late enough; and what comes late tells of an earlier first
        // use.
        (vec![used(OFFICE, short, short)], vec![used(OFFICE, noon, noon)]),
        (vec![used(OFFICE, noon, step(1))], vec![used(OFFICE, noon, step(1))]),
        (vec![used(OFFICE, step(-9), step(-5))], vec![used(OFFICE, step(-9), step(1))]),
        // Twice in one note, beside another; those of one time by their text.
        (
            vec![
                used(ELSEWHERE, step(2), step(2)),
                used(OFFICE, step(2), step(2)),
                used(ELSEWHERE, step(1), step(4)),
            ],
            vec![used(ELSEWHERE, step(1), step(4)), used(OFFICE, step(-9), step(2))],
        ),
        (
            vec![used(OFFICE, step(4), step(4))],
            vec![used(OFFICE, step(-9), step(4)), used(ELSEWHERE, step(1), step(4))],
        ),
    ] {
        store.record_usage(&[from(&pat, &notes)]).await.expect("recorded");
        assert_eq!(kept(store, &pat).await.networks, expected);
    }
    assert_eq!(kept(store, &other).await.networks, []);
    let gone = PatRecord { pat_id: Uuid::now_v7(), ..pat.clone() };
    store.record_usage(&[from(&gone, &[used(OFFICE, noon, noon)])]).await.expect("passed over");
    assert_eq!(kept(store, &gone).await.networks, []);
}

/// Who goes around the world does not fill the disk.
pub async fn of_a_tokens_networks_the_latest_used_stay(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let noon: Timestamp = "2026-04-07T12:00:00Z".parse().expect("a time");
    let nth = |n: usize| used(&format!("10.0.{n}.0/24"), noon, noon + NETWORK_STEP * n as i32);
    store.record_usage(&[from(&other, &[nth(0)])]).await.expect("recorded");
    let many: Vec<_> = (0..KEPT_NETWORKS + 5).map(nth).collect();
    for half in [&many[..KEPT_NETWORKS], &many[KEPT_NETWORKS..]] {
        store.record_usage(&[from(&pat, half)]).await.expect("recorded");
    }
    let expected: Vec<_> = (5..KEPT_NETWORKS + 5).rev().map(nth).collect();
    assert_eq!(kept(store, &pat).await.networks, expected);
    assert_eq!(kept(store, &other).await.networks, [nth(0)], "another's stay");
}

/// A network that was not used for long is forgotten, as calls are.
pub async fn networks_that_were_not_used_since_are_forgotten(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let midnight: Timestamp = "2026-04-07T00:00:00Z".parse().expect("a time");
    let before = midnight - jiff::SignedDuration::from_micros(1);
    let (old, new) = (used("10.1.0.0/24", before, before), used("10.2.0.0/24", before, midnight));
    store.record_usage(&[from(&pat, &[old, new]), from(&other, &[old])]).await.expect("recorded");
    assert_eq!(store.activity(pat.pat_id, TODAY).await.expect("asks").networks, [new]);
    assert_eq!(store.forget_calls(TODAY, 1).await.expect("forgets"), 1, "no more than asked for");
    assert_eq!(store.forget_calls(TODAY, 9).await.expect("forgets"), 1);
    assert_eq!(store.forget_calls(TODAY, 9).await.expect("forgets"), 0);
    assert_eq!((kept(store, &pat).await.networks, kept(store, &other).await.networks), (vec![new], vec![]));
}
