//! Stories of tokens: issued, verified, listed, revoked; and the races between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::{EMAIL, PASSWORD, World, config, new, until};
use tokio::time::Instant;
use trustrelay_authority::*;
use trustrelay_token::{Denied, Token, TokenDigest, Verification, Verifier};
use uuid::Uuid;

#[tokio::test]
async fn a_token_opens_until_it_is_revoked() {
    let world = World::new().await;
    let issued = world.token("mcp api").await;
    let principal = world.verify(&issued.token).await.expect("good");
    assert_eq!((&*principal.email, principal.scopes.to_string().as_str()), (EMAIL, "mcp api"));

    let browser = world.browser().await;
    let first = world.authority.revoke(&browser, PatRef::Id(issued.record.pat_id)).await.expect("revoked");
    assert_eq!(world.verify(&issued.token).await.expect_err("revoked"), Denied::Revoked(first.revoked_at));
    assert!(!principal.stands(), "a principal that was handed out before knows of it");

    world.clock.advance(Duration::from_secs(5));
    let again = world.authority.revoke(&browser, PatRef::Id(issued.record.pat_id)).await.expect("again");
    assert_eq!(again.revoked_at, first.revoked_at);
}

#[tokio::test]
async fn a_warm_verification_asks_no_store() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    world.verify(&issued.token).await.expect("good");
    let before = world.store.lookups.load(Ordering::SeqCst);
    for _ in 0..10 {
        let answer = world.authority.verify(issued.token.clone());
        assert!(matches!(answer, Verification::Ready(Ok(_))));
    }
    assert_eq!(world.store.lookups.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn unknown_and_expired_tokens_are_told_apart() {
    let world = World::new().await;
    let unknown = Token::generate().expect("random");
    assert_eq!(world.verify(&unknown).await.expect_err("unknown"), Denied::Unknown);
    let browser = world.browser().await;
    let short = NewPat { expiry: Expiry::Days(1), ..new("mcp") };
    let issued = world.authority.issue(&browser, short).await.expect("issued");
    world.verify(&issued.token).await.expect("good");
    world.clock.advance(Duration::from_secs(24 * 3600));
    world.authority.start().await.expect("the lease is taken again");
    let expired = world.verify(&issued.token).await.expect_err("expired");
    assert_eq!(expired, Denied::Expired(issued.record.expires_at));
    let browser = world.browser().await;
    assert!(world.authority.list(&browser).await.expect("listed").is_empty());
}

#[tokio::test]
async fn many_who_wait_for_one_token_ask_the_store_once() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    world.store.after_lookup.close();
    let waiting: Vec<_> =
        (0..50).map(|_| tokio::spawn(world.authority.verify(issued.token.clone()).wait())).collect();
    until("the look-up reads", || world.store.after_lookup.held() > 0).await;
    world.store.after_lookup.open();
    for answer in waiting {
        answer.await.expect("joins").expect("good");
    }
    assert_eq!(world.store.lookups.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_miss_that_read_before_a_revocation_does_not_bring_the_token_back() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let browser = world.browser().await;
    world.store.after_lookup.close();
    let early = tokio::spawn(world.authority.verify(issued.token.clone()).wait());
    until("the look-up reads", || world.store.after_lookup.held() == 1).await;

    world.authority.revoke(&browser, PatRef::Id(issued.record.pat_id)).await.expect("revoked");
    // Who asks after the revocation's answer does not share what was read before it.
    let late = tokio::spawn(world.authority.verify(issued.token.clone()).wait());
    until("the second look-up reads", || world.store.after_lookup.held() == 2).await;
    world.store.after_lookup.open();

    assert!(matches!(late.await.expect("joins"), Err(Denied::Revoked(_))));
    assert!(matches!(early.await.expect("joins"), Err(Denied::Revoked(_))), "it reads again");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
}

#[tokio::test]
async fn a_command_on_the_same_data_is_honoured_before_it_returns() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    world.verify(&issued.token).await.expect("warm");
    world.command().await.revoke_any(issued.record.pat_id).await.expect("revoked");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
}

