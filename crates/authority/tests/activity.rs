//! Stories of what a token has called: noted at once, written down in batches, shown to its owner.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use support::{EMAIL, PASSWORD, World, config, until};
use trustrelay_authority::*;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn call(world: &World, tool: &str, outcome: &'static str) -> Call {
    Call {
        // Finer than a store keeps it, as is how long it took.
        at: world.clock.now().checked_add(Duration::from_nanos(999)).expect("in range"),
        upstream: "github".into(),
        tool: tool.into(),
        outcome: outcome.into(),
        duration: Duration::from_nanos(1_500_999),
        bytes_in: 10,
        bytes_out: 100,
    }
}

async fn activity(world: &World, pat_id: Uuid) -> Activity {
    let browser = world.browser().await;
    world.authority.activity(&browser, PatRef::Id(pat_id)).await.expect("hers")
}

#[tokio::test]
async fn calls_are_seen_at_once_and_stay_the_same_when_they_are_written_down() {
    let world = World::new().await;
    let pat_id = world.token("mcp").await.record.pat_id;
    let empty = activity(&world, pat_id).await;
    assert_eq!((empty.days.len(), empty.latest.len()), (0, 0));
    assert_eq!(
        (empty.since.to_string(), empty.today.to_string()),
        ("2026-03-09".into(), "2026-04-07".into())
    );

    for (tool, outcome) in [("search", "ok"), ("search", "ok"), ("search", "error"), ("echo", "cut")] {
        world.authority.note_call(pat_id, call(&world, tool, outcome));
        world.clock.advance(Duration::from_secs(1));
    }
    let noted = activity(&world, pat_id).await;
    let tools: Vec<_> = noted.days.iter().map(|day| (day.tool.as_str(), day.calls(), day.failed())).collect();
    assert_eq!(tools, [("echo", 1, 1), ("search", 3, 1)]);
    let search = &noted.days[1];
    assert_eq!(search.outcomes.get("ok"), Some(&2));
    assert_eq!((search.duration, search.bytes_in, search.bytes_out), (Duration::from_micros(4500), 30, 300));
    let latest: Vec<_> = noted.latest.iter().map(|call| (call.tool.as_str(), &*call.outcome)).collect();
    assert_eq!(latest, [("echo", "cut"), ("search", "error"), ("search", "ok"), ("search", "ok")]);

    assert_eq!(noted.latest[0].at, world.clock.now().checked_sub(Duration::from_secs(1)).expect("in range"));

    world.authority.flush_calls().await;
    assert_eq!(activity(&world, pat_id).await, noted);
    let stored = world.store.activity(pat_id, noted.since).await.expect("asks");
    assert_eq!(stored.latest, noted.latest, "they are in the store now");
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    let later = activity(&world, pat_id).await;
    assert_eq!((later.days[1].calls(), later.latest.len()), (4, 5), "the store's and the noted ones are one");
}

#[tokio::test]
async fn what_the_store_did_not_take_waits_on() {
    let world = World::new().await;
    let pat_id = world.token("mcp").await.record.pat_id;
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    world.store.broken.store(true, Ordering::SeqCst);
    world.authority.flush_calls().await;
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    world.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(activity(&world, pat_id).await.days[0].calls(), 2);
    world.authority.flush_calls().await;
    world.authority.flush_calls().await;
    let stored = world.store.activity(pat_id, activity(&world, pat_id).await.since).await.expect("asks");
    assert_eq!((stored.days[0].calls, stored.latest.len()), (2, 2), "once each");
}

#[tokio::test]
async fn who_looks_while_calls_are_written_down_counts_none_of_them_twice_or_not_at_all() {
    let world = World::new().await;
    let pat_id = world.token("mcp").await.record.pat_id;
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    world.store.before_calls.close();
    let authority = world.authority.clone();
    let flush = tokio::spawn(async move { authority.flush_calls().await });
    until("the flush has taken what was noted", || world.store.before_calls.held() == 1).await;
    // Noting does not wait for it.
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    let (authority, browser) = (world.authority.clone(), world.browser().await);
    let looking = tokio::spawn(async move { authority.activity(&browser, PatRef::Id(pat_id)).await });
    world.store.before_calls.open();
    flush.await.expect("joins");
    assert_eq!(looking.await.expect("joins").expect("hers").days[0].calls(), 2);
}

#[tokio::test]
async fn calls_are_written_down_by_themselves_and_at_the_end() {
    let world = World::with(AuthorityConfig { usage_flush: Duration::from_millis(5), ..config() }).await;
    let pat_id = world.token("mcp").await.record.pat_id;
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    let since = activity(&world, pat_id).await.since;
    let written = async || world.store.activity(pat_id, since).await.expect("asks").latest.len();
    let by_itself = async {
        while written().await < 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, by_itself).await.expect("written down by itself");

    let world = World::with(AuthorityConfig { usage_flush: DAY, ..config() }).await;
    let pat_id = world.token("mcp").await.record.pat_id;
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    world.authority.stop().await;
    let stored = world.store.activity(pat_id, since).await.expect("asks");
    assert_eq!(stored.latest.len(), 1, "a stop writes the rest down");
}

