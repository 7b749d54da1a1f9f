//! Stories of what comes at a bad moment: between two steps, during an outage, before the start,
//! after the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use support::{EMAIL, PASSWORD, PATIENCE, World, config, new, until};
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::*;
use trustrelay_token::{Denied, Verifier};
use uuid::Uuid;
use zeroize::Zeroizing;

const NEW_PASSWORD: &str = "another long password";

#[tokio::test]
async fn a_sign_in_with_the_old_password_does_not_outlive_its_change() {
    let world = World::new().await;
    world.store.before_session.close();
    let authority = world.authority.clone();
    let late = tokio::spawn(async move { authority.login(EMAIL, PASSWORD.into(), None).await });
    until("the sign-in has checked the password", || world.store.before_session.held() == 1).await;
    world.authority.set_password(EMAIL, Zeroizing::new(NEW_PASSWORD.into())).await.expect("changed");
    world.store.before_session.open();

    let refused = late.await.expect("joins");
    assert!(matches!(refused, Err(AuthorityError::WrongCredentials)), "{refused:?}");
    let user = world.store.user_by_email(EMAIL).await.expect("asks").expect("there");
    assert_eq!(world.store.delete_sessions_of(user.user_id, None, &AUDIT).await.expect("asks"), 0);
    world.authority.login(EMAIL, NEW_PASSWORD.into(), None).await.expect("with the new one");
}

#[tokio::test]
async fn a_sign_in_of_an_account_that_is_being_disabled_is_refused_like_a_wrong_password() {
    let world = World::new().await;
    world.store.before_session.close();
    let authority = world.authority.clone();
    let late = tokio::spawn(async move { authority.login(EMAIL, PASSWORD.into(), None).await });
    until("the sign-in has checked the password", || world.store.before_session.held() == 1).await;
    world.authority.set_disabled(EMAIL, true).await.expect("disabled");
    world.store.before_session.open();
    assert!(matches!(late.await.expect("joins"), Err(AuthorityError::WrongCredentials)));
}

#[tokio::test]
async fn an_outage_of_the_store_is_no_guess_of_a_password() {
    let world = World::new().await;
    let from = Some("192.0.2.1".parse().expect("an address"));
    world.store.broken.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let failed = world.authority.login(EMAIL, PASSWORD.into(), from).await;
        assert!(matches!(failed, Err(AuthorityError::Unavailable(_))), "{failed:?}");
    }
    world.store.broken.store(false, Ordering::SeqCst);
    world.authority.login(EMAIL, PASSWORD.into(), from).await.expect("the owner is not locked out by it");
}

#[tokio::test]
async fn whoever_has_a_whole_network_guesses_no_more_than_others() {
    let world = World::new().await;
    for host in 0..5 {
        let from = Some(format!("2001:db8:0:7::{host}").parse().expect("an address"));
        let refused = world.authority.login(EMAIL, "wrong".into(), from).await;
        assert!(matches!(refused, Err(AuthorityError::WrongCredentials)));
    }
    let from = Some("2001:db8:0:7:ffff::1".parse().expect("an address"));
    let refused = world.authority.login(EMAIL, PASSWORD.into(), from).await;
    assert!(matches!(refused, Err(AuthorityError::Throttled { .. })), "{refused:?}");
    // IPv4 in IPv6's clothes is one address each, and no network of them.
    for _ in 0..5 {
        let from = Some("::ffff:192.0.2.9".parse().expect("an address"));
        assert!(world.authority.login(EMAIL, "wrong".into(), from).await.is_err());
    }
    let from = Some("192.0.2.9".parse().expect("an address"));
    let refused = world.authority.login(EMAIL, PASSWORD.into(), from).await;
    assert!(matches!(refused, Err(AuthorityError::Throttled { .. })), "{refused:?}");
    for elsewhere in ["2001:db8:0:8::1", "::ffff:192.0.2.1", "192.0.2.2"] {
        let from = Some(elsewhere.parse().expect("an address"));
        world.authority.login(EMAIL, PASSWORD.into(), from).await.expect(elsewhere);
    }
}

#[tokio::test]
async fn a_use_that_is_just_being_written_down_is_seen() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let (browser, which) = (world.browser().await, PatRef::Id(issued.record.pat_id));
    let principal = world.verify(&issued.token).await.expect("good");
    world.authority.note_use(&principal, None, None);
    let used = Some(world.clock.now());
    world.store.before_usage.close();
    let authority = world.authority.clone();
    let flush = tokio::spawn(async move { authority.flush_usage().await });
    until("the use is on its way", || world.store.before_usage.held() == 1).await;
    assert_eq!(world.authority.get(&browser, which).await.expect("there").last_used_at, used);
    world.store.before_usage.open();
    flush.await.expect("joins");
    assert_eq!(world.authority.get(&browser, which).await.expect("there").last_used_at, used);
}

