//! Stories of leases: who may answer from memory, and whom a revocation has to wait for.

use std::time::Duration;

use uuid::Uuid;

use super::kit::{AUDIT, added, at, issued};
use crate::record::UserRecord;
use crate::store::{Holder, Lease, Renewal, Store, Terminated};

/// Longer than any story takes.
const LONG: Duration = Duration::from_secs(600);
fn claim(node_id: Uuid, claim: u64, applied_seq: u64) -> Lease {
    Lease { node_id, claim, applied_seq, length: LONG, name: String::new(), url: None, cuts: Vec::new() }
}

async fn renew(store: &dyn Store, node_id: Uuid, applied_seq: u64) -> Renewal {
    store.renew_lease(&claim(node_id, 1, applied_seq)).await.expect("asks")
}

async fn held(store: &dyn Store, claim: &Lease) {
    assert_eq!(store.renew_lease(claim).await.expect("asks"), Renewal::Held);
}

async fn holders(store: &dyn Store, seq: u64) -> Vec<Holder> {
    store.holders_behind(seq, None).await.expect("asks")
}

async fn behind(store: &dyn Store, seq: u64) -> usize {
    holders(store, seq).await.len()
}

/// A change that makes an entry; its number.
async fn change(store: &dyn Store, ada: &UserRecord) -> u64 {
    let pat = issued(store, ada).await;
    store.revoke_pat(pat.pat_id, at(1), &AUDIT).await.expect("asks").expect("there").seq
}

/// A node that lacks an entry gets it instead of a lease.
pub async fn a_lease_is_held_at_the_head_alone(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let node = Uuid::now_v7();
    assert_eq!(renew(store, node, 0).await, Renewal::Held);
    let seq = change(store, &ada).await;
    let Renewal::Behind(missing) = renew(store, node, 0).await else { panic!("held behind the head") };
    assert_eq!(missing.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [seq]);
    assert_eq!(renew(store, node, seq).await, Renewal::Held);
    let late = Uuid::now_v7();
    assert!(matches!(renew(store, late, 0).await, Renewal::Behind(_)));
    assert_eq!(behind(store, seq).await, 0, "who was refused its first lease is not waited for");
}

/// The one who waits leaves itself out: it has applied the entry, and not yet said so.
pub async fn whoever_holds_a_lease_and_lacks_the_entry_is_behind(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(behind(store, 1).await, 0);
    renew(store, one, 0).await;
    renew(store, two, 0).await;
    assert_eq!(behind(store, 0).await, 0);
    let seq = change(store, &ada).await;
    assert_eq!(behind(store, seq).await, 2);
    assert_eq!(store.holders_behind(seq, Some(one)).await.expect("asks").len(), 1);
    assert_eq!(store.holders_behind(seq, Some(Uuid::now_v7())).await.expect("asks").len(), 2);
    renew(store, one, seq).await;
    assert_eq!(behind(store, seq).await, 1);
    assert_eq!(store.holders_behind(seq, Some(two)).await.expect("asks").len(), 0);
    renew(store, two, seq).await;
    assert_eq!(behind(store, seq).await, 0);
    let next = change(store, &ada).await;
    assert_eq!((behind(store, seq).await, behind(store, next).await), (0, 2));
}

/// Whoever is told that it is behind still holds what it held: until then it answers from its
/// index.
pub async fn a_refused_renewal_leaves_the_lease_as_it_was(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let node = Uuid::now_v7();
    renew(store, node, 0).await;
    let seq = change(store, &ada).await;
    assert!(matches!(renew(store, node, 0).await, Renewal::Behind(_)));
    assert_eq!(behind(store, seq).await, 1);
    assert!(matches!(renew(store, node, 0).await, Renewal::Behind(_)));
    assert_eq!(behind(store, seq).await, 1, "reading an entry is not applying it");
}

/// Those who run it see who is there, and how far each is.
pub async fn nodes_are_listed_with_what_is_left_of_their_lease(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let lease = |name: &str, url: Option<&str>| Lease {
        name: name.into(),
        url: url.map(Into::into),
        ..claim(Uuid::now_v7(), 7, 0)
    };
    let (b, a) = (lease("b:8080", None), lease("a:8080", Some("http://a:8080/")));
    for lease in [&b, &a] {
        store.renew_lease(lease).await.expect("asks");
    }
    change(store, &ada).await;
    let nodes = store.nodes().await.expect("asks");
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a:8080", "b:8080"]);
    assert_eq!(nodes[0].node_id, a.node_id);
    assert_eq!(
        nodes.iter().map(|node| node.url.as_deref()).collect::<Vec<_>>(),
        [Some("http://a:8080/"), None]
    );
    assert!(nodes.iter().all(|node| node.claim == 7), "{nodes:?}");
    assert!(nodes.iter().all(|node| node.applied_seq == 0));
    assert!(nodes.iter().all(|node| node.lease_left.is_some_and(|left| left > LONG / 2 && left <= LONG)));
    store.end_lease(a.node_id).await.expect("ends");
    assert_eq!(store.nodes().await.expect("asks").len(), 1);
}

