//! Stories of refusals: noted in memory, added up, and written to the audit log in batches.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::World;
use trustrelay_authority::*;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);

fn address(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0A00_0000 + n).into()
}

async fn refusals(world: &World) -> Vec<AuditEntry> {
    let log = world.store.audit_after(0, 100_000).await.expect("asks");
    let entries = log.iter().map(|record| AuditEntry::from_bytes(&record.entry).expect("reads"));
    entries.filter(|entry| entry.action.starts_with("refused.")).collect()
}

fn count(entry: &AuditEntry) -> u64 {
    entry.details.get("count").map_or(1, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn the_same_refusal_is_told_at_once_and_then_once_a_minute_with_a_count() {
    let world = World::new().await;
    let by = By::new(world.browser().await.principal, Some(address(1)));
    let refuse = || world.authority.note_refusal_to(&by, "refused.admin", &[("path", "/admin")]);
    refuse();
    world.authority.flush_refusals(false).await;
    let told = refusals(&world).await;
    assert_eq!(told.len(), 1, "at once");
    assert_eq!((told[0].actor.clone(), told[0].user_id), (by.actor(), Some(by.user_id)));
    assert_eq!(told[0].details.get("path").map(String::as_str), Some("/admin"));
    assert_eq!(told[0].details.get("count"), None, "one is not counted");

    let first = world.clock.now();
    for _ in 0..3 {
        refuse();
        world.clock.advance(Duration::from_secs(19));
    }
    world.authority.flush_refusals(false).await;
    assert_eq!(refusals(&world).await.len(), 1, "a minute is not over");
    world.clock.advance(Duration::from_secs(3));
    world.authority.flush_refusals(false).await;
    let told = refusals(&world).await;
    assert_eq!((told.len(), count(&told[1]), told[1].at), (2, 3, first));
    let last = first.checked_add(Duration::from_secs(38)).expect("in range");
    assert_eq!(told[1].details.get("until"), Some(&last.to_string()));
    world.authority.flush_refusals(true).await;
    assert_eq!(refusals(&world).await.len(), 2, "what is written down does not wait any more");
}

#[tokio::test]
async fn what_differs_in_anything_is_told_apart() {
    let world = World::new().await;
    let (ada, pat) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
    let note = |action, from, user_id, pat_id, reason| {
        let actor = Actor::anonymous(Some(address(from)));
        world.authority.note_refusal(action, actor, user_id, pat_id, &[("reason", reason)]);
    };
    note("refused.login", 1, ada, None, "wrong");
    note("refused.login", 1, ada, None, "wrong");
    note("refused.token", 1, ada, None, "wrong");
    note("refused.login", 2, ada, None, "wrong");
    note("refused.login", 1, None, None, "wrong");
    note("refused.login", 1, ada, pat, "wrong");
    note("refused.login", 1, ada, None, "throttled");
    world.authority.flush_refusals(false).await;
    let counts: Vec<_> = refusals(&world).await.iter().map(count).collect();
    assert_eq!(counts.iter().sum::<u64>(), 7);
    assert_eq!(counts.len(), 6, "{counts:?}");
}

#[tokio::test]
async fn a_network_of_version_6_is_one_place() {
    let world = World::new().await;
    for host in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1"] {
        let actor = Actor::anonymous(Some(host.parse().expect("an address")));
        world.authority.note_refusal("refused.login", actor, None, None, &[]);
        world.clock.advance(Duration::from_secs(1));
    }
    world.authority.flush_refusals(false).await;
    let told = refusals(&world).await;
    assert_eq!(told.iter().map(count).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(told[0].actor.address, Some("2001:db8:1:2::1".parse().expect("an address")), "as it came");
}

#[tokio::test]
async fn a_flood_is_counted_in_full_in_few_entries_and_crowds_nobody_out() {
    let world = World::new().await;
    for n in 0..50_000 {
        let actor = Actor::anonymous(Some(address(n)));
        world.authority.note_refusal("refused.login", actor, None, None, &[("reason", "wrong")]);
    }
    let by = By::new(world.browser().await.principal, Some(address(1)));
    world.authority.note_refusal_to(&by, "refused.admin", &[]);
    world.authority.flush_refusals(false).await;
    let told = refusals(&world).await;
    let (logins, others): (Vec<_>, Vec<_>) = told.iter().partition(|entry| entry.action == "refused.login");
    assert_eq!(logins.iter().map(|entry| count(entry)).sum::<u64>(), 50_000);
    assert_eq!(logins.len(), 101, "a hundred that are told apart, and the rest");
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].actor, by.actor(), "who is known has a place of its own");

    // The places are free again when a minute was quiet.
    world.clock.advance(MINUTE);
    world.authority.flush_refusals(false).await;
    let actor = Actor::anonymous(Some(address(70_000)));
    world.authority.note_refusal("refused.login", actor.clone(), None, None, &[]);
    world.authority.flush_refusals(false).await;
    assert_eq!(refusals(&world).await.last().expect("told").actor, actor);
}

