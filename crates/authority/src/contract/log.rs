//! Stories of the log: every change that takes power away, numbered from 1 without gaps, in commit
//! order.

use futures_util::future::join_all;

use super::kit::{AUDIT, MANY, added, at, child, issued, log_after, pat};
use crate::record::{Change, UserRecord};
use crate::store::{Lease, Renewal, Store};
use std::time::Duration;
use uuid::Uuid;

/// Most entries in one answer.
const AT_A_TIME: u64 = 1000;

/// Additions are no entries: they take no power away.
pub async fn the_log_begins_empty(store: &dyn Store) {
    assert_eq!(store.log_head().await.expect("asks"), 0);
    let ada = added(store, "ada@example.org").await;
    issued(store, &ada).await;
    assert_eq!(store.log_head().await.expect("asks"), 0);
    assert_eq!(log_after(store, 0).await, []);
}

/// All kinds of entries share one numbering, and a reader may begin anywhere.
pub async fn entries_are_numbered_without_gaps_in_the_order_of_their_changes(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (one, two) = (issued(store, &ada).await, issued(store, &ada).await);
    store.revoke_pat(one.pat_id, at(1), &AUDIT).await.expect("asks");
    store.set_user_disabled(ada.user_id, Some(at(2)), at(2), &AUDIT).await.expect("asks");
    store.revoke_pat(two.pat_id, at(3), &AUDIT).await.expect("asks");
    store.set_user_disabled(ada.user_id, None, at(4), &AUDIT).await.expect("asks");
    let log = log_after(store, 0).await;
    assert_eq!(log.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(log.iter().map(|entry| entry.at).collect::<Vec<_>>(), [at(1), at(2), at(3), at(4)]);
    assert!(matches!(&log[0].change, Change::PatsRevoked(pats) if pats[0].digest == one.digest));
    assert_eq!(log[1].change, Change::UserDisabled(ada.user_id));
    assert!(matches!(&log[2].change, Change::PatsRevoked(pats) if pats[0].digest == two.digest));
    assert_eq!(log[3].change, Change::UserEnabled(ada.user_id));
    assert_eq!(log_after(store, 2).await, log[2..]);
    assert_eq!(store.log_head().await.expect("asks"), 4);
}

/// Each of many changes at once has its own number, and the answer names it.
pub async fn changes_at_once_get_numbers_without_gaps(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let mut pats = Vec::new();
    for _ in 0..30 {
        pats.push(issued(store, &ada).await);
    }
    let outcomes = join_all(pats.iter().map(|pat| store.revoke_pat(pat.pat_id, at(1), &AUDIT))).await;
    let log = log_after(store, 0).await;
    assert_eq!(log.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    for (outcome, pat) in outcomes.into_iter().zip(&pats) {
        let seq = outcome.expect("asks").expect("there").seq;
        let entry = log.iter().find(|entry| entry.seq == seq).expect("in the log");
        assert!(matches!(&entry.change, Change::PatsRevoked(named) if named[0].pat_id == pat.pat_id));
    }
}

/// A change that fails, or that changes nothing, leaves no gap behind.
pub async fn what_is_refused_takes_no_number(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    store.revoke_pat(parent.pat_id, at(1), &AUDIT).await.expect("asks");
    assert!(store.insert_pat(&child(&parent), MANY, &AUDIT).await.is_err());
    assert!(store.insert_pat(&pat(&ada), 0, &AUDIT).await.is_err());
    assert!(store.insert_user(&UserRecord { user_id: Uuid::now_v7(), ..ada.clone() }, &AUDIT).await.is_err());
    store.revoke_pat(parent.pat_id, at(2), &AUDIT).await.expect("asks");
    store.revoke_pat(Uuid::now_v7(), at(2), &AUDIT).await.expect("asks");
    store.set_user_disabled(ada.user_id, None, at(2), &AUDIT).await.expect("asks");
    assert_eq!(store.log_head().await.expect("asks"), 1);
    store.set_user_disabled(ada.user_id, Some(at(3)), at(3), &AUDIT).await.expect("asks");
    assert_eq!(log_after(store, 0).await.len(), 2);
}

/// A node that was away for long reads in pieces of 1,000, in order, and holds nothing before it
/// has read all.
pub async fn a_thousand_entries_come_at_a_time(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let entries = AT_A_TIME * 2 + 1;
    for batch in 0..entries.div_ceil(100) {
        let changes = (batch * 100..(batch * 100 + 100).min(entries)).map(|n| {
            let now = at(i64::try_from(n).expect("small"));
            store.set_user_disabled(ada.user_id, (n % 2 == 0).then_some(now), now, &AUDIT)
        });
        for changed in join_all(changes).await {
            changed.expect("asks").expect("there");
        }
    }
    // Changes that came at the same time may have cancelled each other out: what is missing is made
    // up for.
    while store.log_head().await.expect("asks") < entries {
        let user = store.user_by_id(ada.user_id).await.expect("asks").expect("there");
        let disabled = user.disabled_at.is_none().then(|| at(1));
        store.set_user_disabled(ada.user_id, disabled, at(1), &AUDIT).await.expect("asks");
    }
    let mut claim = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq: 0,
        length: Duration::from_secs(60),
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    for expected in [AT_A_TIME, AT_A_TIME, 1] {
        let applied = claim.applied_seq;
        let Renewal::Behind(more) = store.renew_lease(&claim).await.expect("asks") else {
            panic!("held at {applied} of {entries}");
        };
        let numbers: Vec<_> = more.iter().map(|entry| entry.seq).collect();
        assert_eq!(numbers, (applied + 1..=applied + expected).collect::<Vec<_>>());
        assert_eq!(store.log_after(applied).await.expect("asks"), more, "the same without a claim");
        assert_eq!(store.holders_behind(entries, None).await.expect("asks"), [], "it holds no lease yet");
        claim.applied_seq += expected;
    }
    assert_eq!(store.renew_lease(&claim).await.expect("asks"), Renewal::Held);
}

/// By whoever takes none: what it has open of what is named there ends all the same.
pub async fn the_log_is_read_without_a_lease(store: &dyn Store) {
    assert_eq!(store.log_after(0).await.expect("asks"), []);
    let ada = added(store, "ada@example.org").await;
    for at_micros in 1..=3 {
        let disabled = (at_micros % 2 == 1).then(|| at(at_micros));
        store.set_user_disabled(ada.user_id, disabled, at(at_micros), &AUDIT).await.expect("asks");
    }
    let all = store.log_after(0).await.expect("asks");
    let claim = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq: 0,
        length: Duration::from_secs(60),
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    let behind = store.renew_lease(&claim).await.expect("asks");
    assert_eq!(behind, Renewal::Behind(all.clone()), "what a claim is answered");
    assert_eq!(store.log_after(2).await.expect("asks"), all[2..]);
    assert_eq!(
        (store.log_after(3).await.expect("asks"), store.log_after(9).await.expect("asks")),
        (vec![], vec![])
    );
    assert_eq!(store.holders_behind(u64::MAX, None).await.expect("asks"), [], "and nobody holds one");
}
