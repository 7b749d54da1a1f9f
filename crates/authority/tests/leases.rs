//! Stories of leases: for how long a revocation waits for a silent node, by which clock, and what a
//! process does that holds none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::{EMAIL, World, config, until};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use trustrelay_authority::*;
use trustrelay_token::{Denied, TokenDigest, Verifier};
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
/// So long that whoever waits has looked many times.
const A_WHILE: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(2);

/// A node that took a lease and died.
async fn dead(world: &World, length: Duration) -> Uuid {
    let lease = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq: world.store.log_head().await.expect("asks"),
        length,
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    assert_eq!(world.store.renew_lease(&lease).await.expect("asks"), Renewal::Held);
    lease.node_id
}

async fn holds(world: &World, node_id: Uuid) -> bool {
    let holders = world.store.holders_behind(u64::MAX, None).await.expect("asks");
    holders.iter().any(|holder| holder.node_id == node_id)
}

fn revoking(by: &Arc<Authority>, issued: &Issued) -> JoinHandle<Result<Revoked, AuthorityError>> {
    let (by, pat_id) = (by.clone(), issued.record.pat_id);
    tokio::spawn(async move { by.revoke_any(pat_id).await })
}

/// Ends something of every token that it is told of.
#[derive(Default)]
struct Counting(AtomicU64);

impl Cut for Counting {
    fn cut_token(&self, _: Uuid) -> Vec<u64> {
        vec![self.0.fetch_add(1, Ordering::SeqCst)]
    }

    fn cut_user(&self, _: Uuid) -> Vec<u64> {
        vec![self.0.fetch_add(1, Ordering::SeqCst)]
    }

    fn cut_secret(&self, _: Uuid, _: &TokenDigest) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst);
        1
    }

    fn cut_from_elsewhere(&self, _: Option<AllowsFrom>) -> usize {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_dead_node_goes_by_their_own_clock_alone() {
    let world = World::new().await;
    let (one, two) = (world.token("mcp").await, world.token("mcp").await);
    let dead = dead(&world, LEASE).await;
    let revoking = revoking(&world.authority, &one);
    // The store's clock is set, ahead and back, and time goes by elsewhere: nobody is misled by it.
    for jump in [3_600_000_000, -7_200_000_000] {
        world.store.set_clock(jump);
        sleep(A_WHILE).await;
        assert!(!revoking.is_finished());
    }
    world.clock.advance(LEASE - Duration::from_micros(1));
    sleep(A_WHILE).await;
    assert!(!revoking.is_finished(), "it may trust its index for as long as this");
    assert!(holds(&world, dead).await);
    world.clock.advance(Duration::from_micros(1));
    revoking.await.expect("joins").expect("revoked");
    assert!(!holds(&world, dead).await, "it is let go");
    // The clock stands still: who would wait for it again would wait for ever.
    world.authority.revoke_any(two.record.pat_id).await.expect("nobody is delayed again");
}

/// Of what it measures, nothing is from before the look.
#[tokio::test(start_paused = true)]
async fn time_that_went_by_before_the_look_counts_for_nothing() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    dead(&world, LEASE).await;
    world.clock.advance(HOUR);
    let revoking = revoking(&world.command().await, &issued);
    sleep(A_WHILE).await;
    assert!(!revoking.is_finished(), "nobody has seen that it is silent");
    world.clock.advance(LEASE);
    revoking.await.expect("joins").expect("revoked");
}

/// The long lease is confirmed, the short one is waited for: the answer does not wait for the long
/// one's length.
#[tokio::test(start_paused = true)]
async fn of_several_each_is_waited_for_as_long_as_its_own_lease() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    dead(&world, LEASE).await;
    let alive = dead(&world, MAX_LEASE).await;
    let revoking = revoking(&world.command().await, &issued);
    sleep(A_WHILE).await;
    world.clock.advance(LEASE);
    sleep(A_WHILE).await;
    assert!(!revoking.is_finished(), "one has not confirmed it");
    let claim = Lease {
        node_id: alive,
        claim: 2,
        applied_seq: 1,
        length: MAX_LEASE,
        name: String::new(),
        url: None,
        cuts: vec![(1, Terminated { sessions: vec![7, 8, 9], requests: 0 })],
    };
    assert_eq!(world.store.renew_lease(&claim).await.expect("asks"), Renewal::Held);
    let revoked = revoking.await.expect("joins").expect("revoked");
    assert_eq!(revoked.sessions_terminated, 3);
    assert!(holds(&world, alive).await, "who has confirmed it is not let go");
}

#[tokio::test(start_paused = true)]
async fn the_second_who_waits_is_answered_no_later_than_the_first() {
    let world = World::new().await;
    let (one, two) = (world.token("mcp").await, world.token("mcp").await);
    dead(&world, LEASE).await;
    let first = revoking(&world.authority, &one);
    sleep(A_WHILE).await;
    world.clock.advance(LEASE / 2);
    let second = revoking(&world.command().await, &two);
    let again = revoking(&world.authority, &one);
    sleep(A_WHILE).await;
    world.clock.advance(LEASE / 2);
    for done in [first, second, again] {
        done.await.expect("joins").expect("what one has let go, the others need not wait for");
    }
}

