//! Stories of what takes less than a whole token away: a secret, an upstream, a network. Each ends
//! what it holds open, as a revocation does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use support::{World, config};
use trustrelay_authority::*;
use trustrelay_token::{Denied, Principal, Token, TokenDigest, Verifier};
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// Waits in time that goes on only when nothing else does.
async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain: {what}");
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    Secret(Uuid, TokenDigest),
    User(Uuid),
    /// Whether [`HERE`] is elsewhere.
    Elsewhere(bool),
}

/// Keeps what it was told to cut, and whether the principal that was held stood by then.
#[derive(Default)]
struct Cuts {
    told: Mutex<Vec<(Ended, bool)>>,
    held: Mutex<Option<Arc<Principal>>>,
}

impl Cuts {
    fn note(&self, ended: Ended) -> usize {
        let stood = self.held.lock().as_ref().is_some_and(|held| held.stands());
        self.told.lock().push((ended, stood));
        1
    }

    fn take(&self) -> Vec<(Ended, bool)> {
        std::mem::take(&mut self.told.lock())
    }
}

impl Cut for Cuts {
    fn cut_token(&self, _: Uuid) -> Vec<u64> {
        Vec::new()
    }

    fn cut_user(&self, user_id: Uuid) -> Vec<u64> {
        self.note(Ended::User(user_id));
        Vec::new()
    }

    fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> usize {
        self.note(Ended::Secret(pat_id, *digest))
    }

    fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> usize {
        self.note(Ended::Elsewhere(allows.is_some_and(|allows| !allows(Some(HERE)))))
    }
}

struct Open {
    world: World,
    cuts: Arc<Cuts>,
    pat: PatRecord,
    principal: Arc<Principal>,
}

impl Open {
    /// Somebody who holds something open with a token.
    async fn new() -> Self {
        let (world, cuts) = (World::new().await, Arc::<Cuts>::default());
        world.authority.set_cut(cuts.clone());
        let issued = world.token("mcp api").await;
        let principal = world.verify(&issued.token).await.expect("good");
        *cuts.held.lock() = Some(Arc::clone(&principal));
        Self { world, cuts, pat: issued.record, principal }
    }

    fn old_secret(&self) -> Ended {
        Ended::Secret(self.pat.pat_id, self.pat.digest)
    }

    async fn rotate(&self, overlap: Overlap) -> Token {
        let asked = Rotate { overlap, expiry: Expiry::Default, idempotency_key: None };
        let by = self.world.browser().await;
        self.world.authority.rotate(&by, PatRef::Id(self.pat.pat_id), asked).await.expect("rotated").token
    }

    /// Whether something of it may be handed on at this moment.
    fn hands_on(&self) -> bool {
        let look = self.world.authority.look();
        look.holds && self.principal.stands() && !self.principal.has_expired_by(look.now)
    }
}

#[tokio::test]
async fn a_rotation_without_overlap_has_ended_what_the_old_secret_holds_open_when_it_is_answered() {
    let open = Open::new().await;
    open.rotate(Overlap::For(Duration::ZERO)).await;
    assert_eq!(
        open.cuts.take(),
        [(open.old_secret(), false)],
        "its standing ends first, and it is cut second"
    );
}

#[tokio::test]
async fn the_first_use_of_the_new_secret_ends_what_the_old_one_holds_open() {
    let open = Open::new().await;
    let token = open.rotate(Overlap::UntilFirstUse).await;
    assert_eq!(open.cuts.take(), []);
    assert!(open.hands_on());
    open.world.verify(&token).await.expect("good");
    assert_eq!(open.cuts.take(), [(open.old_secret(), false)]);
}

#[tokio::test]
async fn a_second_rotation_ends_what_the_secret_before_the_last_holds_open() {
    let open = Open::new().await;
    open.rotate(Overlap::For(HOUR)).await;
    assert_eq!(open.cuts.take(), []);
    open.rotate(Overlap::For(HOUR)).await;
    assert_eq!(open.cuts.take(), [(open.old_secret(), false)]);
}

#[tokio::test(start_paused = true)]
async fn an_overlap_that_is_over_ends_what_the_old_secret_holds_open() {
    let open = Open::new().await;
    open.rotate(Overlap::For(HOUR)).await;
    open.world.clock.advance(HOUR);
    until("the node holds its lease again", || open.world.authority.holds_lease()).await;
    assert!(!open.hands_on());
    assert_eq!(open.cuts.take(), [(open.old_secret(), false)]);
}

/// The lease returns with a renewal that began before the overlap was over.
#[tokio::test(start_paused = true)]
async fn the_gate_does_not_open_before_what_is_over_has_ended() {
    for expires in [false, true] {
        let open = Open::new().await;
        let lives = if expires {
            open.pat.expires_at.duration_since(open.world.clock.now()).unsigned_abs()
        } else {
            open.rotate(Overlap::For(HOUR)).await;
            HOUR
        };
        let before = open.world.store.before_renewal.held();
        open.world.store.before_renewal.close();
        until("a renewal is held up", || open.world.store.before_renewal.held() > before).await;
        open.world.clock.advance(config().lease);
        assert!(!open.hands_on(), "without a lease nothing is");
        open.world.clock.advance(lives);
        open.world.store.before_renewal.open();
        until("it holds its lease again", || {
            assert!(!open.hands_on(), "expires: {expires}");
            open.world.authority.holds_lease()
        })
        .await;
        assert!(!open.hands_on(), "expires: {expires}");
    }
}

