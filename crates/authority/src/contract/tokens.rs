//! Stories of tokens.

use futures_util::future::join_all;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use super::kit::{
    AUDIT, MANY, added, at, child, insert, issued, log_after, only_entry, pat, stored, untold, user,
};
use crate::record::{Change, PatRecord, RevokedPat, Usage};
use crate::rotation::{FoundPat, Secret};
use crate::store::{RevokeOutcome, Store, StoreError};

fn used(pat_id: Uuid, micros: i64) -> Usage {
    Usage {
        pat_id,
        last_used_at: at(micros),
        address: None,
        user_agent: None,
        count: 1,
        networks: Vec::new(),
    }
}

async fn active(store: &dyn Store, pat: &PatRecord, micros: i64) -> Vec<Uuid> {
    let pats = store.active_pats(pat.user_id, at(micros)).await.expect("asks");
    pats.into_iter().map(|pat| pat.pat_id).collect()
}

fn named(change: &Change) -> Vec<RevokedPat> {
    let Change::PatsRevoked(pats) = change else { panic!("not a revocation: {change:?}") };
    let mut pats = pats.clone();
    pats.sort_by_key(|pat| pat.pat_id);
    pats
}

fn revoked(pats: &[&PatRecord]) -> Vec<RevokedPat> {
    let mut pats: Vec<_> =
        pats.iter().map(|pat| RevokedPat { pat_id: pat.pat_id, digest: pat.digest }).collect();
    pats.sort_by_key(|pat| pat.pat_id);
    pats
}

/// All that was given comes back, with its owner, by id and by digest.
pub async fn a_token_reads_back_whole(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let odd = PatRecord {
        name: "Ünïcode 🔑 'quoted' \"name\" -- ; %_".to_owned(),
        scopes: "api:read mcp:git-hub/search_code.v2 tokens".parse().expect("scopes"),
        key_id: KeyId(u32::MAX),
        created_at: at(-1),
        expires_at: at(31_536_000_000_007),
        ..pat(&ada)
    };
    let plain = issued(store, &ada).await;
    let odd = insert(store, odd).await;
    let below = insert(store, child(&plain)).await;
    for pat in [&plain, &odd, &below] {
        assert_eq!(stored(store, pat).await, *pat);
        let found = store.pat_by_digest(&pat.digest).await.expect("asks");
        let secret = Secret::Current { ends_another: false };
        assert_eq!(
            found,
            Some(FoundPat { pat: pat.clone(), owner: ada.clone(), secret, first_use_seq: None })
        );
    }
}

/// A digest that differs in one bit is another token.
pub async fn an_unknown_token_is_not_found(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let mut digest = *pat.digest.as_bytes();
    digest[31] ^= 1;
    assert_eq!(store.pat_by_digest(&TokenDigest::from_bytes(digest)).await.expect("asks"), None);
    assert_eq!(store.pat_by_id(Uuid::now_v7()).await.expect("asks"), None);
    assert_eq!(store.revoke_pat(Uuid::now_v7(), at(1), &AUDIT).await.expect("asks"), None);
    assert_eq!(store.active_pats(Uuid::now_v7(), at(1)).await.expect("asks"), []);
}

