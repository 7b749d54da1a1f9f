//! Stories of revocations that owners are told of: the notice is kept with the revocation, or not
//! at all.

use std::collections::BTreeSet;

use futures_util::future::{join, join_all};
use uuid::Uuid;

use super::kit::{AUDIT, added, at, child, insert, issued, only_entry, stored};
use super::notices::{claimed, hooked, listed, told};
use crate::notices::{Channel, NewNotice};
use crate::record::{PatRecord, UserRecord};
use crate::store::{Revocation, Store};

/// A revocation of a token, and the notice of it to its owner, under this word.
fn telling(owner: &UserRecord, pat: &PatRecord, once: &str) -> Revocation {
    let mut new = told(owner, once);
    new.notice.pat_id = Some(pat.pat_id);
    Revocation { pat_id: pat.pat_id, audit: AUDIT.clone(), notice: Some(new) }
}

async fn revoked(store: &dyn Store, pats: &[Revocation], micros: i64) -> Vec<Option<bool>> {
    let outcomes = store.revoke_pats(pats, at(micros), true).await.expect("asks");
    outcomes.into_iter().map(|outcome| outcome.map(|outcome| outcome.newly)).collect()
}

async fn told_of(store: &dyn Store, owner: &UserRecord) -> Vec<Option<Uuid>> {
    listed(store, Some(owner)).await.into_iter().map(|one| one.notice.pat_id).collect()
}

/// As it was given, with a way to each place, and due at once.
pub async fn a_token_s_notice_is_there_with_its_revocation(store: &dyn Store) {
    let (ada, bob) = (added(store, "ada@example.org").await, added(store, "bob@example.org").await);
    let hooks = [hooked(store, Some(&ada)).await, hooked(store, None).await].map(|hook| hook.webhook_id);
    hooked(store, Some(&bob)).await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let revocation = telling(&ada, &pat, "a");
    assert_eq!(revoked(store, std::slice::from_ref(&revocation), 5).await, [Some(true)]);
    assert_eq!(stored(store, &pat).await.revoked_at, Some(at(5)));
    let [one] = &listed(store, None).await[..] else { panic!("one notice") };
    assert_eq!(Some(&one.notice), revocation.notice.as_ref().map(|new| &new.notice));
    let ways: BTreeSet<_> = one.deliveries.iter().map(|way| (way.channel, way.webhook_id)).collect();
    let expected = hooks.map(|hook| (Channel::Webhook, Some(hook)));
    assert_eq!(ways, BTreeSet::from_iter([(Channel::Mail, None)].into_iter().chain(expected)));
    assert_eq!(claimed(store, 0).await.len(), 3);
    // Where there is no way for mail, there is none by mail.
    store.revoke_pats(&[telling(&ada, &other, "b")], at(6), false).await.expect("asks");
    let newest = listed(store, Some(&ada)).await.remove(0);
    assert_eq!(newest.notice.pat_id, Some(other.pat_id));
    assert!(newest.deliveries.iter().all(|way| way.channel == Channel::Webhook), "{newest:?}");
    assert_eq!(newest.deliveries.len(), 2);
}

/// What was revoked before, whoever did it, and what is not there. Those beside it are told of.
pub async fn what_stood_no_more_tells_nobody(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (early, late, untold) =
        (issued(store, &ada).await, issued(store, &ada).await, issued(store, &ada).await);
    store.revoke_pat(early.pat_id, at(5), &AUDIT).await.expect("asks");
    let unknown = PatRecord { pat_id: Uuid::now_v7(), ..early.clone() };
    let asked = [
        telling(&ada, &early, "early"),
        telling(&ada, &unknown, "unknown"),
        telling(&ada, &late, "late"),
        Revocation::untold(untold.pat_id, AUDIT.clone()),
    ];
    let outcomes = [Some(false), None, Some(true), Some(true)];
    assert_eq!(revoked(store, &asked, 6).await, outcomes);
    assert_eq!(told_of(store, &ada).await, [Some(late.pat_id)]);
    let again = telling(&ada, &late, "late again");
    assert_eq!(revoked(store, &[again], 7).await, [Some(false)]);
    assert_eq!(revoked(store, &asked[..2], 8).await, [Some(false), None]);
    assert_eq!(told_of(store, &ada).await, [Some(late.pat_id)], "it was told of when it ended");
}

