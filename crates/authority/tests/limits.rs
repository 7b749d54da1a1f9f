//! Stories of what tokens are held to: from where they are used, how often, and that they are used
//! at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use support::{World, new};
use trustrelay_authority::*;
use trustrelay_token::{Denied, Principal};

const HOME: &str = "10.1.2.3";
const AWAY: &str = "203.0.113.9";
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

fn asked(networks: &[&str], requests_per_minute: Option<i64>, unused_days: Option<i64>) -> AskedLimits {
    AskedLimits {
        networks: networks.iter().map(|text| (*text).to_owned()).collect(),
        requests_per_minute,
        unused_days,
    }
}

fn held(scope: &str, limits: AskedLimits) -> NewPat {
    NewPat { limits: limits.read().expect("limits"), ..new(scope) }
}

async fn issued(world: &World, new: NewPat) -> (Issued, Arc<Principal>) {
    let issued = world.authority.issue(&world.browser().await, new).await.expect("issued");
    let principal = world.verify(&issued.token).await.expect("good");
    (issued, principal)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

fn refused(error: AuthorityError, field: &str, says: &str) {
    let AuthorityError::Invalid { field: named, message } = error else { panic!("{error}") };
    assert!(named == field && message.contains(field) && message.contains(says), "{named}: {message}");
}

/// What the audit log says was done, or refused.
async fn told(world: &World, action: &str) -> Vec<AuditEntry> {
    world.authority.flush_refusals(true).await;
    let records = world.store.audit_after(0, 1000).await.expect("asks");
    let entries = records.iter().map(|record| AuditEntry::from_bytes(&record.entry).expect("reads"));
    entries.filter(|entry| entry.action == action).collect()
}

#[tokio::test]
async fn a_token_without_limits_is_held_to_nothing() {
    let world = World::new().await;
    let (issued, principal) = issued(&world, new("mcp")).await;
    assert_eq!(issued.record.limits, None);
    for from in [address(AWAY), None] {
        assert_eq!(world.authority.hold_to_limits(&principal, from, true), Ok(None));
    }
}

#[tokio::test]
async fn a_token_is_used_from_its_networks_alone() {
    let world = World::new().await;
    let (_, principal) =
        issued(&world, held("mcp", asked(&["10.0.0.0/8", "2001:db8::/32"], None, None))).await;
    let hold = |from, is_known| world.authority.hold_to_limits(&principal, from, is_known);
    for from in [HOME, "::ffff:10.1.2.3", "2001:db8::1"] {
        assert_eq!(hold(address(from), true), Ok(None), "{from}");
    }
    assert_eq!(hold(address(AWAY), true), Err(OffLimits::Network { from: address(AWAY) }));
    // A proxy in the right network does not say who is behind it.
    assert_eq!(hold(address(HOME), false), Err(OffLimits::Network { from: None }));
    assert_eq!(hold(None, true), Err(OffLimits::Network { from: None }));
    let refusals = told(&world, "refused.network").await;
    assert_eq!(refusals.iter().filter(|refusal| refusal.actor.address == address(AWAY)).count(), 1);
    assert!(refusals.iter().all(|refusal| refusal.pat_id == principal.pat_id()), "{refusals:?}");
}

#[tokio::test]
async fn a_token_makes_as_many_requests_as_it_may_and_then_one_by_one() {
    let world = World::new().await;
    let (_, principal) = issued(&world, held("mcp", asked(&[], Some(3), None))).await;
    let hold = || world.authority.hold_to_limits(&principal, None, true);
    for left in [2, 1, 0] {
        assert_eq!(hold().expect("allowed").map(|allowance| allowance.left), Some(left));
    }
    let Err(OffLimits::Rate { allowance }) = hold() else { panic!("one too many") };
    assert_eq!((allowance.left, allowance.seconds()), (0, 20));
    world.clock.advance(Duration::from_secs(20));
    assert!(hold().is_ok());
    assert!(hold().is_err());
    // Another token of the same account has its own.
    let (_, other) = issued(&world, held("mcp", asked(&[], Some(3), None))).await;
    assert!(world.authority.hold_to_limits(&other, None, true).is_ok());
    let refusals = told(&world, "refused.rate").await;
    assert_eq!(refusals.len(), 1, "added up: {refusals:?}");
    assert_eq!(refusals[0].details.get("count").map(String::as_str), Some("2"));
}

#[tokio::test]
async fn who_asks_from_elsewhere_uses_nothing_up() {
    let world = World::new().await;
    let (_, principal) = issued(&world, held("mcp", asked(&["10.0.0.0/8"], Some(1), None))).await;
    for _ in 0..3 {
        assert!(world.authority.hold_to_limits(&principal, address(AWAY), true).is_err());
    }
    assert!(world.authority.hold_to_limits(&principal, address(HOME), true).is_ok());
}

#[tokio::test]
async fn limits_that_are_none_are_refused_by_their_field() {
    for (wrong, field, says) in [
        (asked(&["10.1.2.3/8"], None, None), "allowed_networks", "use 10.0.0.0/8 for the range"),
        (asked(&["10.0.0.0/8", "office"], None, None), "allowed_networks", "not an IP range"),
        (asked(&[], Some(0), None), "requests_per_minute", "from 1 to 1000000"),
        (asked(&[], Some(-1), None), "requests_per_minute", "from 1 to 1000000"),
        (asked(&[], Some(1_000_001), None), "requests_per_minute", "from 1 to 1000000"),
        (asked(&[], Some(i64::MAX), None), "requests_per_minute", "from 1 to 1000000"),
        (asked(&[], None, Some(0)), "expires_if_unused_days", "from 1 to 365"),
        (asked(&[], None, Some(366)), "expires_if_unused_days", "from 1 to 365"),
    ] {
        refused(wrong.read().expect_err(says), field, says);
    }
    let world = World::new().await;
    let many: Vec<String> = (0..17).map(|last| format!("192.0.2.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let new = held("mcp", asked(&many, None, None));
    refused(
        world.authority.issue(&world.browser().await, new).await.expect_err("17"),
        "allowed_networks",
        "at most 16",
    );
    // The same one twice is one.
    let (issued, _) = issued(&world, held("mcp", asked(&["10.0.0.0/8"; 20], None, None))).await;
    assert_eq!(issued.record.limits.expect("limits").networks.len(), 1);
}

#[tokio::test]
async fn a_child_is_held_to_its_parents_limits_at_least() {
    let world = World::new().await;
    let (_, parent) = issued(&world, held("mcp tokens", asked(&["10.0.0.0/8"], Some(60), Some(30)))).await;
    let by = By::new(parent.clone(), address(HOME));
    let same = world.authority.issue(&by, new("mcp")).await.expect("inherits");
    assert_eq!(same.record.limits, parent.limits);
    let narrower = asked(&["10.1.0.0/16"], Some(6), Some(3));
    let child = world.authority.issue(&by, held("mcp", narrower.clone())).await.expect("narrower");
    assert_eq!(child.record.limits, narrower.read().expect("limits").shared());
    for (wider, field, says) in [
        (asked(&["10.0.0.0/7"], None, None), "allowed_networks", "10.0.0.0/7 is not within 10.0.0.0/8"),
        (asked(&["10.1.0.0/16", "192.0.2.0/24"], None, None), "allowed_networks", "192.0.2.0/24"),
        (asked(&[], Some(61), None), "requests_per_minute", "at most 60"),
        (asked(&[], None, Some(31)), "expires_if_unused_days", "at most 30"),
    ] {
        refused(world.authority.issue(&by, held("mcp", wider)).await.expect_err(says), field, says);
    }
}

#[tokio::test]
async fn a_token_that_nobody_uses_ends_and_what_is_used_does_not() {
    let world = World::new().await;
    let (never, _) = issued(&world, held("mcp", asked(&[], None, Some(30)))).await;
    let (used, principal) = issued(&world, held("mcp", asked(&[], None, Some(30)))).await;
    let (free, _) = issued(&world, new("mcp")).await;
    world.clock.advance(DAY * 30 + HOUR - Duration::from_secs(1));
    assert_eq!(world.authority.end_unused().await.expect("looks"), 0);
    // Noted a moment ago, and not written down yet.
    world.authority.note_use(&principal, address(HOME), None);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.authority.end_unused().await.expect("looks"), 1);
    assert!(matches!(world.verify(&never.token).await, Err(Denied::Revoked(_))));
    for token in [&used.token, &free.token] {
        assert!(world.verify(token).await.is_ok());
    }
    let entries = told(&world, "token.unused").await;
    let [entry] = entries.as_slice() else { panic!("one: {entries:?}") };
    assert_eq!((entry.pat_id, entry.user_id), (Some(never.record.pat_id), Some(never.record.user_id)));
    assert_eq!(entry.actor, Actor::SYSTEM);
    assert_eq!(world.authority.end_unused().await.expect("looks"), 0, "it ends once");
    let page = world.authority.notices(&world.browser().await.principal, Whose::Own, None, 100).await;
    let notices: Vec<_> = page.expect("lists").into_iter().map(|told| told.notice).collect();
    let [notice] = notices.as_slice() else { panic!("its owner is told once: {notices:?}") };
    assert_eq!((notice.kind, notice.facts.unused_days), (NoticeKind::UnusedEnded, Some(30)));
}

#[tokio::test]
async fn many_unused_tokens_all_end() {
    let world = World::new().await;
    for _ in 0..120 {
        issued(&world, held("mcp", asked(&[], None, Some(1)))).await;
    }
    world.clock.advance(DAY * 2);
    assert_eq!(world.authority.end_unused().await.expect("looks"), 120);
}

#[tokio::test]
async fn a_node_looks_for_unused_tokens_by_itself() {
    let config = AuthorityConfig { unused_sweep: Duration::from_millis(5), ..support::config() };
    let world = World::with(config).await;
    let (unused, _) = issued(&world, held("mcp", asked(&[], None, Some(1)))).await;
    world.clock.advance(DAY * 2);
    let ended = async {
        while world.store.pat_by_id(unused.record.pat_id).await.unwrap().unwrap().revoked_at.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, ended).await.expect("it ends");
}