/// Whoever is disabled while they make a token gets none.
pub async fn nobody_and_a_disabled_account_get_no_token(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    store.set_user_disabled(ada.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    for owner in [&ada, &user("nobody@example.org")] {
        let pat = pat(owner);
        assert!(matches!(store.insert_pat(&pat, MANY, &AUDIT).await, Err(StoreError::UserGone)));
        assert_eq!(store.pat_by_id(pat.pat_id).await.expect("asks"), None);
    }
    store.set_user_disabled(ada.user_id, None, at(2), &AUDIT).await.expect("asks");
    issued(store, &ada).await;
}

/// A child of a child too.
pub async fn a_child_of_an_active_parent_is_added(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = insert(store, PatRecord { expires_at: at(10), ..pat(&ada) }).await;
    let middle = insert(store, PatRecord { created_at: at(9), ..child(&parent) }).await;
    let last = insert(store, PatRecord { created_at: at(9), ..child(&middle) }).await;
    assert_eq!(stored(store, &last).await.parent_id, Some(middle.pat_id));
}

/// The parent is looked at in the same transaction; a parent that expires at the child's making is
/// expired.
pub async fn a_child_of_a_revoked_expired_unknown_or_foreign_parent_is_refused(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let revoked = issued(store, &ada).await;
    store.revoke_pat(revoked.pat_id, at(1), &AUDIT).await.expect("asks");
    let expired = insert(store, PatRecord { expires_at: at(10), ..pat(&ada) }).await;
    let foreign = PatRecord { user_id: ada.user_id, ..child(&issued(store, &eve).await) };
    for (what, refused) in [
        ("revoked", child(&revoked)),
        ("expired", PatRecord { created_at: at(10), ..child(&expired) }),
        ("unknown", child(&pat(&ada))),
        ("foreign", foreign),
    ] {
        assert!(
            matches!(store.insert_pat(&refused, MANY, &AUDIT).await, Err(StoreError::ParentGone)),
            "{what}"
        );
        assert_eq!(store.pat_by_id(refused.pat_id).await.expect("asks"), None, "{what}");
    }
}

/// Revoked, expired and other accounts' tokens leave room.
pub async fn the_limit_counts_the_active_tokens_of_that_account(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    issued(store, &eve).await;
    let first = insert(store, pat(&ada)).await;
    insert(store, PatRecord { expires_at: at(10), ..pat(&ada) }).await;
    let third = PatRecord { created_at: at(9), ..pat(&ada) };
    assert!(matches!(store.insert_pat(&third, 2, &AUDIT).await, Err(StoreError::TooManyPats(2))));
    assert_eq!(store.pat_by_id(third.pat_id).await.expect("asks"), None);
    store.insert_pat(&PatRecord { created_at: at(10), ..third }, 2, &AUDIT).await.expect("one has expired");
    let fourth = PatRecord { created_at: at(10), ..pat(&ada) };
    assert!(matches!(store.insert_pat(&fourth, 2, &AUDIT).await, Err(StoreError::TooManyPats(2))));
    store.revoke_pat(first.pat_id, at(10), &AUDIT).await.expect("asks");
    store.insert_pat(&fourth, 2, &AUDIT).await.expect("one is revoked");
    let fifth = PatRecord { created_at: at(10), ..pat(&ada) };
    assert!(matches!(store.insert_pat(&fifth, 0, &AUDIT).await, Err(StoreError::TooManyPats(2))));
}

/// Nobody gets past the limit by being quick.
pub async fn the_limit_holds_when_many_come_at_once(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pats: Vec<_> = (0..20).map(|_| pat(&ada)).collect();
    let inserted = join_all(pats.iter().map(|pat| store.insert_pat(pat, 5, &AUDIT))).await;
    assert_eq!(inserted.iter().filter(|inserted| inserted.is_ok()).count(), 5);
    assert!(inserted.iter().all(|inserted| matches!(inserted, Ok(()) | Err(StoreError::TooManyPats(5)))));
    assert_eq!(active(store, &pats[0], 0).await.len(), 5);
}

/// By time, then by id; not in the order in which they came, and without those of others.
pub async fn active_tokens_are_listed_newest_first(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    issued(store, &eve).await;
    let mut pats = Vec::new();
    for micros in [2, 3, 1, 2] {
        pats.push(insert(store, PatRecord { created_at: at(micros), ..pat(&ada) }).await);
    }
    pats.sort_by_key(|pat| std::cmp::Reverse((pat.created_at, pat.pat_id)));
    assert_eq!(store.active_pats(ada.user_id, at(5)).await.expect("asks"), pats);
    let gone = pats.remove(1);
    store.revoke_pat(gone.pat_id, at(5), &AUDIT).await.expect("asks");
    assert_eq!(store.active_pats(ada.user_id, at(5)).await.expect("asks"), pats);
}

/// A token whose `expires_at` is now is expired: as the judgment has it.
pub async fn a_token_is_active_until_the_microsecond_it_expires(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = insert(store, PatRecord { expires_at: at(10), ..pat(&ada) }).await;
    assert_eq!(active(store, &pat, 9).await, [pat.pat_id]);
    assert!(active(store, &pat, 10).await.is_empty());
    assert_eq!(stored(store, &pat).await, pat, "it is there all the same");
}

/// The entry names the digest, which is how an index knows it.
pub async fn revoking_is_one_entry_that_names_the_token(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    let outcome = store.revoke_pat(pat.pat_id, at(5), &AUDIT).await.expect("asks");
    assert_eq!(outcome, Some(RevokeOutcome { revoked_at: at(5), seq: 1, newly: true }));
    assert_eq!(stored(store, &pat).await, PatRecord { revoked_at: Some(at(5)), ..pat.clone() });
    let found = store.pat_by_digest(&pat.digest).await.expect("asks").expect("there").pat;
    assert_eq!(found.revoked_at, Some(at(5)));
    assert_eq!(stored(store, &other).await, other);
    assert_eq!(active(store, &pat, 0).await, [other.pat_id]);
    let entry = only_entry(store).await;
    assert_eq!((entry.seq, entry.at, named(&entry.change)), (1, at(5), revoked(&[&pat])));
}

/// Also after other changes: the same time, the same entry to wait for, and no entry more.
pub async fn revoking_again_gives_the_first_outcome(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    store.revoke_pat(pat.pat_id, at(5), &AUDIT).await.expect("asks");
    store.revoke_pat(other.pat_id, at(6), &AUDIT).await.expect("asks");
    for _ in 0..2 {
        let again = store.revoke_pat(pat.pat_id, at(7), &AUDIT).await.expect("asks");
        assert_eq!(again, Some(RevokeOutcome { revoked_at: at(5), seq: 1, newly: false }));
    }
    assert_eq!(store.log_head().await.expect("asks"), 2);
    assert_eq!(stored(store, &pat).await.revoked_at, Some(at(5)));
}

/// Everyone is told the same time and the same entry.
pub async fn of_many_revocations_at_once_one_is_the_first(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let outcomes = join_all((0..20).map(|n| store.revoke_pat(pat.pat_id, at(n), &AUDIT))).await;
    let outcomes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.expect("asks").expect("there")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.newly).count(), 1);
    let revoked_at = stored(store, &pat).await.revoked_at;
    assert!(outcomes.iter().all(|outcome| outcome.seq == 1 && Some(outcome.revoked_at) == revoked_at));
    only_entry(store).await;
}

