//! Stories of leases: who may answer from memory, and whom a revocation has to wait for.

use std::time::Duration;

use uuid::Uuid;

use super::kit::{added, at, issued};
use crate::record::UserRecord;
use crate::store::{Lease, Renewal, Store};

/// Longer than any story takes.
const LONG: Duration = Duration::from_secs(600);
/// How long a store may take to notice that a lease ran out: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn renew(store: &dyn Store, node_id: Uuid, applied_seq: u64, length: Duration) -> Renewal {
    store
        .renew_lease(&Lease { node_id, applied_seq, length, name: String::new(), cuts: Vec::new() })
        .await
        .expect("asks")
}

async fn behind(store: &dyn Store, seq: u64) -> u64 {
    store.nodes_behind(seq, None).await.expect("asks")
}

/// A change that makes an entry; its number.
async fn change(store: &dyn Store, ada: &UserRecord) -> u64 {
    let pat = issued(store, ada).await;
    store.revoke_pat(pat.pat_id, at(1)).await.expect("asks").expect("there").seq
}

/// A node that lacks an entry gets it instead of a lease.
pub async fn a_lease_is_held_at_the_head_alone(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let node = Uuid::now_v7();
    assert_eq!(renew(store, node, 0, LONG).await, Renewal::Held);
    let seq = change(store, &ada).await;
    let Renewal::Behind(missing) = renew(store, node, 0, LONG).await else { panic!("held behind the head") };
    assert_eq!(missing.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [seq]);
    assert_eq!(renew(store, node, seq, LONG).await, Renewal::Held);
    let late = Uuid::now_v7();
    assert!(matches!(renew(store, late, 0, LONG).await, Renewal::Behind(_)));
    assert_eq!(behind(store, seq).await, 0, "who was refused its first lease is not waited for");
}

/// The one who waits leaves itself out: it has applied the entry, and not yet said so.
pub async fn whoever_holds_a_lease_and_lacks_the_entry_is_behind(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(behind(store, 1).await, 0);
    renew(store, one, 0, LONG).await;
    renew(store, two, 0, LONG).await;
    assert_eq!(behind(store, 0).await, 0);
    let seq = change(store, &ada).await;
    assert_eq!(behind(store, seq).await, 2);
    assert_eq!(store.nodes_behind(seq, Some(one)).await.expect("asks"), 1);
    assert_eq!(store.nodes_behind(seq, Some(Uuid::now_v7())).await.expect("asks"), 2);
    renew(store, one, seq, LONG).await;
    assert_eq!(behind(store, seq).await, 1);
    assert_eq!(store.nodes_behind(seq, Some(two)).await.expect("asks"), 0);
    renew(store, two, seq, LONG).await;
    assert_eq!(behind(store, seq).await, 0);
    let next = change(store, &ada).await;
    assert_eq!((behind(store, seq).await, behind(store, next).await), (0, 2));
}

/// Whoever is told that it is behind still holds what it held: until then it answers from its index.
pub async fn a_refused_renewal_leaves_the_lease_as_it_was(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let node = Uuid::now_v7();
    renew(store, node, 0, LONG).await;
    let seq = change(store, &ada).await;
    assert!(matches!(renew(store, node, 0, Duration::ZERO).await, Renewal::Behind(_)));
    assert_eq!(behind(store, seq).await, 1);
    assert!(matches!(renew(store, node, 0, LONG).await, Renewal::Behind(_)));
    assert_eq!(behind(store, seq).await, 1, "reading an entry is not applying it");
}

/// Those who run it see who is there, and how far each is.
pub async fn nodes_are_listed_with_what_is_left_of_their_lease(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let lease = |name: &str, length| Lease {
        node_id: Uuid::now_v7(),
        applied_seq: 0,
        length,
        name: name.into(),
        cuts: Vec::new(),
    };
    let (b, a) = (lease("b:8080", LONG), lease("a:8080", LONG));
    for lease in [&b, &a] {
        store.renew_lease(lease).await.expect("asks");
    }
    change(store, &ada).await;
    let nodes = store.nodes().await.expect("asks");
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a:8080", "b:8080"]);
    assert_eq!(nodes[0].node_id, a.node_id);
    assert!(nodes.iter().all(|node| node.applied_seq == 0));
    assert!(nodes.iter().all(|node| node.lease_left.is_some_and(|left| left > LONG / 2 && left <= LONG)));
    store.end_lease(a.node_id).await.expect("ends");
    assert_eq!(store.nodes().await.expect("asks").len(), 1);
}

/// What a revocation has cut on other nodes is in its answer.
pub async fn cuts_are_added_up_over_the_other_nodes(store: &dyn Store) {
    let lease = |cuts: &[(u64, u64)]| Lease {
        node_id: Uuid::now_v7(),
        applied_seq: 0,
        length: LONG,
        name: String::new(),
        cuts: cuts.to_vec(),
    };
    let (one, two) = (lease(&[(1, 3), (2, 5)]), lease(&[(1, 4)]));
    for lease in [&one, &two, &one] {
        assert_eq!(store.renew_lease(lease).await.expect("asks"), Renewal::Held);
    }
    let cuts = async |seq, except| store.cuts(seq, except).await.expect("asks");
    assert_eq!((cuts(1, None).await, cuts(2, None).await, cuts(3, None).await), (7, 5, 0));
    assert_eq!(cuts(1, Some(one.node_id)).await, 4);
}

/// A server that stops holds nobody up.
pub async fn a_lease_that_is_given_up_counts_no_more(store: &dyn Store) {
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    renew(store, one, 0, LONG).await;
    renew(store, two, 0, LONG).await;
    store.end_lease(one).await.expect("ended");
    assert_eq!(behind(store, 1).await, 1);
    store.end_lease(one).await.expect("there is none any more, which is as good");
    store.end_lease(Uuid::now_v7()).await.expect("there never was one");
    assert_eq!(behind(store, 1).await, 1);
    renew(store, one, 0, LONG).await;
    assert_eq!(behind(store, 1).await, 2, "and it may come back");
}

/// A node that died is waited for until its lease is over, by the store's own clock, and no longer.
pub async fn a_lease_runs_out_by_itself(store: &dyn Store) {
    let (short, long) = (Uuid::now_v7(), Uuid::now_v7());
    renew(store, long, 0, LONG).await;
    assert_eq!(renew(store, short, 0, Duration::ZERO).await, Renewal::Held);
    assert_eq!(behind(store, 1).await, 1, "a lease of no length is over");
    renew(store, short, 0, Duration::from_secs(2)).await;
    assert_eq!(behind(store, 1).await, 2);
    let over = async {
        while behind(store, 1).await > 1 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, over).await.is_ok(), "the lease never ran out");
    assert_eq!(behind(store, 1).await, 1, "the other one holds on");
}

/// What counts is the last claim.
pub async fn a_renewal_lengthens_and_a_shorter_one_shortens(store: &dyn Store) {
    let node = Uuid::now_v7();
    renew(store, node, 0, Duration::ZERO).await;
    renew(store, node, 0, LONG).await;
    assert_eq!(behind(store, 1).await, 1);
    renew(store, node, 0, Duration::ZERO).await;
    assert_eq!(behind(store, 1).await, 0);
}
