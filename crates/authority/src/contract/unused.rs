//! Stories of what a token is held to, and of tokens that nobody uses.

use std::sync::Arc;

use trustrelay_token::Limits;
use uuid::Uuid;

use super::kit::{AUDIT, added, at, child, insert, pat, stored};
use crate::record::{PatRecord, Usage, UserRecord};
use crate::store::Store;

const DAY: i64 = 86_400_000_000;

fn limits(networks: &[&str], requests: u32, days: u16) -> Option<Arc<Limits>> {
    let limits = Limits {
        networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
        requests_per_minute: requests.try_into().ok(),
        unused_days: days.try_into().ok(),
    };
    limits.shared()
}

/// A token that ends if it is not used for so many days; made at 0, good for 100 days.
fn to_be_used(owner: &UserRecord, days: u16) -> PatRecord {
    PatRecord { expires_at: at(100 * DAY), limits: limits(&[], 0, days), ..pat(owner) }
}

async fn used(store: &dyn Store, pat: &PatRecord, micros: i64) {
    let note = Usage {
        pat_id: pat.pat_id,
        last_used_at: at(micros),
        address: None,
        user_agent: None,
        count: 1,
        networks: Vec::new(),
    };
    store.record_usage(&[note]).await.expect("noted");
}

async fn unused(store: &dyn Store, by: i64) -> Vec<Uuid> {
    unused_of_all(store, by, 0).await
}

/// The same, under a policy of so many days; 0: of none.
async fn unused_of_all(store: &dyn Store, by: i64, days: u16) -> Vec<Uuid> {
    let pats = store.unused_pats(at(by), at(by), days.try_into().ok(), 100).await.expect("asks");
    pats.into_iter().map(|pat| pat.pat_id).collect()
}