/// Each of those who use the new secret at the same time waits, and also who finds the old one
/// ended.
#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_by_a_first_use_while_a_node_may_take_the_old_secret() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let id = PatRef::Id(issued.record.pat_id);
    let asked = Rotate { overlap: Overlap::UntilFirstUse, expiry: Expiry::Default, idempotency_key: None };
    let rotated = world.authority.rotate(&world.browser().await, id, asked).await.expect("rotated");
    dead(&world, LEASE).await;
    // By a node, and by one that has no lease and asks the store each time.
    let by = [&world.authority, &world.authority, &world.command().await].map(Arc::clone);
    let using = by.map(|by| {
        let token = rotated.token.clone();
        tokio::spawn(async move { by.verify(token).wait().await })
    });
    sleep(A_WHILE).await;
    assert!(using.iter().all(|using| !using.is_finished()), "the dead node may still take the old secret");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Retired(_))), "here it has ended");
    world.clock.advance(LEASE);
    for using in using {
        using.await.expect("joins").expect("good");
    }
}

/// Such as of a program that allows more; nobody here takes one.
#[tokio::test(start_paused = true)]
async fn a_lease_longer_than_there_may_be_is_waited_for_until_somebody_should_look_and_never_ignored() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    // Else it would let go of it in the end, as of others.
    world.authority.stop().await;
    let odd = dead(&world, MAX_LEASE + Duration::from_secs(1)).await;
    let by = world.command().await;
    for _ in 0..2 {
        let refused = revoking(&by, &issued);
        sleep(A_WHILE).await;
        world.clock.advance(MAX_LEASE);
        sleep(A_WHILE).await;
        assert!(!refused.is_finished());
        world.clock.advance(Duration::from_micros(1));
        let refused = refused.await.expect("joins");
        assert!(matches!(refused, Err(AuthorityError::Unavailable(_))), "{refused:?}");
        assert!(holds(&world, odd).await);
    }
    let long = World::with(AuthorityConfig { lease: HOUR, ..config() }).await;
    let holders = long.store.holders_behind(u64::MAX, None).await.expect("asks");
    assert_eq!(holders.iter().map(|holder| holder.length).collect::<Vec<_>>(), [MAX_LEASE]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_died_is_let_go_by_those_that_live() {
    let world = World::new().await;
    let dead = dead(&world, LEASE).await;
    let mine = world.authority.node_id();
    for _ in 0..20 {
        sleep(A_WHILE).await;
        assert!(holds(&world, dead).await, "the clock stands still");
    }
    let begun = world.clock.since_boot();
    while holds(&world, dead).await {
        world.clock.advance(Duration::from_millis(100));
        sleep(Duration::from_millis(150)).await;
        assert!(world.clock.since_boot() < begun + HOUR, "it is never let go");
    }
    let waited = world.clock.since_boot() - begun;
    assert!(waited >= LEASE, "{waited:?}");
    assert!(holds(&world, mine).await, "and nobody lets go of who renews");
}

#[tokio::test]
async fn a_server_that_has_stopped_ends_what_is_open_there_when_it_revokes() {
    let world = World::new().await;
    let (here, there) = (world.token("mcp").await, world.token("mcp").await);
    world.authority.set_cut(Arc::new(Counting::default()));
    let open = world.verify(&here.token).await.expect("good");
    world.authority.stop().await;
    world.command().await.revoke_any(there.record.pat_id).await.expect("meanwhile, elsewhere");
    let revoked = world.authority.revoke_any(here.record.pat_id).await.expect("revoked");
    assert_eq!(revoked.sessions_terminated, 1);
    assert!(!open.stands());
    assert!(!world.authority.holds_lease(), "and it takes no lease for that");
    let disabled = world.authority.set_disabled(EMAIL, true).await.expect("disabled");
    assert_eq!(disabled, 1);
}

#[tokio::test]
async fn a_server_that_has_not_started_ends_what_is_open_there_when_it_revokes() {
    let world = World::new().await;
    let (issued, other) = (world.token("mcp").await, world.token("mcp").await);
    let early = world.command().await;
    early.set_cut(Arc::new(Counting::default()));
    let nothing = early.revoke_any(other.record.pat_id).await.expect("revoked");
    assert_eq!(nothing.sessions_terminated, 0, "it has verified nothing, and so has nothing open");
    let open = early.verify(issued.token.clone()).wait().await.expect("asks the store");
    let revoked = early.revoke_any(issued.record.pat_id).await.expect("revoked");
    assert_eq!(revoked.sessions_terminated, 1);
    assert!(!open.stands());
    let head = world.store.log_head().await.expect("asks");
    assert!(
        world.store.holders_behind(head + 1, Some(world.authority.node_id())).await.expect("asks").is_empty()
    );
    early.start().await.expect("starts");
    assert!(matches!(early.verify(issued.token).wait().await, Err(Denied::Revoked(_))));
}

#[tokio::test]
async fn an_authority_that_nobody_uses_any_more_ends_with_its_tasks() {
    let world = World::new().await;
    let weak = Arc::downgrade(&world.authority);
    let World { store, authority, .. } = world;
    let mine = authority.node_id();
    drop(authority);
    until("nothing holds it", || weak.strong_count() == 0).await;
    until("nor what it was opened over", || Arc::strong_count(&store) == 1).await;
    let held = store.holders_behind(u64::MAX, None).await.expect("asks");
    assert_eq!(
        held.iter().map(|holder| holder.node_id).collect::<Vec<_>>(),
        [mine],
        "it is as if it had died"
    );
}
