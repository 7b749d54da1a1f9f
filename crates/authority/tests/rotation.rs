//! Stories of rotation: a new secret, the same token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::{EMAIL, World, config, new, until};
use trustrelay_authority::*;
use trustrelay_token::{Denied, Token, Verifier};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn rotate() -> Rotate {
    Rotate { overlap: Overlap::For(DAY), expiry: Expiry::Default, idempotency_key: None }
}

fn at_once() -> Rotate {
    Rotate { overlap: Overlap::For(Duration::ZERO), ..rotate() }
}

async fn holder(world: &World, token: &Token) -> By {
    By::new(world.verify(token).await.expect("good"), None)
}

#[tokio::test]
async fn both_secrets_are_good_during_the_overlap_and_then_the_new_one_alone() {
    let world = World::new().await;
    let issued = world.token("mcp api").await;
    let before = world.verify(&issued.token).await.expect("warm");
    let id = PatRef::Id(issued.record.pat_id);
    let rotated = world.authority.rotate(&world.browser().await, id, rotate()).await.expect("rotated");
    assert_eq!(rotated.record.pat_id, issued.record.pat_id);
    assert_eq!((&rotated.record.name, &rotated.record.scopes), (&issued.record.name, &issued.record.scopes));
    assert_ne!(rotated.token.expose(), issued.token.expose());

    let by_new = world.verify(&rotated.token).await.expect("the new one is good");
    let by_old = world.verify(&issued.token).await.expect("and so is the old one");
    assert_eq!(by_new.pat_id(), by_old.pat_id());
    assert_eq!(by_new.expires_at(), rotated.record.expires_at);
    assert_eq!(by_old.expires_at(), rotated.old_valid_until, "who has the old one is told when that ends");
    assert!(before.stands(), "what is open stays open");

    world.clock.advance(HOUR * 24);
    world.verify(&rotated.token).await.expect("the new one is good");
    let until_then = rotated.old_valid_until;
    until("the overlap is over", || !before.stands()).await;
    assert_eq!(world.verify(&issued.token).await.expect_err("over"), Denied::Retired(until_then));
    assert!(by_new.stands(), "sessions of the new one stay");
}

#[tokio::test]
async fn without_an_overlap_the_old_secret_is_refused_when_the_answer_is_there() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let open = world.verify(&issued.token).await.expect("warm");
    let id = PatRef::Id(issued.record.pat_id);
    let rotated = world.authority.rotate(&world.browser().await, id, at_once()).await.expect("rotated");
    assert!(!open.stands(), "what was opened with it ends");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Retired(_))));
    world.verify(&rotated.token).await.expect("good");
}

#[tokio::test]
async fn until_the_first_use_the_old_secret_is_good_and_not_after_it() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    let asked = Rotate { overlap: Overlap::UntilFirstUse, ..rotate() };
    let rotated = world.authority.rotate(&world.browser().await, id, asked).await.expect("rotated");
    assert!(rotated.until_first_use);
    world.clock.advance(HOUR * 24 * 30);
    world.verify(&issued.token).await.expect("nobody has used the new one");
    world.verify(&rotated.token).await.expect("good");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Retired(_))));
    // And from then on from memory.
    until("the lease is held", || world.authority.holds_lease()).await;
    world.verify(&rotated.token).await.expect("good");
    let asked = world.store.lookups.load(Ordering::SeqCst);
    world.verify(&rotated.token).await.expect("good");
    assert_eq!(world.store.lookups.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn a_first_use_that_cannot_end_the_old_secret_is_refused() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    let asked = Rotate { overlap: Overlap::UntilFirstUse, ..rotate() };
    let rotated = world.authority.rotate(&world.browser().await, id, asked).await.expect("rotated");
    world.store.broken.store(true, Ordering::SeqCst);
    assert!(matches!(world.verify(&rotated.token).await, Err(Denied::Unavailable { .. })));
    world.store.broken.store(false, Ordering::SeqCst);
    world.verify(&rotated.token).await.expect("good");
}

