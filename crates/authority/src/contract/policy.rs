//! Stories of the policy.

use futures_util::future::join_all;

use super::kit::{AUDIT, at, log_after};
use crate::policy::{AskedPolicy, Policy, PolicyRecord};
use crate::record::Change;
use crate::store::Store;

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

/// Nothing is decided at first; what is reads back whole, and each change is an entry that every node hears of.
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