/// Between two renewals, with the lease held: the end is exact.
#[tokio::test(start_paused = true)]
async fn nothing_is_handed_on_from_the_moment_on_at_which_the_overlap_is_over() {
    let open = Open::new().await;
    open.rotate(Overlap::For(Duration::from_secs(60))).await;
    let step = config().lease / 8;
    let mut left = Duration::from_secs(60);
    while left > step {
        open.world.clock.advance(step);
        left -= step;
        until("the lease is held", || open.world.authority.holds_lease()).await;
    }
    open.world.clock.advance(left - Duration::from_micros(1));
    until("the lease is held", || open.world.authority.holds_lease()).await;
    assert!(open.hands_on(), "one microsecond is left");
    open.world.clock.advance(Duration::from_micros(1));
    assert!(open.world.authority.holds_lease() && !open.hands_on(), "no renewal has come between");
}

#[tokio::test]
async fn an_upstream_that_is_taken_away_ends_what_the_account_holds_open() {
    let open = Open::new().await;
    let before = open.principal.upstreams.narrowings();
    let root = open.world.authority.add_account(NewAccount {
        email: "root@example.org".into(),
        password: zeroize::Zeroizing::new(support::PASSWORD.to_owned()),
        is_admin: true,
    });
    root.await.expect("added");
    let (cookie, _) = open
        .world
        .authority
        .login("root@example.org", support::PASSWORD.into(), None)
        .await
        .expect("signs in");
    let principal = open.world.authority.authenticate_session(cookie.expose()).await.expect("asks");
    let by = By::new(Arc::new(principal.expect("stands")), None);
    let user_id = open.pat.user_id;
    let change = PersonChange::Upstreams(Some(vec!["wiki".to_owned()]));
    open.world.authority.change_person(&by, user_id, change).await.expect("changed");
    assert_eq!(open.cuts.take(), [(Ended::User(user_id), true)]);
    assert_ne!(open.principal.upstreams.narrowings(), before, "told before it is cut");

    let policy = Policy { networks: vec!["10.0.0.0/8".parse().expect("a network")], ..Policy::default() };
    assert!(open.world.authority.admits_from(Some(HERE)));
    let change = PolicyChange { policy, ..PolicyChange::default() };
    open.world.authority.change_policy(&by, change).await.expect("changed");
    assert_eq!(open.cuts.take(), [(Ended::Elsewhere(true), true)]);
    assert!(!open.world.authority.admits_from(Some(HERE)) && !open.world.authority.admits_from(None));
    let change = PolicyChange::default();
    open.world.authority.change_policy(&by, change).await.expect("changed");
    assert_eq!(open.cuts.take(), [(Ended::Elsewhere(false), true)]);
    assert!(open.world.authority.admits_from(None));
}

/// Another node over the same store, whose wall clock is behind.
async fn behind(world: &World, by: Duration) -> Arc<Authority> {
    let now = world.clock.now() - jiff::SignedDuration::try_from(by).expect("short");
    let clock = Arc::new(ManualClock::at(now));
    let secrets = std::slice::from_ref(&world.secret);
    let node = Authority::open(world.store.clone(), secrets, clock, config()).await.expect("opens");
    node.start().await.expect("starts");
    node
}

/// Whether it has the token in memory or asks the store, with a lease and without one.
#[tokio::test(start_paused = true)]
async fn no_clock_that_is_behind_takes_a_secret_that_has_ended() {
    for by in [Duration::from_millis(500), HOUR] {
        for overlap in [Overlap::For(Duration::ZERO), Overlap::UntilFirstUse, Overlap::For(HOUR / 2)] {
            let world = World::new().await;
            let slow = behind(&world, by).await;
            let issued = world.token("mcp").await;
            let warm = slow.verify(issued.token.clone()).wait().await.expect("warm");
            let asked = Rotate { overlap, expiry: Expiry::Default, idempotency_key: None };
            let id = PatRef::Id(issued.record.pat_id);
            let rotated = world.authority.rotate(&world.browser().await, id, asked).await.expect("rotated");
            match overlap {
                Overlap::UntilFirstUse => drop(world.verify(&rotated.token).await.expect("good")),
                // By the first clock that says so.
                Overlap::For(left) if !left.is_zero() => {
                    slow.verify(issued.token.clone()).wait().await.expect("good for a while yet");
                    world.clock.advance(left);
                    until("it is marked", || !warm.stands()).await;
                }
                Overlap::For(_) => {}
            }
            assert!(!warm.stands(), "{overlap:?}, {by:?}");
            let refused = slow.verify(issued.token.clone()).wait().await;
            assert!(matches!(refused, Err(Denied::Retired(_))), "{overlap:?}, {by:?}: {refused:?}");
            slow.stop().await;
            let refused = slow.verify(issued.token.clone()).wait().await;
            assert!(matches!(refused, Err(Denied::Retired(_))), "without a lease, {overlap:?}, {by:?}");
        }
    }
}