#[tokio::test]
async fn without_a_lease_every_token_is_asked_for_and_without_a_store_refused() {
    let world = World::with(AuthorityConfig { lease: Duration::from_secs(30), ..config() }).await;
    let issued = world.token("mcp").await;
    world.verify(&issued.token).await.expect("warm");
    // The node was stopped for longer than its lease; meanwhile the token was revoked elsewhere.
    world.store.revoke_behind_the_back(issued.record.pat_id, world.clock.now());
    world.verify(&issued.token).await.expect("the lease still holds, so nobody was told that it is revoked");
    world.clock.advance(Duration::from_secs(31));
    assert!(!world.authority.holds_lease());
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
    world.store.broken.store(true, Ordering::SeqCst);
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Unavailable { .. })));
}

/// Each use of a dead token that the index does not have asks the store, and the one that has it
/// may use it as often as they like.
#[tokio::test(start_paused = true)]
async fn whoever_floods_with_a_dead_token_takes_turns_and_nobody_else_waits() {
    const AT_ONCE: usize = 201;
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let world = World::with(AuthorityConfig { lease: Duration::from_secs(60), ..config() }).await;
    world.add("eve@example.org").await;
    let browser = world.browser().await;
    let (eve, _) = world.authority.login("eve@example.org", PASSWORD.into(), None).await.expect("signs in");
    let eve = world.authority.authenticate_session(eve.expose()).await.expect("asks").expect("stands");
    let of_eve = world.authority.issue(&By::new(Arc::new(eve), None), new("mcp")).await.expect("issued");
    world.authority.set_disabled("eve@example.org", true).await.expect("disabled");
    let short = NewPat { expiry: Expiry::Days(1), ..new("mcp") };
    let expired = world.authority.issue(&browser, short).await.expect("issued");
    let (revoked, retired) = (world.token("mcp").await, world.token("mcp").await);
    world.authority.revoke(&browser, PatRef::Id(revoked.record.pat_id)).await.expect("revoked");
    let (id, overlap) = (PatRef::Id(retired.record.pat_id), Overlap::For(Duration::ZERO));
    let at_once = Rotate { overlap, expiry: Expiry::Default, idempotency_key: None };
    let rotated = world.authority.rotate(&browser, id, at_once).await.expect("rotated");
    let (warm, cold) = (world.token("mcp").await, world.token("mcp").await);
    world.verify(&warm.token).await.expect("good");
    world.clock.advance(DAY);
    world.authority.start().await.expect("the lease is taken again");

    let lookups = || world.store.lookups.load(Ordering::SeqCst);
    let mut told = Vec::new();
    for token in [&of_eve.token, &expired.token, &revoked.token, &retired.token] {
        // What the flood before took is given back.
        world.clock.advance(Duration::from_secs(5));
        let (began, asked) = (Instant::now(), lookups());
        for _ in 0..AT_ONCE {
            world.verify(token).await.expect_err("dead");
        }
        assert_eq!(lookups() - asked, AT_ONCE, "it is not remembered");
        assert_eq!(began.elapsed(), Duration::ZERO, "a few are refused at once");
        told.push(world.verify(token).await.expect_err("dead"));
        let first = began.elapsed();
        assert!(first >= Duration::from_millis(1), "then they take turns");
        world.verify(token).await.expect_err("dead");
        assert!(began.elapsed() - first > first, "each later than the one before");

        let (began, asked) = (Instant::now(), lookups());
        assert!(matches!(world.authority.verify(warm.token.clone()), Verification::Ready(Ok(_))));
        assert_eq!(lookups(), asked);
        world.verify(&rotated.token).await.expect("the secret that took the other's place");
        world.verify(&cold.token).await.expect("good, and not in the index at first");
        assert_eq!(began.elapsed(), Duration::ZERO, "whoever has a good token does not wait");
    }
    assert!(matches!(
        &*told,
        [Denied::OwnerDisabled, Denied::Expired(_), Denied::Revoked(_), Denied::Retired(_)]
    ));
}

