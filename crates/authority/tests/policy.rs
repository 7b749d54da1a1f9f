//! Stories of the policy: who decides it, what it does to new tokens and to all, and from when on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::{EMAIL, World, new, until};
use trustrelay_authority::*;
use trustrelay_token::{Denied, Principal};

const AWAY: &str = "203.0.113.9";
const HOME: &str = "10.1.2.3";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn asked() -> AskedPolicy {
    AskedPolicy::default()
}

fn networks(networks: &[&str]) -> AskedPolicy {
    AskedPolicy { networks: networks.iter().map(|text| (*text).to_owned()).collect(), ..asked() }
}

fn scopes(scopes: &[&str]) -> AskedPolicy {
    AskedPolicy { allowed_scopes: scopes.iter().map(|text| (*text).to_owned()).collect(), ..asked() }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// Ada, who administers.
async fn administered() -> (World, By) {
    let world = World::new().await;
    world.authority.set_admin(EMAIL, true).await.expect("made one");
    let by = world.browser().await;
    (world, by)
}

fn change(policy: AskedPolicy) -> PolicyChange {
    PolicyChange { policy: policy.read().expect("a policy"), ..PolicyChange::default() }
}

async fn decide(world: &World, by: &By, policy: AskedPolicy) -> PolicyState {
    world.authority.change_policy(by, change(policy)).await.expect("changed")
}

async fn principal(world: &World, scope: &str) -> Arc<Principal> {
    world.verify(&world.token(scope).await.token).await.expect("good")
}

async fn told(world: &World, action: &str) -> Vec<AuditEntry> {
    world.authority.flush_refusals(true).await;
    let records = world.store.audit_after(0, 1000).await.expect("asks");
    let entries = records.iter().map(|record| AuditEntry::from_bytes(&record.entry).expect("reads"));
    entries.filter(|entry| entry.action == action).collect()
}

fn not_allowed(error: AuthorityError, field: &str, says: &str) {
    let AuthorityError::Policy { field: named, message } = error else { panic!("{error:?}") };
    assert!(
        named == field && message.contains("policy") && message.contains(field) && message.contains(says),
        "{named}: {message}"
    );
}

/// In whole days from now.
fn life(world: &World, record: &PatRecord) -> i64 {
    record.expires_at.duration_since(world.clock.now()).as_secs() / (24 * 3600)
}

#[tokio::test]
async fn administrators_decide_and_nobody_else() {
    let (world, ada) = administered().await;
    world.add("eve@example.org").await;
    let (cookie, _) =
        world.authority.login("eve@example.org", support::PASSWORD.into(), None).await.expect("signs in");
    let eve = world.authority.authenticate_session(cookie.expose()).await.expect("asks").expect("stands");
    let eve = By::new(Arc::new(eve), None);
    let refused = world.authority.change_policy(&eve, change(networks(&["10.0.0.0/8"]))).await;
    assert!(matches!(refused, Err(AuthorityError::NotAdministrator)), "{refused:?}");
    assert!(matches!(world.authority.policy(&eve).await, Err(AuthorityError::NotAdministrator)));
    // A token of an administrator's may look with `api:read`, and needs `api` to decide.
    let reads = By::new(principal(&world, "api:read").await, None);
    assert!(world.authority.policy(&reads).await.is_ok());
    let refused = world.authority.change_policy(&reads, change(asked())).await;
    assert!(matches!(refused, Err(AuthorityError::InsufficientScope { .. })), "{refused:?}");
    assert_eq!(told(&world, "policy.changed").await, []);

    let by = By::new(principal(&world, "api").await, address(HOME));
    let asked = AskedPolicy { max_days: Some(90), ..networks(&["10.0.0.0/8"]) };
    let state = decide(&world, &by, asked.clone()).await;
    assert_eq!(world.authority.policy(&ada).await.expect("asks"), state);
    // Again it is no change, and is told once: by whom, what it was and what it is.
    assert_eq!(decide(&world, &ada, asked).await, state);
    let entries = told(&world, "policy.changed").await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.actor.pat_id, entry.actor.address), (by.pat_id(), address(HOME)));
    assert_eq!(entry.details["before"], "{}");
    assert_eq!(entry.details["after"], r#"{"max_days":90,"allowed_networks":["10.0.0.0/8"]}"#);
}