#[tokio::test]
async fn a_token_lives_as_long_again_as_it_did_or_as_long_as_is_asked() {
    let world = World::new().await;
    let browser = world.browser().await;
    let ninety = NewPat { expiry: Expiry::Days(90), ..new("mcp") };
    let issued = world.authority.issue(&browser, ninety).await.expect("issued");
    let id = PatRef::Id(issued.record.pat_id);
    world.clock.advance(HOUR * 24 * 60);
    let rotated = world.authority.rotate(&browser, id, rotate()).await.expect("rotated");
    let days = |rotated: &Rotated| {
        rotated.record.expires_at.duration_since(rotated.record.rotated_at.expect("rotated")).as_hours() / 24
    };
    assert_eq!(days(&rotated), 90);
    let longer = Rotate { expiry: Expiry::Days(180), ..rotate() };
    let rotated = world.authority.rotate(&browser, id, longer).await.expect("rotated");
    assert_eq!(days(&rotated), 180);
    let refused =
        world.authority.rotate(&browser, id, Rotate { expiry: Expiry::Days(366), ..rotate() }).await;
    assert!(matches!(refused, Err(AuthorityError::Invalid { field: "expires_in_days", .. })));
}

/// However far below it is: what a rotation makes shorter is the token's life alone.
#[tokio::test]
async fn no_rotation_lets_a_token_end_before_what_was_made_with_it() {
    let world = World::new().await;
    let browser = world.browser().await;
    let make = async |by: &By, days: i64| {
        let new = NewPat { expiry: Expiry::Days(days), ..new("mcp tokens") };
        let issued = world.authority.issue(by, new).await.expect("issued");
        (holder(&world, &issued.token).await, issued.record)
    };
    let (root, kept) = make(&browser, 100).await;
    let (middle, _) = make(&root, 90).await;
    let (_, last) = make(&middle, 80).await;
    let (_, shortest) = make(&root, 20).await;
    make(&browser, 300).await;
    let id = PatRef::Id(kept.pat_id);
    let rotate_to =
        async |expiry: Expiry| world.authority.rotate(&browser, id, Rotate { expiry, ..rotate() }).await;
    for (asked, field) in [
        (Expiry::Days(89), "expires_in_days"),
        (Expiry::At(world.clock.now() + HOUR * 24 * 30), "expires_at"),
    ] {
        let refused = rotate_to(asked).await;
        let Err(AuthorityError::Invalid { field: named, message }) = refused else { panic!("{refused:?}") };
        let (id, at) = (middle.pat_id().expect("a token").to_string(), middle.expires_at().to_string());
        assert!(named == field && message.contains(&id) && message.contains(&at), "{message}");
    }
    // Where the policy allows less by now, as long as they need it, and no longer.
    let policy = Policy { max_days: std::num::NonZeroU16::new(10), ..Policy::default() };
    world
        .store
        .set_policy(&policy, 0, world.clock.now(), &contract::AUDIT)
        .await
        .expect("asks")
        .expect("set");
    let rotated = rotate_to(Expiry::Default).await.expect("rotated");
    assert_eq!(rotated.record.expires_at, middle.expires_at());
    for pat_id in [middle.pat_id().expect("a token"), last.pat_id] {
        world.authority.revoke(&browser, PatRef::Id(pat_id)).await.expect("revoked");
    }
    let rotated = rotate_to(Expiry::Default).await.expect("rotated");
    assert_eq!(rotated.record.expires_at, shortest.expires_at);
    world.authority.revoke(&browser, PatRef::Id(shortest.pat_id)).await.expect("revoked");
    let rotated = rotate_to(Expiry::Default).await.expect("rotated");
    assert_eq!(rotated.record.expires_at, world.clock.now() + HOUR * 24 * 10, "as the policy says");
}