#[tokio::test]
async fn disabling_an_account_refuses_its_tokens_and_enabling_brings_them_back() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let principal = world.verify(&issued.token).await.expect("good");
    world.authority.set_disabled(EMAIL, true).await.expect("disabled");
    assert_eq!(world.verify(&issued.token).await.expect_err("disabled"), Denied::OwnerDisabled);
    assert!(!principal.stands());
    world.authority.set_disabled(EMAIL, false).await.expect("enabled");
    world.verify(&issued.token).await.expect("good again");
    let unknown = world.authority.set_disabled("nobody@example.org", true).await;
    assert!(matches!(unknown, Err(AuthorityError::NotFound(_))));
}

#[tokio::test]
async fn a_revocation_cuts_what_the_token_holds_open() {
    struct Open(AtomicU64);
    impl Cut for Open {
        fn cut_token(&self, _: Uuid) -> Vec<u64> {
            (0..self.0.swap(0, Ordering::SeqCst)).collect()
        }
        fn cut_user(&self, _: Uuid) -> Vec<u64> {
            Vec::new()
        }
        fn cut_secret(&self, _: Uuid, _: &TokenDigest) -> usize {
            0
        }
        fn cut_from_elsewhere(&self, _: Option<AllowsFrom>) -> usize {
            0
        }
    }
    let world = World::new().await;
    world.authority.set_cut(Arc::new(Open(AtomicU64::new(3))));
    let issued = world.token("mcp").await;
    let browser = world.browser().await;
    let revoked = world.authority.revoke(&browser, PatRef::Id(issued.record.pat_id)).await.expect("revoked");
    assert_eq!(revoked.sessions_terminated, 3);
    let again = world.authority.revoke(&browser, PatRef::Id(issued.record.pat_id)).await.expect("again");
    assert_eq!(again.sessions_terminated, 0);
}

#[tokio::test]
async fn a_token_without_the_scope_tokens_manages_itself_only() {
    let world = World::new().await;
    let other = world.token("mcp").await;
    let own = world.token("mcp api").await;
    let by = By::new(world.verify(&own.token).await.expect("good"), None);
    let authority = &world.authority;
    assert!(matches!(authority.list(&by).await, Err(AuthorityError::InsufficientScope { .. })));
    assert!(matches!(authority.issue(&by, new("mcp")).await, Err(AuthorityError::InsufficientScope { .. })));
    for which in [PatRef::Id(other.record.pat_id), PatRef::Id(Uuid::now_v7())] {
        assert!(matches!(authority.get(&by, which).await, Err(AuthorityError::InsufficientScope { .. })));
        assert!(matches!(authority.revoke(&by, which).await, Err(AuthorityError::InsufficientScope { .. })));
    }
    assert_eq!(authority.get(&by, PatRef::Own).await.expect("itself").pat_id, own.record.pat_id);
    authority.revoke(&by, PatRef::Own).await.expect("itself");
    assert!(world.verify(&other.token).await.is_ok());
}

#[tokio::test]
async fn a_child_has_no_more_than_its_parent_and_dies_with_it() {
    let world = World::new().await;
    let browser = world.browser().await;
    let parent = NewPat { expiry: Expiry::Days(10), ..new("mcp:github tokens") };
    let parent = world.authority.issue(&browser, parent).await.expect("issued");
    let by = By::new(world.verify(&parent.token).await.expect("good"), None);
    let child = world.authority.issue(&by, new("mcp:github/search")).await.expect("issued");
    assert_eq!(child.record.expires_at, parent.record.expires_at);
    assert_eq!(child.record.parent_id, Some(parent.record.pat_id));
    let wider = world.authority.issue(&by, new("mcp")).await;
    assert!(matches!(wider, Err(AuthorityError::InsufficientScope { scope }) if scope == "mcp"));
    let longer = NewPat { expiry: Expiry::Days(11), ..new("tokens") };
    let longer = world.authority.issue(&by, longer).await;
    assert!(matches!(longer, Err(AuthorityError::Invalid { field: "expires_in_days", .. })));

    world.verify(&child.token).await.expect("good");
    world.authority.revoke(&browser, PatRef::Id(parent.record.pat_id)).await.expect("revoked");
    assert!(matches!(world.verify(&child.token).await, Err(Denied::Revoked(_))));
}