/// However deep.
pub async fn revoking_a_parent_revokes_its_tree_in_one_entry(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let root = issued(store, &ada).await;
    let (left, right) = (insert(store, child(&root)).await, insert(store, child(&root)).await);
    let mut deepest = insert(store, child(&left)).await;
    let mut tree = vec![root.clone(), left, right, deepest.clone()];
    for _ in 0..20 {
        deepest = insert(store, child(&deepest)).await;
        tree.push(deepest.clone());
    }
    let other = issued(store, &ada).await;
    let outcome = store.revoke_pat(root.pat_id, at(5), &AUDIT).await.expect("asks").expect("there");
    assert!(outcome.newly);
    for pat in &tree {
        assert_eq!(stored(store, pat).await.revoked_at, Some(at(5)));
        let again = store.revoke_pat(pat.pat_id, at(6), &AUDIT).await.expect("asks").expect("there");
        assert_eq!(again, RevokeOutcome { newly: false, ..outcome.clone() });
    }
    assert_eq!(active(store, &root, 0).await, [other.pat_id]);
    let entry = only_entry(store).await;
    assert_eq!(named(&entry.change), revoked(&tree.iter().collect::<Vec<_>>()));
}

/// Of several accounts, with what descends from them: whoever waits for the entry waits for all.
pub async fn many_tokens_are_revoked_in_one_entry(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let root = issued(store, &ada).await;
    let leaf = insert(store, child(&root)).await;
    let (other, hers) = (issued(store, &ada).await, issued(store, &eve).await);
    let stays = issued(store, &eve).await;
    // One that descends from another, in either order, and is named once.
    let asked = [leaf.pat_id, hers.pat_id, root.pat_id, other.pat_id].map(untold);
    let outcomes = store.revoke_pats(&asked, at(5), true).await.expect("asks");
    assert_eq!(outcomes, vec![Some(RevokeOutcome { revoked_at: at(5), seq: 1, newly: true }); 4]);
    assert_eq!(named(&only_entry(store).await.change), revoked(&[&root, &leaf, &other, &hers]));
    assert_eq!(active(store, &hers, 0).await, [stays.pat_id]);
    assert!(active(store, &root, 0).await.is_empty());
}