#[tokio::test]
async fn a_token_with_the_scope_rotates_itself_and_no_other() {
    let world = World::new().await;
    let ninety = NewPat { expiry: Expiry::Days(90), ..new("mcp rotate") };
    let issued = world.authority.issue(&world.browser().await, ninety).await.expect("issued");
    let other = world.token("mcp").await;
    let by = holder(&world, &issued.token).await;
    let authority = &world.authority;

    let refused = authority.rotate(&by, PatRef::Id(other.record.pat_id), rotate()).await;
    assert!(matches!(refused, Err(AuthorityError::InsufficientScope { scope }) if scope == "tokens"));
    let refused = authority.rotate(&by, PatRef::Own, at_once()).await;
    assert!(
        matches!(refused, Err(AuthorityError::Invalid { field: "overlap_seconds", .. })),
        "it could not ask again"
    );
    let refused = authority.rotate(&by, PatRef::Own, Rotate { expiry: Expiry::Days(91), ..rotate() }).await;
    assert!(
        matches!(refused, Err(AuthorityError::Invalid { field: "expires_in_days", .. })),
        "no longer life"
    );

    let rotated = authority.rotate(&by, PatRef::Own, rotate()).await.expect("itself");
    assert_eq!(rotated.record.pat_id, issued.record.pat_id);
    let plain = holder(&world, &other.token).await;
    let refused = authority.rotate(&plain, PatRef::Own, rotate()).await;
    assert!(matches!(refused, Err(AuthorityError::InsufficientScope { scope }) if scope == "rotate"));
}

#[tokio::test]
async fn a_token_that_manages_tokens_rotates_what_it_made_and_nothing_that_opens_more() {
    let world = World::new().await;
    let managing = world.token("mcp tokens").await;
    let wider = world.token("mcp api").await;
    let by = holder(&world, &managing.token).await;
    let child = world.authority.issue(&by, new("mcp tokens")).await.expect("issued");
    let below = holder(&world, &child.token).await;
    let grandchild = world.authority.issue(&below, new("mcp")).await.expect("issued");

    for made in [&child, &grandchild] {
        let rotated =
            world.authority.rotate(&by, PatRef::Id(made.record.pat_id), rotate()).await.expect("its own");
        assert!(rotated.record.expires_at <= managing.record.expires_at);
    }
    for not_its in [wider.record.pat_id, managing.record.parent_id.unwrap_or(wider.record.pat_id)] {
        let refused = world.authority.rotate(&by, PatRef::Id(not_its), rotate()).await;
        assert!(matches!(refused, Err(AuthorityError::NotFound(_))), "{refused:?}");
    }
    let up = world.authority.rotate(&below, PatRef::Id(managing.record.pat_id), rotate()).await;
    assert!(matches!(up, Err(AuthorityError::NotFound(_))), "a child does not rotate its parent");
    world.verify(&wider.token).await.expect("untouched");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again() {
    let world = World::new().await;
    let browser = world.browser().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    let keyed = || Rotate { idempotency_key: Some("4c2b".into()), ..rotate() };
    let first = world.authority.rotate(&browser, id, keyed()).await.expect("rotated");
    world.clock.advance(HOUR * 23);
    let again = world.authority.rotate(&browser, id, keyed()).await.expect("the same");
    assert_eq!(again.token.expose(), first.token.expose());
    assert_eq!((&again.record, again.old_valid_until), (&first.record, first.old_valid_until));
    world.verify(&first.token).await.expect("good");

    let other = Rotate { overlap: Overlap::UntilFirstUse, ..keyed() };
    let refused = world.authority.rotate(&browser, id, other).await;
    assert!(matches!(refused, Err(AuthorityError::IdempotencyKeyReused)), "{refused:?}");
    let next = Rotate { idempotency_key: Some("4c2c".into()), ..rotate() };
    let next = world.authority.rotate(&browser, id, next).await.expect("another key, another secret");
    assert_ne!(next.token.expose(), first.token.expose());
    let late = world.authority.rotate(&browser, id, keyed()).await.expect("the first is forgotten by now");
    assert_ne!(late.token.expose(), first.token.expose());
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let world = World::new().await;
    let browser = world.browser().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    let keyed = || Rotate { idempotency_key: Some("k".into()), ..rotate() };
    let first = world.authority.rotate(&browser, id, keyed()).await.expect("rotated");
    world.clock.advance(HOUR * 24);
    let later = world.authority.rotate(&browser, id, keyed()).await.expect("rotated");
    assert_ne!(later.token.expose(), first.token.expose());
}

#[tokio::test]
async fn of_many_with_one_key_all_get_the_same_secret() {
    let world = World::new().await;
    let browser = Arc::new(world.browser().await);
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    let asked: Vec<_> = (0..10)
        .map(|_| {
            let (authority, browser) = (world.authority.clone(), browser.clone());
            let keyed = Rotate { idempotency_key: Some("one".into()), ..rotate() };
            tokio::spawn(async move { authority.rotate(&browser, id, keyed).await })
        })
        .collect();
    let mut secrets = Vec::new();
    for one in asked {
        secrets.push(one.await.expect("joins").expect("rotated").token.expose().to_owned());
    }
    secrets.dedup();
    assert_eq!(secrets.len(), 1);
}

#[tokio::test]
async fn keys_that_are_no_keys_are_refused() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    for wrong in ["", "with space", "ümlaut", &"x".repeat(256)] {
        let keyed = Rotate { idempotency_key: Some(wrong.to_owned()), ..rotate() };
        let browser = world.browser().await;
        let refused = world.authority.rotate(&browser, PatRef::Id(issued.record.pat_id), keyed).await;
        assert!(matches!(refused, Err(AuthorityError::Invalid { field: "Idempotency-Key", .. })), "{wrong}");
    }
    let long = Rotate { overlap: Overlap::For(DAY * 8), ..rotate() };
    let browser = world.browser().await;
    let refused = world.authority.rotate(&browser, PatRef::Id(issued.record.pat_id), long).await;
    assert!(matches!(refused, Err(AuthorityError::Invalid { field: "overlap_seconds", .. })));
    world.verify(&issued.token).await.expect("untouched");
}

