//! The whole protocol: every schedule is gone through, and none breaks the promise.

use stateright::{Checker, Model};
use trustrelay_fence_model::{Fence, NODES, REVOCATIONS};

fn every_schedule_holds(fence: Fence) {
    let checker = fence.checker().threads(2).spawn_bfs().join();
    // The promise in all states; and that each of what should be seen was seen.
    checker.assert_properties();
}

#[test]
fn three_nodes_and_two_revocations() {
    every_schedule_holds(Fence {
        nodes: NODES,
        revocations: REVOCATIONS,
        lease: 2,
        margin: 1,
        without: None,
    });
}

#[test]
fn two_nodes_with_a_longer_lease() {
    every_schedule_holds(Fence { nodes: 2, revocations: REVOCATIONS, lease: 3, margin: 1, without: None });
}

#[test]
fn two_nodes_with_a_longer_lease_and_margin() {
    every_schedule_holds(Fence { nodes: 2, revocations: REVOCATIONS, lease: 4, margin: 2, without: None });
}