#[tokio::test]
async fn who_has_not_seen_the_latest_policy_does_not_overwrite_it() {
    let (world, ada) = administered().await;
    let seen = world.authority.policy(&ada).await.expect("asks").record.seq;
    let first = PolicyChange { replaces: Some(seen), ..change(networks(&["10.0.0.0/8"])) };
    let state = world.authority.change_policy(&ada, first).await.expect("changed");
    let second = PolicyChange { replaces: Some(seen), ..change(scopes(&["mcp"])) };
    let refused = world.authority.change_policy(&ada, second).await;
    assert!(matches!(refused, Err(AuthorityError::Conflict(_))), "{refused:?}");
    assert_eq!(world.authority.policy(&ada).await.expect("asks"), state);
    let third = PolicyChange { replaces: Some(state.record.seq), ..change(scopes(&["mcp"])) };
    world.authority.change_policy(&ada, third).await.expect("it was seen");
}

#[tokio::test]
async fn a_new_token_lives_as_long_as_the_policy_lets_it_and_an_old_one_as_before() {
    let (world, ada) = administered().await;
    let old = world.token("mcp tokens rotate").await;
    decide(&world, &ada, AskedPolicy { max_days: Some(90), default_days: Some(30), ..asked() }).await;
    let make = |expiry| world.authority.issue(&ada, NewPat { expiry, ..new("mcp") });
    let days = |days| make(Expiry::Days(days));
    let in_days = |days: u32| world.clock.now() + DAY * days;
    assert_eq!(life(&world, &make(Expiry::Default).await.expect("made").record), 30);
    assert_eq!(life(&world, &days(90).await.expect("made").record), 90);
    assert_eq!(life(&world, &make(Expiry::At(in_days(90))).await.expect("made").record), 90);
    not_allowed(days(91).await.expect_err("too long"), "expires_in_days", "1 to 90");
    let second = Duration::from_secs(1);
    let beyond = make(Expiry::At(in_days(90) + second)).await.expect_err("too long");
    not_allowed(beyond, "expires_at", "90 days");
    let wrong = days(0).await.expect_err("no life");
    assert!(matches!(wrong, AuthorityError::Invalid { field: "expires_in_days", .. }), "{wrong:?}");
    // The operator is held to it as well.
    let operator = world.authority.issue_for(EMAIL, NewPat { expiry: Expiry::Days(91), ..new("mcp") });
    not_allowed(operator.await.expect_err("too long"), "expires_in_days", "1 to 90");

    // What there was keeps its life; what is made with it does not.
    let principal = world.verify(&old.token).await.expect("good");
    assert_eq!(life(&world, &old.record), 365);
    let by = By::new(principal, None);
    let child = |expiry| world.authority.issue(&by, NewPat { expiry, ..new("mcp") });
    not_allowed(child(Expiry::Days(91)).await.expect_err("too long"), "expires_in_days", "1 to 90");
    let child = child(Expiry::Default).await.expect("made").record;
    assert_eq!(life(&world, &child), 30);

    // A new secret is a new life: as long as it had, and no longer than the policy allows.
    let rotate = |expiry| {
        let asked = Rotate { overlap: Overlap::For(DAY), expiry, idempotency_key: None };
        world.authority.rotate(&ada, PatRef::Id(old.record.pat_id), asked)
    };
    not_allowed(rotate(Expiry::Days(91)).await.expect_err("too long"), "expires_in_days", "1 to 90");
    assert_eq!(life(&world, &rotate(Expiry::Default).await.expect("rotated").record), 90);
    world.authority.revoke(&ada, PatRef::Id(child.pat_id)).await.expect("revoked");
    assert_eq!(life(&world, &rotate(Expiry::Days(7)).await.expect("rotated").record), 7);
    assert_eq!(life(&world, &rotate(Expiry::Default).await.expect("rotated").record), 7);
}

#[tokio::test]
async fn a_new_token_opens_no_more_than_the_policy_allows_and_an_old_one_what_it_did() {
    let (world, ada) = administered().await;
    let old = world.token("tokens api mcp").await;
    decide(&world, &ada, scopes(&["mcp:github", "api:read"])).await;
    for good in ["mcp:github", "mcp:github/search api:read"] {
        world.authority.issue(&ada, new(good)).await.expect(good);
    }
    for (beyond, named) in
        [("mcp", "`mcp`"), ("api:read api", "`api`"), ("mcp:wiki", "`mcp:wiki`"), ("tokens", "`tokens`")]
    {
        not_allowed(world.authority.issue(&ada, new(beyond)).await.expect_err(beyond), "pat_scope", named);
        let operator = world.authority.issue_for(EMAIL, new(beyond)).await.expect_err(beyond);
        not_allowed(operator, "pat_scope", "mcp:github api:read");
    }
    // What the old one holds it keeps, and hands on no more than the policy allows.
    let by = By::new(world.verify(&old.token).await.expect("good"), None);
    assert_eq!(by.scopes.to_string(), old.record.scopes.to_string());
    not_allowed(world.authority.issue(&by, new("mcp")).await.expect_err("beyond"), "pat_scope", "`mcp`");
    world.authority.issue(&by, new("mcp:github")).await.expect("within both");
    let beyond_parent = By::new(principal_of(&world, &by, "mcp:github").await, None);
    let refused = world.authority.issue(&beyond_parent, new("api:read")).await;
    assert!(matches!(refused, Err(AuthorityError::InsufficientScope { .. })), "{refused:?}");
}