#[tokio::test]
async fn wrong_input_is_named() {
    let world = World::new().await;
    let browser = world.browser().await;
    let secret = Token::generate().expect("random");
    let past = world.clock.now();
    for (new, field) in [
        (NewPat { name: "  ".into(), ..new("mcp") }, "pat_name"),
        (NewPat { name: "x".repeat(101), ..new("mcp") }, "pat_name"),
        (NewPat { name: "a\nb".into(), ..new("mcp") }, "pat_name"),
        (NewPat { name: secret.expose().into(), ..new("mcp") }, "pat_name"),
        (new("everything"), "pat_scope"),
        (new(""), "pat_scope"),
        (NewPat { expiry: Expiry::Days(0), ..new("mcp") }, "expires_in_days"),
        (NewPat { expiry: Expiry::Days(366), ..new("mcp") }, "expires_in_days"),
        (NewPat { expiry: Expiry::At(past), ..new("mcp") }, "expires_at"),
        (
            NewPat { expiry: Expiry::At("2030-01-01T00:00:00Z".parse().expect("a time")), ..new("mcp") },
            "expires_at",
        ),
    ] {
        match world.authority.issue(&browser, new).await {
            Err(AuthorityError::Invalid { field: found, message }) => {
                assert_eq!(found, field);
                assert!(!message.contains(&secret.expose()[7..20]));
            }
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_reaches_the_tokens_of_another() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    world.add("eve@example.org").await;
    let (cookie, _) =
        world.authority.login("eve@example.org", support::PASSWORD.into(), None).await.expect("in");
    let eve = world.authority.authenticate_session(cookie.expose()).await.expect("asks").expect("stands");
    let eve = By::new(Arc::new(eve), None);
    let which = PatRef::Id(issued.record.pat_id);
    assert!(matches!(world.authority.get(&eve, which).await, Err(AuthorityError::NotFound(_))));
    assert!(matches!(world.authority.revoke(&eve, which).await, Err(AuthorityError::NotFound(_))));
    assert!(world.authority.list(&eve).await.expect("hers").is_empty());
    world.verify(&issued.token).await.expect("untouched");
}

#[tokio::test]
async fn a_full_index_lets_go_of_what_nobody_holds() {
    let world = World::with(AuthorityConfig { index_entries: 256, ..config() }).await;
    let held = world.token("mcp").await;
    let principal = world.verify(&held.token).await.expect("good");
    for _ in 0..900 {
        let issued = world.authority.issue_for(EMAIL, new("mcp")).await.expect("issued");
        world.verify(&issued.token).await.expect("good");
    }
    assert!(world.authority.indexed() <= 512, "{}", world.authority.indexed());
    // However full it was, a revocation still reaches a principal in use.
    world.authority.revoke_any(held.record.pat_id).await.expect("revoked");
    assert!(!principal.stands());
}

#[tokio::test]
async fn uses_are_seen_at_once_and_written_down_in_batches() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let browser = world.browser().await;
    let which = PatRef::Id(issued.record.pat_id);
    assert_eq!(world.authority.get(&browser, which).await.expect("there").last_used_at, None);
    let principal = world.verify(&issued.token).await.expect("good");
    world.clock.advance(Duration::from_secs(1));
    world.authority.note_use(&principal, None, Some("curl/8"));
    let used = Some(world.clock.now());
    assert_eq!(world.authority.get(&browser, which).await.expect("there").last_used_at, used);
    world.store.broken.store(true, Ordering::SeqCst);
    world.authority.flush_usage().await;
    world.store.broken.store(false, Ordering::SeqCst);
    world.authority.flush_usage().await;
    let stored = world.store.pat_by_id(issued.record.pat_id).await.expect("asks").expect("there");
    assert_eq!(stored.last_used_at, used, "what the store did not take is not lost");
}
