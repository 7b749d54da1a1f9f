//! Stories of the policy.

use futures_util::future::join_all;

use super::kit::{AUDIT, MANY, added, at, issued, log_after, pat, stored};
use super::rotation::rotation;
use crate::audit::{Actor, AuditEntry};
use crate::policy::{AskedPolicy, Policy, PolicyRecord};
use crate::record::Change;
use crate::rotation::RotateOutcome;
use crate::store::{Store, StoreError};

fn policy(days: i64) -> Policy {
    let asked = AskedPolicy {
        max_days: Some(days),
        default_days: Some(1),
        allowed_scopes: vec!["mcp:github/search".into(), "api:read".into()],
        unused_days: Some(45),
        networks: vec!["10.0.0.0/8".into(), "2001:db8::/32".into()],
    };
    asked.read().expect("a policy")
}

async fn told(store: &dyn Store) -> usize {
    store.audit_after(0, 1000).await.expect("asks").len()
}

/// Nothing is decided at first; what is reads back whole, and each change is an entry that every
/// node hears of.
pub async fn a_policy_is_changed_by_entries_of_the_log(store: &dyn Store) {
    assert_eq!(store.policy().await.expect("asks"), PolicyRecord::default());
    let begun = told(store).await;
    for (seq, policy) in [(1, policy(90)), (2, Policy::default()), (3, policy(30))] {
        let set = store.set_policy(&policy, seq - 1, at(7), &AUDIT).await.expect("asks");
        assert_eq!(set, Some(seq));
        assert_eq!(store.policy().await.expect("asks"), PolicyRecord { seq, policy });
        let log = log_after(store, seq - 1).await;
        assert_eq!((log.len(), log[0].at, &log[0].change), (1, at(7), &Change::PolicyChanged));
    }
    assert_eq!(told(store).await, begun + 3);
}

/// Nor does that leave anything behind.
pub async fn a_policy_that_was_changed_since_is_not_replaced(store: &dyn Store) {
    store.set_policy(&policy(90), 0, at(1), &AUDIT).await.expect("asks");
    let before = (store.policy().await.expect("asks"), told(store).await);
    for seen in [0, 2] {
        assert_eq!(store.set_policy(&policy(30), seen, at(2), &AUDIT).await.expect("asks"), None);
    }
    assert_eq!((store.policy().await.expect("asks"), told(store).await), before);
    assert_eq!(store.log_head().await.expect("asks"), 1);
}

/// The others are told that it was.
pub async fn of_many_who_change_a_policy_at_once_one_does(store: &dyn Store) {
    let policies: Vec<_> = (1..=8).map(policy).collect();
    let set = join_all(policies.iter().map(|policy| store.set_policy(policy, 0, at(1), &AUDIT))).await;
    let set: Vec<_> = set.into_iter().map(|set| set.expect("asks")).collect();
    let winner = set.iter().position(Option::is_some).expect("one does");
    assert_eq!(set.iter().flatten().collect::<Vec<_>>(), [&1]);
    let PolicyRecord { seq, policy } = store.policy().await.expect("asks");
    assert_eq!((seq, &policy), (1, &policies[winner]));
}

/// The entry of a change that was judged by this policy.
fn judged_by(seq: u64, action: &'static str) -> AuditEntry {
    AuditEntry::new(at(5), Actor::SYSTEM.under_policy(seq), action)
}

/// A new token and a rotation, whoever asks for them; and nothing is changed.
pub async fn what_was_judged_by_a_policy_that_was_replaced_is_refused(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let token = issued(store, &ada).await;
    let rotation = rotation(&token, at(5), at(6));
    store.insert_pat(&pat(&ada), MANY, &judged_by(0, "created")).await.expect("by the policy that holds");
    let seq = store.set_policy(&policy(90), 0, at(1), &AUDIT).await.expect("asks").expect("replaced");
    let before = told(store).await;
    for replaced in [0, seq + 1] {
        let inserted = store.insert_pat(&pat(&ada), MANY, &judged_by(replaced, "created")).await;
        assert!(matches!(inserted, Err(StoreError::PolicyChanged)), "{inserted:?}");
        let rotated = store.rotate_pat(&rotation, &judged_by(replaced, "rotated")).await;
        assert!(matches!(rotated, Err(StoreError::PolicyChanged)), "{rotated:?}");
    }
    assert_eq!(stored(store, &token).await, token);
    assert_eq!(
        (told(store).await, store.active_pats(ada.user_id, at(5)).await.expect("asks").len()),
        (before, 2)
    );
    store.insert_pat(&pat(&ada), MANY, &judged_by(seq, "created")).await.expect("by the policy that holds");
    let rotated = store.rotate_pat(&rotation, &judged_by(seq, "rotated")).await.expect("asks");
    assert!(matches!(rotated, RotateOutcome::Rotated(_)), "{rotated:?}");
}

/// However many tokens are made while a policy is replaced: the audit log has them in the order in
/// which they were committed.
pub async fn no_token_that_an_old_policy_allowed_comes_after_a_new_one(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    for (seq, days) in (0..10).zip(30..) {
        let pats: Vec<_> = (0..8).map(|_| pat(&ada)).collect();
        let created = judged_by(seq, "created");
        let changed = AuditEntry::new(at(5), Actor::SYSTEM, "policy.changed");
        let (early, new) = (policy(days), seq + 1);
        let (first, set, last) = tokio::join!(
            join_all(pats[..4].iter().map(|pat| store.insert_pat(pat, MANY, &created))),
            store.set_policy(&early, seq, at(5), &changed),
            join_all(pats[4..].iter().map(|pat| store.insert_pat(pat, MANY, &created))),
        );
        assert_eq!(set.expect("asks"), Some(new));
        let made = first.into_iter().chain(last).filter(|made| match made {
            Ok(()) => true,
            Err(StoreError::PolicyChanged) => false,
            Err(other) => panic!("{other:?}"),
        });
        let made = made.count();
        let log = store.audit_after(0, 1000).await.expect("asks");
        let actions: Vec<_> = log.iter().map(|record| record.columns.action.as_str()).collect();
        let change = actions.iter().rposition(|action| *action == "policy.changed").expect("told");
        assert_eq!(actions[change + 1..], [""; 0], "after the {new}. policy");
        assert_eq!(store.active_pats(ada.user_id, at(5)).await.expect("asks").len(), {
            actions.iter().filter(|action| **action == "created").count()
        });
        assert!(made <= 8);
    }
}