#[tokio::test]
async fn what_was_verified_before_the_start_is_brought_up_to_date_by_it() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let node = world.command().await;
    let early = node.verify(issued.token.clone()).wait().await.expect("asks the store");
    world.authority.revoke_any(issued.record.pat_id).await.expect("revoked");
    assert!(early.stands(), "nobody waits for who has no lease");
    node.start().await.expect("starts");
    assert!(!early.stands());
    assert!(matches!(node.verify(issued.token).wait().await, Err(Denied::Revoked(_))));
}

#[tokio::test]
async fn an_account_that_was_enabled_elsewhere_is_not_refused_by_a_node_that_lacks_the_entry() {
    let world = World::with(AuthorityConfig { lease: Duration::from_secs(60), ..config() }).await;
    let issued = world.token("mcp").await;
    world.verify(&issued.token).await.expect("warm");
    world.authority.set_disabled(EMAIL, true).await.expect("disabled");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::OwnerDisabled)));
    let user = world.store.user_by_email(EMAIL).await.expect("asks").expect("there");
    world.store.set_user_disabled(user.user_id, None, world.clock.now(), &AUDIT).await.expect("asks");
    world.clock.advance(Duration::from_secs(61));
    assert!(!world.authority.holds_lease());
    let principal = world.verify(&issued.token).await.expect("the store says so");
    assert!(principal.stands());
    // What comes after that is applied to it as to any other.
    world.authority.set_disabled(EMAIL, true).await.expect("disabled");
    assert!(!principal.stands());
}

#[tokio::test]
async fn a_server_that_has_stopped_holds_nobody_up_and_still_keeps_the_promise() {
    let world = World::with(AuthorityConfig { lease: Duration::from_secs(600), ..config() }).await;
    let issued = world.token("mcp").await;
    world.verify(&issued.token).await.expect("warm");
    world.authority.stop().await;
    assert!(!world.authority.holds_lease());
    // A request that the listener did not wait for.
    world.authority.revoke_any(issued.record.pat_id).await.expect("revoked");
    assert!(!world.authority.holds_lease(), "a lease that was given up is not taken again");
    assert_eq!(world.store.holders_behind(u64::MAX, None).await.expect("asks"), []);
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_a_gap_costs_the_lease() {
    let world = World::with(AuthorityConfig { lease: Duration::from_secs(600), ..config() }).await;
    let (lost, kept) = (world.token("mcp").await, world.token("mcp").await);
    world.store.revoke_behind_the_back(lost.record.pat_id, world.clock.now());
    world.store.revoke_behind_the_back(kept.record.pat_id, world.clock.now());
    world.store.lose_log_entry(1);
    world.verify(&world.token("mcp").await.token).await.expect("the index is not empty");
    let authority = world.authority.clone();
    let joined = tokio::spawn(async move { authority.start().await });
    let joined = tokio::time::timeout(PATIENCE, joined).await.expect("it gives up").expect("joins");
    assert!(matches!(joined, Err(AuthorityError::Internal(_))), "{joined:?}");
    world.clock.advance(Duration::from_secs(601));
    assert!(!world.authority.holds_lease());
    assert!(matches!(world.verify(&lost.token).await, Err(Denied::Revoked(_))), "the store is asked");
}

#[tokio::test]
async fn the_expiry_that_is_answered_is_the_one_that_is_kept() {
    let world = World::new().await;
    let at = world.clock.now() + SignedDuration::new(86_400, 123_456_789);
    let asked = NewPat { expiry: Expiry::At(at), ..new("mcp") };
    let issued = world.authority.issue(&world.browser().await, asked).await.expect("issued");
    let kept = world.store.pat_by_id(issued.record.pat_id).await.expect("asks").expect("there");
    assert_eq!(issued.record.expires_at, kept.expires_at);
    assert_eq!(issued.record.expires_at.as_nanosecond() % 1000, 0, "a store keeps microseconds");
}

#[tokio::test]
async fn a_revocation_waits_for_a_dead_nodes_lease_however_much_longer_than_its_own() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let dead = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq: 0,
        length: Duration::from_secs(2),
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    assert_eq!(world.store.renew_lease(&dead).await.expect("asks"), Renewal::Held);
    let secrets = std::slice::from_ref(&world.secret);
    let own = AuthorityConfig { lease: Duration::from_millis(200), ..config() };
    let command =
        Authority::open(world.store.clone(), secrets, Arc::new(SystemClock), own).await.expect("opens");
    command.revoke_any(issued.record.pat_id).await.expect("revoked, once the dead node's lease is over");
    assert_eq!(world.store.holders_behind(1, None).await.expect("asks"), []);
}