/// Those that are not there, and those that were revoked before, take part in no entry.
pub async fn of_many_tokens_those_that_stand_are_revoked(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (early, late) = (issued(store, &ada).await, issued(store, &ada).await);
    let first = store.revoke_pat(early.pat_id, at(5), &AUDIT).await.expect("asks").expect("there");
    let unknown = Uuid::now_v7();
    let outcomes = store.revoke_pats(&[unknown, late.pat_id, early.pat_id].map(untold), at(6), true).await;
    let outcomes = outcomes.expect("asks");
    let before = RevokeOutcome { newly: false, ..first };
    let second = RevokeOutcome { revoked_at: at(6), seq: 2, newly: true };
    assert_eq!(outcomes, [None, Some(second), Some(before.clone())]);
    assert_eq!(named(&log_after(store, 1).await[0].change), revoked(&[&late]));
    let outcomes = store.revoke_pats(&[early.pat_id, unknown].map(untold), at(7), true).await.expect("asks");
    assert_eq!(outcomes, [Some(before), None]);
    assert_eq!(store.revoke_pats(&[], at(7), true).await.expect("asks"), []);
    assert_eq!(store.log_head().await.expect("asks"), 2, "nothing was left to revoke");
}

/// Whoever revokes tokens of the same accounts in another order waits, and not in a circle.
pub async fn many_who_revoke_many_at_once_all_come_to_their_end(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let mut pats = Vec::new();
    for _ in 0..5 {
        pats.extend([issued(store, &ada).await.pat_id, issued(store, &eve).await.pat_id]);
    }
    let orders = (0..10).map(|turn| {
        let mut order = pats.clone();
        order.rotate_left(turn);
        order.into_iter().map(untold).collect::<Vec<_>>()
    });
    let orders: Vec<_> = orders.collect();
    let outcomes = join_all(orders.iter().map(|order| store.revoke_pats(order, at(5), true))).await;
    let newly = outcomes.into_iter().flat_map(|outcomes| outcomes.expect("asks"));
    assert_eq!(newly.filter(|outcome| outcome.as_ref().is_some_and(|outcome| outcome.newly)).count(), 10);
    only_entry(store).await;
}

/// Power goes down the tree only.
pub async fn revoking_a_child_leaves_its_parent_and_siblings(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    let (one, two) = (insert(store, child(&parent)).await, insert(store, child(&parent)).await);
    store.revoke_pat(one.pat_id, at(5), &AUDIT).await.expect("asks");
    assert_eq!(stored(store, &parent).await.revoked_at, None);
    assert_eq!(stored(store, &two).await.revoked_at, None);
    assert_eq!(named(&only_entry(store).await.change), revoked(&[&one]));
}