/// By id, by digest, and in a list.
pub async fn what_a_token_is_held_to_reads_back(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    for limits in [
        limits(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"], 60, 30),
        limits(&["0.0.0.0/0"], 0, 0),
        limits(&[], u32::MAX, 0),
        limits(&[], 0, u16::MAX),
        None,
    ] {
        let pat = insert(store, PatRecord { limits, ..pat(&ada) }).await;
        assert_eq!(stored(store, &pat).await, pat);
        let found = store.pat_by_digest(&pat.digest).await.expect("asks").expect("there").pat;
        assert_eq!(found, pat);
        assert!(store.active_pats(ada.user_id, at(0)).await.expect("asks").contains(&pat));
    }
}

/// To the microsecond.
pub async fn a_token_is_unused_when_its_days_have_gone_by_since_it_was_used_or_made(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let never = insert(store, to_be_used(&ada, 3)).await.pat_id;
    let once = insert(store, to_be_used(&ada, 3)).await;
    used(store, &once, DAY).await;
    assert_eq!(unused(store, 3 * DAY - 1).await, Vec::<Uuid>::new());
    assert_eq!(unused(store, 3 * DAY).await, [never]);
    assert_eq!(unused(store, 4 * DAY - 1).await, [never]);
    assert_eq!(unused(store, 4 * DAY).await, [never, once.pat_id], "whose days went by first comes first");
    assert_eq!(store.unused_pats(at(4 * DAY), at(4 * DAY), None, 1).await.expect("asks").len(), 1);
    used(store, &once, 4 * DAY).await;
    assert_eq!(unused(store, 4 * DAY).await, [never]);
}

/// Nor one that ends anyway.
pub async fn what_is_not_held_to_being_used_is_never_unused(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    insert(store, PatRecord { limits: None, ..to_be_used(&ada, 3) }).await;
    insert(store, PatRecord { limits: limits(&["10.0.0.0/8"], 60, 0), ..to_be_used(&ada, 3) }).await;
    let revoked = insert(store, to_be_used(&ada, 3)).await;
    store.revoke_pat(revoked.pat_id, at(1), &AUDIT).await.expect("revoked");
    insert(store, PatRecord { expires_at: at(10 * DAY), ..to_be_used(&ada, 3) }).await;
    assert_eq!(unused(store, 10 * DAY).await, Vec::<Uuid>::new());
    assert_eq!(unused(store, 10 * DAY - 1).await.len(), 1, "until it expires");
}

/// However far down; and not the other way round.
pub async fn as_long_as_a_child_is_used_so_is_its_parent(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = insert(store, to_be_used(&ada, 3)).await;
    let middle = insert(store, child(&parent)).await;
    let last = insert(store, child(&middle)).await;
    let sibling = insert(store, child(&parent)).await;
    used(store, &last, 5 * DAY).await;
    assert_eq!(unused(store, 6 * DAY).await, [sibling.pat_id]);
    assert_eq!(unused(store, 8 * DAY - 1).await, [sibling.pat_id]);
    assert_eq!(unused(store, 8 * DAY).await.len(), 4);
    used(store, &parent, 8 * DAY).await;
    let found = unused(store, 8 * DAY).await;
    assert!(found.len() == 3 && !found.contains(&parent.pat_id));
}

/// Of the token's own days and those of all the fewer count, for those that are used through others
/// too.
pub async fn a_policy_s_days_hold_for_every_token_and_never_lengthen_its_own(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let free = insert(store, PatRecord { limits: None, ..to_be_used(&ada, 3) }).await;
    let short = insert(store, to_be_used(&ada, 2)).await;
    let long = insert(store, to_be_used(&ada, 50)).await;
    let below = insert(store, child(&free)).await;
    used(store, &below, DAY).await;
    assert_eq!(unused_of_all(store, 2 * DAY - 1, 5).await, Vec::<Uuid>::new());
    assert_eq!(unused_of_all(store, 2 * DAY, 5).await, [short.pat_id], "its own days are fewer");
    let both = [short.pat_id, long.pat_id];
    assert_eq!(
        unused_of_all(store, 5 * DAY, 5).await,
        both,
        "one that never was used counts from when it was made"
    );
    assert_eq!(unused_of_all(store, 6 * DAY - 1, 5).await, both, "the other one is used through its child");
    assert_eq!(unused_of_all(store, 6 * DAY, 5).await.len(), 4);
    assert_eq!(unused(store, 6 * DAY).await, [short.pat_id], "without a policy its own days alone");
    let one = store.unused_pats(at(6 * DAY), at(6 * DAY), 5.try_into().ok(), 1).await.expect("asks");
    assert_eq!(one, [stored(store, &short).await], "whose days went by first comes first");
}

/// However far apart they end. What has ended, long ago or just now, is not among them.
pub async fn unused_tokens_are_found_by_their_days_whenever_they_end(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (mut own, mut all) = (Vec::new(), Vec::new());
    // Those that end first were used last.
    for (days, used_on) in
        [(4000, 1), (400, 2), (120, 3), (70, 4), (51, 5), (50, 0), (49, 0), (20, 0), (6, 0)]
    {
        let ends = || PatRecord { expires_at: at(days * DAY), ..to_be_used(&ada, 30) };
        let free = insert(store, PatRecord { limits: None, ..ends() }).await;
        let held = insert(store, ends()).await;
        for pat in [&free, &held] {
            used(store, pat, used_on * DAY).await;
        }
        if days > 50 {
            all.extend([free.pat_id, held.pat_id]);
            own.push(held.pat_id);
        }
    }
    assert_eq!(unused(store, 50 * DAY).await, own);
    assert_eq!(unused_of_all(store, 50 * DAY, 30).await, all);
    let asked = async |by: i64, limit: u64| {
        let pats = store.unused_pats(at(50 * DAY), at(by), 30.try_into().ok(), limit).await.expect("asks");
        pats.into_iter().map(|pat| pat.pat_id).collect::<Vec<_>>()
    };
    assert_eq!(asked(50 * DAY, 3).await, all[..3]);
    assert_eq!(asked(34 * DAY - 1, 100).await, all[..6]);
}