#[tokio::test]
async fn a_revocation_that_a_store_stops_to_answer_is_refused_and_holds_when_repeated() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    world.verify(&issued.token).await.expect("warm");
    let behind = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq: 0,
        length: Duration::from_secs(600),
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    world.store.renew_lease(&behind).await.expect("asks");
    let secrets = std::slice::from_ref(&world.secret);
    let command =
        Authority::open(world.store.clone(), secrets, Arc::new(SystemClock), config()).await.expect("opens");
    let revoking = tokio::spawn(async move { (command.revoke_any(issued.record.pat_id).await, command) });
    let mut committed = false;
    while !committed {
        committed = world.store.log_head().await.expect("asks") == 1;
        tokio::task::yield_now().await;
    }
    world.store.broken.store(true, Ordering::SeqCst);
    let (refused, command) = tokio::time::timeout(PATIENCE, revoking).await.expect("bounded").expect("joins");
    assert!(matches!(refused, Err(AuthorityError::Unavailable(_))), "{refused:?}");
    world.store.broken.store(false, Ordering::SeqCst);
    world.store.end_lease(behind.node_id).await.expect("ended");
    command.revoke_any(issued.record.pat_id).await.expect("the same promise");
    // The node's own clock stood still meanwhile; now its lease is over, too.
    world.clock.advance(Duration::from_secs(60));
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
}

#[tokio::test]
async fn revocations_that_come_together_share_one_renewal() {
    const TOGETHER: usize = 20;
    let world = World::new().await;
    let mut issued = Vec::new();
    for _ in 0..TOGETHER {
        let one = world.token("mcp").await;
        world.verify(&one.token).await.expect("good");
        issued.push(one);
    }
    world.store.before_renewal.close();
    let before = world.store.renewals.load(Ordering::SeqCst);
    let mut revocations = tokio::task::JoinSet::new();
    for one in &issued {
        let (authority, pat_id) = (world.authority.clone(), one.record.pat_id);
        revocations.spawn(async move { authority.revoke_any(pat_id).await });
    }
    let committed = async {
        while world.store.log_head().await.expect("asks") < TOGETHER as u64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, committed).await.expect("all are committed, whoever renews");
    until("one of them renews", || world.store.before_renewal.held() == 1).await;
    world.store.before_renewal.open();
    while let Some(revoked) = revocations.join_next().await {
        revoked.expect("joins").expect("revoked");
    }
    // It asks until there is nothing more; and one that is due anyway may come between.
    let renewals = world.store.renewals.load(Ordering::SeqCst) - before;
    assert!(renewals < TOGETHER / 2, "{renewals} renewals for {TOGETHER} revocations");
    for one in &issued {
        assert!(matches!(world.verify(&one.token).await, Err(Denied::Revoked(_))));
    }
}

#[tokio::test]
async fn one_wide_network_has_bounded_guesses_and_locks_nobody_else_out() {
    let world = World::new().await;
    let mut guesses = 0;
    for subnet in 0..300 {
        let from = Some(format!("2001:db8:7:{subnet:x}::1").parse().expect("an address"));
        for _ in 0..5 {
            match world.authority.login(EMAIL, "wrong".into(), from).await {
                Err(AuthorityError::WrongCredentials) => guesses += 1,
                other => assert!(matches!(other, Err(AuthorityError::Throttled { .. })), "{other:?}"),
            }
        }
    }
    assert_eq!(guesses, 20, "5 by /64, 10 by /56, 20 by /48");
    let from = Some("2001:db8:8::1".parse().expect("an address"));
    world.authority.login(EMAIL, PASSWORD.into(), from).await.expect("another network signs in");
    // Of other accounts too: 200 in all by /48.
    for account in 0..400 {
        let from = Some(format!("2001:db8:7:{account:x}::1").parse().expect("an address"));
        let email = format!("nobody-{account}@example.org");
        guesses += usize::from(matches!(
            world.authority.login(&email, "wrong".into(), from).await,
            Err(AuthorityError::WrongCredentials)
        ));
    }
    assert_eq!(guesses, 200);
}

async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// The hashing threads are kept busy, so that sign-ins wait; then their clients go away.
#[test]
fn abandoned_sign_in_that_waited_is_not_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let world = World::new().await;
        let from = Some("192.0.2.1".parse().expect("an address"));
        let (release, held) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || held.recv());
        // These have their turn, and wait for the thread.
        let others = ["a@example.org", "b@example.org", "c@example.org", "d@example.org"];
        let mut hashing: Vec<_> =
            others.iter().map(|email| Box::pin(world.authority.login(email, "wrong".into(), None))).collect();
        for attempt in &mut hashing {
            assert!(is_pending(attempt.as_mut()).await);
        }
        for _ in 0..200 {
            let mut abandoned = Box::pin(world.authority.login(EMAIL, "wrong".into(), from));
            assert!(is_pending(abandoned.as_mut()).await);
        }
        release.send(()).expect("the thread waits");
        for attempt in hashing {
            assert!(matches!(attempt.await, Err(AuthorityError::WrongCredentials)));
        }
        world.authority.login(EMAIL, PASSWORD.into(), from).await.expect("no attempt was made");
    });
}