async fn principal_of(world: &World, by: &By, scope: &str) -> Arc<Principal> {
    let issued = world.authority.issue(by, new(scope)).await.expect("issued");
    world.verify(&issued.token).await.expect("good")
}

#[tokio::test]
async fn every_token_is_used_from_the_policy_s_networks_alone_at_once() {
    let (world, ada) = administered().await;
    let free = principal(&world, "mcp").await;
    let own = AskedLimits { networks: vec!["10.1.0.0/16".into(), AWAY.into()], ..AskedLimits::default() };
    let held = NewPat { limits: own.read().expect("limits"), ..new("mcp") };
    let held = world.authority.issue(&ada, held).await.expect("issued");
    let held = world.verify(&held.token).await.expect("good");
    let hold = |by: &Arc<Principal>, from| world.authority.hold_to_limits(by, from, true);
    assert_eq!(hold(&free, address(AWAY)), Ok(None));

    decide(&world, &ada, networks(&["10.0.0.0/8", "2001:db8::/32"])).await;
    for from in [HOME, "2001:db8::1", "::ffff:10.1.2.3"] {
        assert_eq!(hold(&free, address(from)), Ok(None), "{from}");
    }
    let refused = hold(&free, address(AWAY)).expect_err("from elsewhere");
    assert_eq!(refused, OffLimits::Policy { from: address(AWAY) });
    let says = refused.to_string();
    assert!(says.contains(AWAY) && says.contains("policy") && !says.contains("10.0.0.0"), "{says}");
    // A proxy in the right network does not say who is behind it.
    assert_eq!(
        world.authority.hold_to_limits(&free, address(HOME), false),
        Err(OffLimits::Policy { from: None })
    );
    // Its own networks hold beside them: neither opens what the other shuts.
    assert_eq!(hold(&held, address(HOME)), Ok(None));
    assert_eq!(hold(&held, address(AWAY)), Err(OffLimits::Policy { from: address(AWAY) }));
    let other = address("10.2.0.1");
    assert_eq!(hold(&held, other), Err(OffLimits::Network { from: other }));
    // A browser is not held to them, wherever it is: else nobody could undo it.
    assert_eq!(hold(&ada.principal, address(AWAY)), Ok(None));
    let refusals = told(&world, "refused.network").await;
    assert!(refusals.iter().any(|entry| entry.details.get("reason").is_some_and(|why| why == "policy")));

    decide(&world, &ada, asked()).await;
    assert_eq!(hold(&free, address(AWAY)), Ok(None));
}

#[tokio::test]
async fn what_the_policy_lets_lie_unused_for_so_long_ends() {
    let (world, ada) = administered().await;
    let (never, used) = (world.token("mcp").await, world.token("mcp").await);
    world.clock.advance(DAY * 10);
    let young = world.token("mcp").await;
    let by = By::new(world.verify(&used.token).await.expect("good"), None);
    world.authority.note_use(&by, None, None);
    // Whoever decides it knows how many it ends: they do not come back.
    let short = AskedPolicy { unused_days: Some(10), ..asked() };
    world.clock.advance(Duration::from_secs(1));
    let refused = world.authority.change_policy(&ada, change(short.clone())).await;
    assert!(matches!(refused, Err(AuthorityError::TooManyEnd { days: 10, tokens: 1 })), "{refused:?}");
    assert_eq!(world.authority.end_unused().await.expect("asks"), 0);
    let known = PolicyChange { ends: Some(1), ..change(short) };
    assert_eq!(world.authority.change_policy(&ada, known).await.expect("changed").unused, 1);
    assert_eq!(world.authority.end_unused().await.expect("asks"), 0, "not before its slack is over");
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.authority.end_unused().await.expect("asks"), 1);
    assert!(matches!(world.verify(&never.token).await, Err(Denied::Revoked(_))));
    for good in [&used, &young] {
        world.verify(&good.token).await.expect("used, or made not long ago");
    }
    // Once nothing is decided any more, nothing ends.
    decide(&world, &ada, asked()).await;
    world.clock.advance(DAY * 100);
    assert_eq!(world.authority.end_unused().await.expect("asks"), 0);
}