/// An entry names what it revoked, not what was so before; and each token keeps the entry to wait
/// for.
pub async fn what_was_revoked_before_keeps_its_own_time(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    let (early, late) = (insert(store, child(&parent)).await, insert(store, child(&parent)).await);
    let first = store.revoke_pat(early.pat_id, at(5), &AUDIT).await.expect("asks").expect("there");
    let second = store.revoke_pat(parent.pat_id, at(6), &AUDIT).await.expect("asks").expect("there");
    assert_eq!((first.seq, second.seq), (1, 2));
    assert_eq!(stored(store, &early).await.revoked_at, Some(at(5)));
    assert_eq!(stored(store, &late).await.revoked_at, Some(at(6)));
    assert_eq!(named(&log_after(store, 1).await[0].change), revoked(&[&parent, &late]));
    let again = store.revoke_pat(early.pat_id, at(7), &AUDIT).await.expect("asks").expect("there");
    assert_eq!(again, RevokeOutcome { newly: false, ..first });
}

/// The store's clock and the nodes' may differ: whether it has expired does not matter here.
pub async fn an_expired_token_is_revoked_like_any_other(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = insert(store, PatRecord { expires_at: at(10), ..pat(&ada) }).await;
    let outcome = store.revoke_pat(pat.pat_id, at(20), &AUDIT).await.expect("asks").expect("there");
    assert!(outcome.newly);
    assert_eq!(stored(store, &pat).await.revoked_at, Some(at(20)));
    assert_eq!(named(&only_entry(store).await.change), revoked(&[&pat]));
}

/// A child is either refused, or in the entry.
pub async fn no_child_escapes_a_revocation_that_comes_at_the_same_time(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    let children: Vec<_> = (0..20).map(|_| child(&parent)).collect();
    let (early, late) = children.split_at(10);
    let (before, revocation, after) = tokio::join!(
        join_all(early.iter().map(|child| store.insert_pat(child, MANY, &AUDIT))),
        store.revoke_pat(parent.pat_id, at(5), &AUDIT),
        join_all(late.iter().map(|child| store.insert_pat(child, MANY, &AUDIT))),
    );
    assert!(revocation.expect("asks").expect("there").newly);
    let mut tree = vec![&parent];
    for (child, inserted) in children.iter().zip(before.iter().chain(&after)) {
        match inserted {
            Ok(()) => tree.push(child),
            Err(StoreError::ParentGone) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(named(&only_entry(store).await.change), revoked(&tree));
    assert!(active(store, &parent, 0).await.is_empty());
}

/// Nodes write uses down late and in any order.
pub async fn the_last_use_never_goes_back(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (pat, other) = (issued(store, &ada).await, issued(store, &ada).await);
    for (micros, last) in [(5, 5), (4, 5), (5, 5), (6, 6)] {
        store.record_usage(&[used(pat.pat_id, micros)]).await.expect("recorded");
        assert_eq!(stored(store, &pat).await.last_used_at, Some(at(last)));
    }
    let twice = [used(pat.pat_id, 9), used(pat.pat_id, 8)];
    store.record_usage(&twice).await.expect("recorded");
    store.revoke_pat(pat.pat_id, at(10), &AUDIT).await.expect("asks");
    let told = Usage {
        address: Some("2001:db8::7".parse().expect("an address")),
        user_agent: Some("agent/1 ✓".to_owned()),
        count: u64::from(u32::MAX),
        ..used(pat.pat_id, 11)
    };
    store.record_usage(&[told]).await.expect("a use just before the revocation is written down after it");
    let expected = PatRecord { revoked_at: Some(at(10)), last_used_at: Some(at(11)), ..pat.clone() };
    assert_eq!(stored(store, &pat).await, expected);
    assert_eq!(stored(store, &other).await.last_used_at, None);
}

/// The known ones beside them are recorded; and nothing is nothing.
pub async fn unknown_tokens_uses_are_passed_over(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    store.record_usage(&[]).await.expect("recorded");
    let notes = [used(Uuid::now_v7(), 1), used(pat.pat_id, 2), used(Uuid::now_v7(), 3)];
    store.record_usage(&notes).await.expect("recorded");
    assert_eq!(stored(store, &pat).await.last_used_at, Some(at(2)));
}