/// It is the same person's, who is told of what was meant.
pub async fn what_descends_from_a_token_is_told_of_only_if_it_was_asked_for(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let root = issued(store, &ada).await;
    let (asked, silent) = (insert(store, child(&root)).await, insert(store, child(&root)).await);
    let both = [telling(&ada, &root, "root"), telling(&ada, &asked, "asked")];
    assert_eq!(revoked(store, &both, 5).await, [Some(true), Some(true)]);
    assert_eq!(stored(store, &silent).await.revoked_at, Some(at(5)));
    let told: BTreeSet<_> = told_of(store, &ada).await.into_iter().collect();
    assert_eq!(told, BTreeSet::from([Some(root.pat_id), Some(asked.pat_id)]));
}

/// The word is what counts, not the token.
pub async fn what_was_told_before_is_revoked_and_not_told_again(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    store.add_notices(&[told(&ada, "a")], true).await.expect("kept");
    let asked = [telling(&ada, &pat, "a"), telling(&ada, &other, "b")];
    assert_eq!(revoked(store, &asked, 5).await, [Some(true), Some(true)]);
    assert_eq!(stored(store, &pat).await.revoked_at, Some(at(5)));
    assert_eq!(listed(store, Some(&ada)).await.len(), 2);
    let again: Vec<NewNotice> = asked.into_iter().filter_map(|asked| asked.notice).collect();
    assert_eq!(store.add_notices(&again, true).await.expect("asks"), 0, "neither is told a second time");
}

/// Power goes, whoever hears of it.
pub async fn a_disabled_account_s_token_is_revoked_and_nobody_is_told(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    store.set_user_disabled(ada.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    assert_eq!(revoked(store, &[telling(&ada, &pat, "a")], 5).await, [Some(true)]);
    assert_eq!(stored(store, &pat).await.revoked_at, Some(at(5)));
    assert!(listed(store, None).await.is_empty());
}

/// Whoever it is that ends it: the others' words are another, and are not heard.
pub async fn of_many_who_revoke_a_token_at_once_one_tells(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let all: Vec<_> = (0..8).map(|n| [telling(&ada, &pat, &format!("of {n}"))]).collect();
    let outcomes = join_all(all.iter().map(|one| revoked(store, one, 5))).await;
    let first = outcomes.iter().position(|outcome| *outcome == [Some(true)]).expect("one of them");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == [Some(true)]).count(), 1, "{outcomes:?}");
    let [one] = &listed(store, Some(&ada)).await[..] else { panic!("one notice") };
    assert_eq!(Some(&one.notice), all[first][0].notice.as_ref().map(|new| &new.notice));
}

/// Beside others that revoke the same, and that tell of the same.
pub async fn who_revokes_and_tells_in_another_order_comes_to_an_end(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let mut all = Vec::new();
    for n in 0..5 {
        for owner in [&ada, &eve] {
            all.push(telling(owner, &issued(store, owner).await, &format!("the {n}th of {}", owner.email)));
        }
    }
    let orders: Vec<Vec<_>> = (0..10).map(|turn| [&all[turn..], &all[..turn]].concat()).collect();
    let notices: Vec<Vec<_>> =
        orders.iter().map(|all| all.iter().filter_map(|one| one.notice.clone()).collect()).collect();
    let (revoked, told) = join(
        join_all(orders.iter().map(|order| store.revoke_pats(order, at(5), true))),
        join_all(notices.iter().rev().map(|order| store.add_notices(order, true))),
    )
    .await;
    assert!(revoked.iter().all(Result::is_ok) && told.iter().all(Result::is_ok), "{revoked:?} {told:?}");
    only_entry(store).await;
    assert_eq!(listed(store, None).await.len(), 10);
}
