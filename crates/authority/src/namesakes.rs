//! Nodes with the same address. A session's id names the node that it lives on by that address
//! (`--node-url`), so of two nodes that have the same one, each takes the other's sessions for its
//! own: what a session holds open is then in two places. Nothing that the fence promises rests on
//! addresses, so nodes go on; but they say it.

use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::authority::Authority;
use crate::store::NodeRecord;

/// How often the nodes are looked at: one short question to the store.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The last look.
#[derive(Default)]
pub(crate) struct Namesakes(Mutex<Look>);

#[derive(Default)]
struct Look {
    /// When it was, since boot.
    at: Option<Duration>,
    /// Nodes with this one's address, and which claim of theirs was seen.
    seen: Vec<(Uuid, u64)>,
    /// What people call those that run.
    running: Vec<String>,
}

impl Look {
    /// Takes what another look has found. Whoever has renewed since the one before runs: the row of
    /// a node that died is there for a while, and says nothing against the one that was started in
    /// its place.
    fn take(&mut self, at: Duration, found: &[NodeRecord]) {
        let has_renewed = |node: &&NodeRecord| {
            self.seen.iter().any(|(node_id, claim)| *node_id == node.node_id && *claim != node.claim)
        };
        self.running = found.iter().filter(has_renewed).map(|node| node.name.clone()).collect();
        self.seen = found.iter().map(|node| (node.node_id, node.claim)).collect();
        self.at = Some(at);
    }
}

impl Authority {
    /// What people call the other nodes that run with this one's address, as of the last look.
    /// There should be none.
    pub fn namesakes(&self) -> Vec<String> {
        self.namesakes.0.lock().running.clone()
    }

    /// Looks now and then, and says what has changed.
    pub(crate) async fn look_for_namesakes(&self) {
        let Some(node_url) = self.config.node_url.as_deref() else { return };
        let now = self.clock.since_boot();
        if self.namesakes.0.lock().at.is_some_and(|at| now.saturating_sub(at) < LOOK_EVERY) {
            return;
        }
        // The next renewal comes after this and must not be held up.
        let asked = tokio::time::timeout(self.fence.length / 4, self.store.nodes()).await;
        let Ok(Ok(mut found)) = asked else { return };
        found.retain(|node| node.node_id != self.fence.node_id && node.url.as_deref() == Some(node_url));
        let (before, running) = {
            let mut look = self.namesakes.0.lock();
            let before = std::mem::take(&mut look.running);
            look.take(now, &found);
            (before, look.running.clone())
        };
        if running == before {
            return;
        }
        if running.is_empty() {
            tracing::info!(node_url, "no other node uses this node's --node-url any more");
        } else {
            let others = running.join(", ");
            tracing::error!(
                node_url,
                others,
                "other nodes use this node's --node-url; give each node its own, or MCP sessions go to the wrong node"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node_id: Uuid, claim: u64) -> NodeRecord {
        let (name, url) = (format!("node-{node_id}"), Some("http://a:1/".to_owned()));
        NodeRecord { node_id, name, url, claim, applied_seq: 0, lease_left: None }
    }

    #[test]
    fn only_a_node_that_renews_is_running() {
        let (dead, alive) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut look = Look::default();
        look.take(Duration::ZERO, &[node(dead, 5), node(alive, 5)]);
        assert!(look.running.is_empty(), "the first look says nothing: {:?}", look.running);
        for claim in [6, 9] {
            look.take(Duration::ZERO, &[node(dead, 5), node(alive, claim)]);
            assert_eq!(look.running, [format!("node-{alive}")]);
        }
        look.take(Duration::ZERO, &[node(dead, 5), node(alive, 9)]);
        assert!(look.running.is_empty(), "it has stopped");
        look.take(Duration::ZERO, &[]);
        assert!(look.running.is_empty() && look.seen.is_empty());
    }
}