#[tokio::test]
async fn what_the_store_did_not_take_waits_on_and_is_told_once() {
    let world = World::new().await;
    let note = |n| {
        world.authority.note_refusal("refused.login", Actor::anonymous(Some(address(n))), None, None, &[]);
    };
    (0..60).for_each(note);
    let first = world.clock.now();
    world.store.broken.store(true, Ordering::SeqCst);
    world.authority.flush_refusals(false).await;
    world.clock.advance(Duration::from_secs(1));
    note(0);
    world.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(refusals(&world).await.len(), 0);
    world.authority.flush_refusals(false).await;
    world.authority.flush_refusals(false).await;
    let told = refusals(&world).await;
    assert_eq!((told.len(), told.iter().map(count).sum::<u64>()), (60, 61));
    assert!(told.iter().all(|entry| entry.at == first), "the first of them says when");
}

#[tokio::test]
async fn what_waits_is_written_down_at_the_end() {
    let world = World::new().await;
    let by = world.browser().await;
    world.authority.note_refusal_to(&by, "refused.admin", &[]);
    world.authority.flush_refusals(false).await;
    world.authority.note_refusal_to(&by, "refused.admin", &[]);
    world.authority.stop().await;
    assert_eq!(refusals(&world).await.len(), 2);
}

fn reasons(told: &[AuditEntry]) -> Vec<(&str, &str)> {
    told.iter()
        .map(|entry| (&*entry.action, entry.details.get("reason").map_or("", String::as_str)))
        .collect()
}

#[tokio::test]
async fn whoever_cannot_sign_in_is_told_of_by_the_account_and_never_by_what_was_typed() {
    let world = World::new().await;
    let ada = world.browser().await.user_id;
    let typed = "hunter2-in-the-wrong-field";
    let login = async |email: &str, password: &str| {
        world.clock.advance(Duration::from_secs(1));
        world.authority.login(email, password.into(), Some(address(7))).await.expect_err("refused")
    };
    for _ in 0..6 {
        login(support::EMAIL, typed).await;
    }
    login(typed, typed).await;
    world.authority.set_disabled(support::EMAIL, true).await.expect("disabled");
    world.clock.advance(Duration::from_secs(16 * 60));
    login(support::EMAIL, support::PASSWORD).await;
    world.authority.flush_refusals(true).await;
    let told = refusals(&world).await;
    let login = "refused.login";
    assert_eq!(
        reasons(&told),
        [(login, "wrong"), (login, "throttled"), (login, "wrong"), (login, "account disabled")]
    );
    assert_eq!(told.iter().map(count).collect::<Vec<_>>(), [5, 1, 1, 1]);
    let whose: Vec<_> = told.iter().map(|entry| entry.user_id).collect();
    assert_eq!(whose, [Some(ada), Some(ada), None, Some(ada)], "of a throttled one too");
    assert!(told.iter().all(|entry| entry.actor == Actor::anonymous(Some(address(7)))));
    for record in world.store.audit_after(0, 1000).await.expect("asks") {
        assert!(!String::from_utf8_lossy(&record.entry).contains(typed));
    }
}