#[tokio::test]
async fn what_has_ended_is_not_rotated() {
    let world = World::new().await;
    let browser = world.browser().await;
    let (revoked, expired) = (world.token("mcp").await, NewPat { expiry: Expiry::Days(1), ..new("mcp") });
    let expired = world.authority.issue(&browser, expired).await.expect("issued");
    world.authority.revoke(&browser, PatRef::Id(revoked.record.pat_id)).await.expect("revoked");
    world.clock.advance(HOUR * 24);
    let browser = world.browser().await;
    for ended in [revoked, expired] {
        let refused = world.authority.rotate(&browser, PatRef::Id(ended.record.pat_id), rotate()).await;
        assert!(matches!(refused, Err(AuthorityError::Conflict(_))), "{refused:?}");
    }
    world.add("eve@example.org").await;
    let (cookie, _) =
        world.authority.login("eve@example.org", support::PASSWORD.into(), None).await.expect("in");
    let eve = world.authority.authenticate_session(cookie.expose()).await.expect("asks").expect("stands");
    let hers = world.token("mcp").await;
    let refused =
        world.authority.rotate(&By::new(Arc::new(eve), None), PatRef::Id(hers.record.pat_id), rotate()).await;
    assert!(matches!(refused, Err(AuthorityError::NotFound(_))));
}

#[tokio::test]
async fn a_revocation_ends_every_secret_and_all_that_was_opened_with_any() {
    let world = World::new().await;
    let browser = world.browser().await;
    let issued = world.token("mcp").await;
    let opened_before = world.verify(&issued.token).await.expect("warm");
    let id = PatRef::Id(issued.record.pat_id);
    let rotated = world.authority.rotate(&browser, id, rotate()).await.expect("rotated");
    let opened_between = world.verify(&issued.token).await.expect("in the overlap");
    let opened_after = world.verify(&rotated.token).await.expect("good");
    world.authority.revoke(&browser, id).await.expect("revoked");
    for open in [&opened_before, &opened_between, &opened_after] {
        assert!(!open.stands());
    }
    for token in [&issued.token, &rotated.token] {
        assert!(matches!(world.verify(token).await, Err(Denied::Revoked(_))));
    }
}