#[tokio::test]
async fn thirty_days_are_shown_and_what_is_older_is_forgotten() {
    let world = World::new().await;
    let pat_id = world.token("mcp").await.record.pat_id;
    let first = activity(&world, pat_id).await.today;
    world.authority.note_call(pat_id, call(&world, "search", "ok"));
    world.clock.advance(DAY * 29);
    assert_eq!(activity(&world, pat_id).await.days.len(), 1, "the thirtieth day shows the first");
    world.clock.advance(DAY);
    let gone = activity(&world, pat_id).await;
    assert_eq!((gone.days.len(), gone.latest.len()), (0, 0), "noted, and too old");
    world.authority.flush_calls().await;
    assert_eq!(
        world.store.activity(pat_id, first).await.expect("asks").days.len(),
        1,
        "kept a little longer"
    );
    world.clock.advance(DAY * 5);
    world.authority.flush_calls().await;
    let stored = world.store.activity(pat_id, first).await.expect("asks");
    assert_eq!((stored.days.len(), stored.latest.len()), (0, 0));
}

#[tokio::test]
async fn where_a_token_was_last_used_from_is_seen_before_and_after_it_is_written_down() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let pat_id = issued.record.pat_id;
    assert_eq!(activity(&world, pat_id).await.address, None);
    let principal = world.verify(&issued.token).await.expect("good");
    let address = "192.0.2.7".parse().expect("an address");
    world.authority.note_use(&principal, Some(address), Some("agent/1"));
    for _ in 0..2 {
        let seen = activity(&world, pat_id).await;
        assert_eq!((seen.address, seen.user_agent.as_deref()), (Some(address), Some("agent/1")));
        assert_eq!(seen.pat.last_used_at, Some(world.clock.now()));
        world.authority.flush_usage().await;
    }
}

#[tokio::test]
async fn no_network_that_a_token_is_used_from_hides_behind_a_busier_one() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let pat_id = issued.record.pat_id;
    let principal = world.verify(&issued.token).await.expect("good");
    let begun = world.clock.now();
    let uses = |address: &str| {
        // Of two in a row, the first is the first.
        world.authority.note_use(&principal, Some(address.parse().expect("an address")), Some("agent/1"));
        world.clock.advance(Duration::from_secs(1));
        world.authority.note_use(&principal, Some(address.parse().expect("an address")), Some("agent/1"));
        world.clock.advance(Duration::from_secs(59));
    };
    for address in ["192.0.2.7", "192.0.2.8", "2001:db8:1:2::3", "192.0.2.7"] {
        uses(address);
    }
    // Where that is not known is no network.
    world.authority.note_use(&principal, None, None);
    let minutes = |minutes: i64| begun + SignedDuration::from_mins(minutes);
    let second = SignedDuration::from_secs(1);
    for _ in 0..2 {
        let seen = activity(&world, pat_id).await.networks;
        let seen: Vec<_> = seen
            .iter()
            .map(|used| (used.network.to_string(), used.first_used_at, used.last_used_at))
            .collect();
        let expected = [
            ("192.0.2.0/24".to_owned(), minutes(0), minutes(3) + second),
            ("2001:db8:1::/48".to_owned(), minutes(2), minutes(2) + second),
        ];
        assert_eq!(seen, expected);
        world.authority.flush_usage().await;
    }
    // What came since is put to what was written down.
    uses("2001:db8:1:2::4");
    let seen = activity(&world, pat_id).await.networks;
    assert_eq!(seen[0].network.to_string(), "2001:db8:1::/48");
    assert_eq!((seen[0].first_used_at, seen[0].last_used_at), (minutes(2), minutes(4) + second));
}

#[tokio::test]
async fn a_token_is_shown_to_its_owner_to_itself_and_to_one_that_manages_tokens() {
    let world = World::new().await;
    let (one, other) = (world.token("mcp").await, world.token("mcp api").await);
    let managing = world.token("tokens").await;
    let (authority, one_id) = (&world.authority, one.record.pat_id);
    authority.note_call(one_id, call(&world, "search", "ok"));
    let itself = world.verify(&one.token).await.expect("good");
    for which in [PatRef::Own, PatRef::Id(one_id)] {
        assert_eq!(authority.activity(&itself, which).await.expect("its own").latest.len(), 1);
    }
    let managing = world.verify(&managing.token).await.expect("good");
    assert_eq!(authority.activity(&managing, PatRef::Id(one_id)).await.expect("may").latest.len(), 1);
    assert_eq!(authority.activity(&managing, PatRef::Own).await.expect("its own").latest.len(), 0);

    let other = world.verify(&other.token).await.expect("good");
    for which in [PatRef::Id(one_id), PatRef::Id(Uuid::now_v7())] {
        let refused = authority.activity(&other, which).await;
        assert!(matches!(refused, Err(AuthorityError::InsufficientScope { scope }) if scope == "tokens"));
    }
    let browser = world.browser().await;
    let refused = authority.activity(&browser, PatRef::Own).await;
    assert!(matches!(refused, Err(AuthorityError::Invalid { field: "pat_id", .. })), "a browser is no token");

    world.add("eve@example.org").await;
    let (cookie, _) = authority.login("eve@example.org", PASSWORD.into(), None).await.expect("in");
    let eve = authority.authenticate_session(cookie.expose()).await.expect("asks").expect("stands");
    for id in [one_id, Uuid::now_v7()] {
        assert!(matches!(authority.activity(&eve, PatRef::Id(id)).await, Err(AuthorityError::NotFound(_))));
    }
    assert_ne!(&*eve.email, EMAIL);
}