#[tokio::test]
async fn a_wrong_current_password_is_told_of_the_one_who_is_signed_in() {
    let world = World::new().await;
    let by = world.browser().await;
    world
        .authority
        .change_password(&by, "cookie", "wrong".into(), "a new good password".into())
        .await
        .expect_err("wrong");
    world.authority.flush_refusals(true).await;
    let told = refusals(&world).await;
    assert_eq!(reasons(&told), [("refused.login", "wrong current password")]);
    assert_eq!((told[0].actor.clone(), told[0].user_id), (by.actor(), Some(by.user_id)));
}

#[tokio::test]
async fn a_token_that_is_no_good_any_more_is_told_of_with_its_owner() {
    let world = World::new().await;
    let revoked = world.token("mcp").await;
    let expired = world.token("mcp").await;
    let disabled = world.token("mcp").await;
    let by = world.browser().await;
    let from =
        |token: &trustrelay_token::Token| world.authority.verify_from(token.clone(), Some(address(9))).wait();
    // From the index and from the store, it is the same.
    from(&expired.token).await.expect("good");
    from(&revoked.token).await.expect("good");
    world.authority.flush_refusals(true).await;
    assert_eq!(refusals(&world).await, [], "what is good is not refused");
    world.authority.revoke(&by, PatRef::Id(revoked.record.pat_id)).await.expect("revoked");
    from(&revoked.token).await.expect_err("revoked");
    world.authority.set_disabled(support::EMAIL, true).await.expect("disabled");
    from(&disabled.token).await.expect_err("disabled");
    world.authority.set_disabled(support::EMAIL, false).await.expect("enabled");
    world.clock.advance(400 * 24 * 60 * MINUTE);
    from(&expired.token).await.expect_err("expired");
    from(&disabled.token).await.expect_err("expired");
    world.authority.flush_refusals(true).await;
    let told = refusals(&world).await;
    let mut of: Vec<_> =
        told.iter().map(|entry| (entry.pat_id.expect("known"), entry.details["reason"].as_str())).collect();
    of.sort_unstable();
    let mut expected = vec![
        (revoked.record.pat_id, "revoked"),
        (expired.record.pat_id, "expired"),
        (disabled.record.pat_id, "account disabled"),
        (disabled.record.pat_id, "expired"),
    ];
    expected.sort_unstable();
    assert_eq!(of, expected);
    for entry in &told {
        assert_eq!(entry.action, "refused.token");
        assert_eq!((entry.user_id, entry.actor.user_id), (Some(by.user_id), Some(by.user_id)));
        assert_eq!(entry.actor.pat_name.as_deref(), Some("ci-pipeline"));
        assert_eq!(entry.actor.address, Some(address(9)));
    }
}

#[tokio::test]
async fn one_wide_network_and_one_account_take_a_share_of_the_places_only() {
    let world = World::new().await;
    let refuse = |from: String| {
        let actor = Actor::anonymous(Some(from.parse().expect("an address")));
        world.authority.note_refusal("refused.login", actor, None, None, &[]);
    };
    for subnet in 0..1_000 {
        refuse(format!("2001:db8:7:{subnet:x}::1"));
    }
    refuse("2001:db8:8::1".to_owned());
    let by = By::new(world.browser().await.principal, None);
    for token in 0..1_000 {
        let (actor, of) = (by.actor(), Some(Uuid::from_u128(token)));
        world.authority.note_refusal("refused.scope", actor, Some(by.user_id), of, &[]);
    }
    world.authority.flush_refusals(true).await;
    let told = refusals(&world).await;
    assert!(told.iter().any(|entry| entry.actor.address == "2001:db8:8::1".parse().ok()), "it is told apart");
    let entries = |action| told.iter().filter(|entry| entry.action == action).count();
    assert_eq!((entries("refused.login"), entries("refused.scope")), (25 + 1 + 1, 100 + 1));
    assert_eq!(told.iter().map(count).sum::<u64>(), 2_001, "all are counted");
}