#[tokio::test]
async fn every_node_knows_of_a_rotation_when_it_is_answered() {
    let world = World::new().await;
    let secrets = std::slice::from_ref(&world.secret);
    let other =
        Authority::open(world.store.clone(), secrets, world.clock.clone(), config()).await.expect("opens");
    other.start().await.expect("starts");
    let issued = world.token("mcp").await;
    let warm = other.verify(issued.token.clone()).wait().await.expect("warm there");
    let id = PatRef::Id(issued.record.pat_id);
    let rotated = world.authority.rotate(&world.browser().await, id, at_once()).await.expect("rotated");
    assert!(matches!(other.verify(issued.token.clone()).wait().await, Err(Denied::Retired(_))));
    assert!(!warm.stands());
    other.verify(rotated.token).wait().await.expect("good");
}

#[tokio::test]
async fn the_use_of_a_dead_secret_is_in_the_audit_log_once_a_day() {
    let world = World::new().await;
    let browser = world.browser().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    world.authority.rotate(&browser, id, at_once()).await.expect("rotated");
    let told = async || {
        world.authority.flush_refusals(true).await;
        let log = world.store.audit_after(0, 1000).await.expect("asks");
        let entries = log.iter().map(|record| AuditEntry::from_bytes(&record.entry).expect("reads"));
        let mut entries: Vec<_> = entries.filter(|entry| entry.action == "refused.retired_secret").collect();
        entries.dedup_by_key(|entry| entry.at);
        assert!(entries.iter().all(|entry| entry.pat_id == Some(issued.record.pat_id)));
        entries.len()
    };
    assert_eq!(told().await, 0);
    for _ in 0..5 {
        assert!(matches!(world.verify(&issued.token).await, Err(Denied::Retired(_))));
    }
    assert_eq!(told().await, 1);
    let notices = world.store.notices(Some(issued.record.user_id), None, 10).await.expect("asks");
    let kinds: Vec<_> = notices.iter().map(|told| told.notice.kind).collect();
    assert_eq!(kinds, [NoticeKind::RetiredSecretUsed]);
    assert_eq!(notices[0].notice.facts.pat_hint.as_deref(), Some(issued.record.hint.as_str()));
    world.clock.advance(HOUR * 25);
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Retired(_))));
    assert_eq!(told().await, 2);
}

/// The answer tells nobody anything new, so whoever has the secret need not wait for it.
#[tokio::test]
async fn who_uses_a_dead_secret_and_hangs_up_at_once_is_told_of_nevertheless() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    world.authority.rotate(&world.browser().await, id, at_once()).await.expect("rotated");
    world.store.before_retired_use.close();
    tokio::select! {
        answer = world.verify(&issued.token) => panic!("answered: {answer:?}"),
        () = until("its use is noted", || world.store.before_retired_use.held() == 1) => {}
    }
    // It hung up. The store is slow, and then done.
    world.store.before_retired_use.open();
    let told = async {
        loop {
            let told = world.store.notices(Some(issued.record.user_id), None, 9).await.expect("asks");
            if let [one] = &told[..] {
                break one.notice.kind;
            }
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(support::PATIENCE, told).await.expect("its owner is told");
    assert_eq!(told, NoticeKind::RetiredSecretUsed);
}

#[tokio::test]
async fn the_operator_rotates_any_token() {
    let world = World::new().await;
    let issued = world.authority.issue_for(EMAIL, new("mcp")).await.expect("issued");
    let command = world.command().await;
    let rotated = command.rotate_any(issued.record.pat_id, at_once()).await.expect("rotated");
    assert!(
        matches!(world.verify(&issued.token).await, Err(Denied::Retired(_))),
        "a running server honours it"
    );
    world.verify(&rotated.token).await.expect("good");
}