/// What a revocation has ended on other nodes is in its answer. A session that was open on two of
/// them is one.
pub async fn what_was_ended_on_the_other_nodes_is_known(store: &dyn Store) {
    let ended = |sessions: &[u64], requests| Terminated { sessions: sessions.to_vec(), requests };
    let lease = |cuts: &[(u64, Terminated)]| Lease { cuts: cuts.to_vec(), ..claim(Uuid::now_v7(), 1, 0) };
    let one = lease(&[(1, ended(&[1, u64::MAX, 3], 0)), (2, ended(&[1], 5)), (4, ended(&[], 2))]);
    let two = lease(&[(1, ended(&[u64::MAX, 5], 4))]);
    for lease in [&one, &two, &one] {
        assert_eq!(store.renew_lease(lease).await.expect("asks"), Renewal::Held);
    }
    let cuts = async |seq, except| {
        let mut ended = store.cuts(seq, except).await.expect("asks");
        ended.sessions.sort_unstable();
        ended
    };
    let both = cuts(1, None).await;
    assert_eq!((both.count(), &both), (8, &ended(&[1, 3, 5, u64::MAX, u64::MAX], 4)));
    assert_eq!(cuts(1, Some(one.node_id)).await, ended(&[5, u64::MAX], 4));
    assert_eq!((cuts(2, None).await, cuts(3, None).await), (ended(&[1], 5), Terminated::default()));
    assert_eq!(
        (cuts(4, None).await, cuts(4, Some(one.node_id)).await),
        (ended(&[], 2), Terminated::default())
    );
}

/// A server that stops holds nobody up.
pub async fn a_lease_that_is_given_up_counts_no_more(store: &dyn Store) {
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    renew(store, one, 0).await;
    renew(store, two, 0).await;
    store.end_lease(one).await.expect("ended");
    assert_eq!(behind(store, 1).await, 1);
    store.end_lease(one).await.expect("there is none any more, which is as good");
    store.end_lease(Uuid::now_v7()).await.expect("there never was one");
    assert_eq!(behind(store, 1).await, 1);
    renew(store, one, 0).await;
    assert_eq!(behind(store, 1).await, 2, "and it may come back");
}

/// No clock of the store's ends it: the store may be wrong about the time, and whoever waits is
/// not.
pub async fn a_lease_is_held_until_it_is_let_go(store: &dyn Store) {
    let (dead, alive) = (Uuid::now_v7(), Uuid::now_v7());
    held(store, &Lease { length: Duration::from_micros(1), ..claim(dead, 1, 0) }).await;
    held(store, &claim(alive, 1, 0)).await;
    // By the store's clock it is over; others renew theirs meanwhile.
    let is_over = async || {
        let nodes = store.nodes().await.expect("asks");
        nodes.iter().all(|node| node.node_id != dead || node.lease_left.is_none())
    };
    while !is_over().await {
        tokio::task::yield_now().await;
    }
    held(store, &claim(alive, 2, 0)).await;
    let found = holders(store, 1).await;
    assert_eq!(found.len(), 2, "{found:?}");
    let over: Vec<_> = found.into_iter().filter(|holder| holder.node_id == dead).collect();
    store.let_go(&over).await.expect("lets go");
    store.let_go(&over).await.expect("which is as good when it is done");
    store.let_go(&[]).await.expect("nothing is asked for");
    assert!(holders(store, 1).await.iter().all(|holder| holder.node_id == alive), "the other one holds on");
    assert_eq!(behind(store, 1).await, 1);
}

/// It was silent for long, and came back just now.
pub async fn letting_go_spares_who_has_renewed_since(store: &dyn Store) {
    let (quick, slow) = (Uuid::now_v7(), Uuid::now_v7());
    held(store, &claim(quick, 1, 0)).await;
    held(store, &claim(slow, 1, 0)).await;
    let found = holders(store, 1).await;
    held(store, &claim(quick, 2, 0)).await;
    store.let_go(&found).await.expect("lets go");
    let left = holders(store, 1).await;
    assert_eq!(left, [Holder { node_id: quick, claim: 2, length: LONG }]);
    let stranger = Holder { node_id: Uuid::now_v7(), claim: 2, length: LONG };
    store.let_go(&[stranger]).await.expect("there is no such node");
    assert_eq!(holders(store, 1).await, left);
}

/// It is brought up to date first, like any other.
pub async fn whoever_was_let_go_takes_its_lease_again_at_the_head_alone(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let node = Uuid::now_v7();
    held(store, &claim(node, 1, 0)).await;
    let seq = change(store, &ada).await;
    store.let_go(&holders(store, seq).await).await.expect("lets go");
    assert!(store.nodes().await.expect("asks").iter().all(|node| node.lease_left.is_none()));
    assert!(matches!(store.renew_lease(&claim(node, 2, 0)).await.expect("asks"), Renewal::Behind(_)));
    assert_eq!(behind(store, u64::MAX).await, 0, "who was refused holds nothing");
    held(store, &claim(node, 3, seq)).await;
    assert_eq!((behind(store, seq).await, behind(store, seq + 1).await), (0, 1));
}

/// Whoever waits goes by that: from the look on, that long at most.
pub async fn a_look_says_which_claim_holds_and_for_how_long(store: &dyn Store) {
    let node_id = Uuid::now_v7();
    for (number, length) in [(1, LONG), (7, Duration::from_millis(1)), (8, Duration::from_micros(2_000_001))]
    {
        held(store, &Lease { length, ..claim(node_id, number, 0) }).await;
        assert_eq!(holders(store, 1).await, [Holder { node_id, claim: number, length }]);
    }
}