/// Another node on the same store.
async fn node(world: &World) -> Arc<Authority> {
    let node = world.command().await;
    node.start().await.expect("starts");
    node
}

#[tokio::test]
async fn a_policy_holds_on_every_node_when_it_is_answered() {
    let (world, ada) = administered().await;
    let other = node(&world).await;
    let issued = world.token("mcp").await;
    let there = trustrelay_token::Verifier::verify(&*other, issued.token.clone()).wait().await.expect("good");
    assert!(other.holds_lease());
    for (policy, is_open) in [(networks(&["10.0.0.0/8"]), false), (asked(), true)] {
        decide(&world, &ada, policy).await;
        assert_eq!(other.hold_to_limits(&there, address(AWAY), true).is_ok(), is_open);
    }
    // A node that comes later begins with it.
    decide(&world, &ada, networks(&["10.0.0.0/8"])).await;
    let late = node(&world).await;
    assert!(late.hold_to_limits(&there, address(AWAY), true).is_err());
    other.stop().await;
    late.stop().await;
}

#[tokio::test]
async fn a_node_without_its_lease_asks_for_the_policy_with_each_token() {
    let (world, ada) = administered().await;
    let other = node(&world).await;
    let issued = world.token("mcp").await;
    other.stop().await;
    assert!(!other.holds_lease());
    decide(&world, &ada, networks(&["10.0.0.0/8"])).await;
    let there = trustrelay_token::Verifier::verify(&*other, issued.token.clone()).wait().await.expect("good");
    assert!(other.hold_to_limits(&there, address(AWAY), true).is_err());
    world.store.broken.store(true, Ordering::SeqCst);
    let refused = trustrelay_token::Verifier::verify(&*other, issued.token).wait().await;
    assert!(matches!(refused, Err(Denied::Unavailable { .. })), "{refused:?}");
}

/// A token is judged, and added a moment later: by then there may be another policy.
#[tokio::test]
async fn a_policy_that_comes_between_judgment_and_deed_holds() {
    let (world, by) = administered().await;
    let rotated = world.token("mcp").await;

    world.store.before_secret.close();
    let tries = |expiry| {
        let (authority, by) = (world.authority.clone(), by.clone());
        tokio::spawn(async move { authority.issue(&by, NewPat { expiry, ..new("mcp") }).await })
    };
    let (usual, long) = (tries(Expiry::Default), tries(Expiry::Days(300)));
    let (authority, which) = (world.authority.clone(), PatRef::Id(rotated.record.pat_id));
    let rotation = {
        let by = by.clone();
        let overlap = Overlap::For(Duration::ZERO);
        let asked = Rotate { overlap, expiry: Expiry::Default, idempotency_key: None };
        tokio::spawn(async move { authority.rotate(&by, which, asked).await })
    };
    until("all of them are judged", || world.store.before_secret.held() == 3).await;
    decide(&world, &by, AskedPolicy { max_days: Some(90), ..asked() }).await;
    world.store.before_secret.open();

    let usual = usual.await.expect("joins").expect("made");
    assert_eq!(life(&world, &usual.record), 90);
    not_allowed(long.await.expect("joins").expect_err("too long"), "expires_in_days", "1 to 90");
    let rotated = rotation.await.expect("joins").expect("rotated");
    assert_eq!(life(&world, &rotated.record), 90);
    assert_eq!(told(&world, "token.created").await.len(), 2);
}

/// It is judged again a few times, and not for ever.
#[tokio::test]
async fn a_policy_that_changes_all_the_time_refuses_what_it_outruns() {
    let (world, by) = administered().await;
    world.store.before_secret.close();
    let (authority, maker) = (world.authority.clone(), by.clone());
    let made = tokio::spawn(async move { authority.issue(&maker, new("mcp")).await });
    for days in 1..=3 {
        until("it is judged once more", || world.store.before_secret.held() == days).await;
        decide(&world, &by, AskedPolicy { max_days: Some(days as i64), ..asked() }).await;
        world.store.before_secret.let_one_pass();
    }
    let refused = made.await.expect("joins");
    assert!(matches!(&refused, Err(AuthorityError::Conflict(why)) if why.contains("policy")), "{refused:?}");
}
