//! Rotation of tokens and of the server's secret, in any order on two nodes, against a plain model
//! of which secrets are good.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use support::{EMAIL, World, config, new};
use trustrelay_authority::*;
use trustrelay_token::{Token, Verifier};
use uuid::Uuid;

/// How many sequences are tried: at some 50 ms each, 3 s.
const CASES: u32 = 60;

#[derive(Debug, Clone, Copy)]
enum Step {
    Issue,
    Use,
    Rekey,
    Rotate {
        overlap: bool,
    },
    Revoke,
    /// The node restarts: with the next pair of secrets, or with the same in the other order.
    Restart {
        ahead: bool,
    },
}

fn step() -> impl Strategy<Value = (Step, bool, usize)> {
    let step = prop_oneof![
        2 => Just(Step::Issue),
        3 => Just(Step::Use),
        3 => Just(Step::Rekey),
        2 => any::<bool>().prop_map(|overlap| Step::Rotate { overlap }),
        1 => Just(Step::Revoke),
        2 => any::<bool>().prop_map(|ahead| Step::Restart { ahead }),
    ];
    (step, any::<bool>(), any::<usize>())
}

/// A secret of a token, and whether it is to be taken.
struct Known {
    pat_id: Uuid,
    token: Token,
    is_good: bool,
}

async fn node(world: &World, secrets: &[ServerSecret]) -> Arc<Authority> {
    let config = AuthorityConfig { adopt_newest_secret: true, lease: Duration::from_millis(200), ..config() };
    let node = Authority::open(world.store.clone(), secrets, world.clock.clone(), config).await;
    let node = node.expect("opens");
    node.start().await.expect("starts");
    node
}

async fn played(steps: &[(Step, bool, usize)]) {
    let world = World::new().await;
    world.authority.stop().await;
    let new_secret = ServerSecret::generate().expect("random");
    let behind = [world.secret.clone(), new_secret.clone()];
    let ahead = [new_secret, world.secret.clone()];
    let mut nodes = [node(&world, &behind).await, node(&world, &behind).await];
    let mut known: Vec<Known> = Vec::new();
    // Two tokens that both nodes have met under the old secret, and the first node is ahead: most
    // of what can go wrong begins so.
    let begun = [(Step::Issue, false, 0), (Step::Issue, true, 0), (Step::Restart { ahead: true }, false, 0)];
    for (step, second, which) in begun.iter().chain(steps) {
        let at = usize::from(*second);
        let on = nodes[at].clone();
        let one = if known.is_empty() { None } else { Some(which % known.len()) };
        match (step, one) {
            (Step::Issue, _) => {
                let made = on.issue_for(EMAIL, new("mcp")).await.expect("issued");
                known.push(Known { pat_id: made.record.pat_id, token: made.token, is_good: true });
            }
            (Step::Use, Some(one)) => {
                let verified = on.verify(known[one].token.clone()).wait().await;
                assert_eq!(verified.is_ok(), known[one].is_good);
            }
            (Step::Rekey, _) => on.flush_rekeys().await,
            (Step::Rotate { overlap }, Some(one)) => {
                let pat_id = known[one].pat_id;
                let length = Duration::from_secs(if *overlap { 3600 } else { 0 });
                let asked =
                    Rotate { overlap: Overlap::For(length), expiry: Expiry::Default, idempotency_key: None };
                let stands = known.iter().any(|known| known.pat_id == pat_id && known.is_good);
                let rotated = on.rotate_any(pat_id, asked).await;
                assert_eq!(rotated.is_ok(), stands);
                let Ok(rotated) = rotated else { continue };
                // Secrets of before the last end at once; the last one with its overlap.
                let mut of_it: Vec<_> = known.iter_mut().filter(|known| known.pat_id == pat_id).collect();
                let last = of_it.len() - 1;
                for (place, one) in of_it.iter_mut().enumerate() {
                    one.is_good = one.is_good && place == last && *overlap;
                }
                known.push(Known { pat_id, token: rotated.token, is_good: true });
            }
            (Step::Revoke, Some(one)) => {
                let pat_id = known[one].pat_id;
                on.revoke_any(pat_id).await.expect("revoked");
                known.iter_mut().filter(|known| known.pat_id == pat_id).for_each(|one| one.is_good = false);
            }
            (Step::Restart { ahead: is_ahead }, _) => {
                on.stop().await;
                nodes[at] = node(&world, if *is_ahead { &ahead } else { &behind }).await;
            }
            (_, None) => {}
        }
        for node in &nodes {
            for one in &known {
                let verified = node.verify(one.token.clone()).wait().await;
                assert_eq!(verified.is_ok(), one.is_good, "after {step:?}: {verified:?}");
            }
        }
    }
    for node in &nodes {
        node.stop().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_node_takes_the_secrets_that_are_good_and_no_others(steps in prop::collection::vec(step(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runs");
        runtime.block_on(played(&steps));
    }
}
