//! Stories of accounts.

use futures_util::future::join_all;
use uuid::Uuid;

use super::kit::{AUDIT, added, at, has_session, issued, log_after, only_entry, session, signed_in, user};
use crate::record::{Change, UserRecord};
use crate::rotation::FoundPat;
use crate::store::{Store, StoreError};

/// All that was given comes back, to the microsecond and in any script.
pub async fn an_account_reads_back_by_id_and_by_address(store: &dyn Store) {
    let plain = added(store, "ada@example.org").await;
    let odd = UserRecord {
        is_admin: true,
        created_at: at(1),
        disabled_at: Some(at(2)),
        ..user("жанна+🦀@例え.example")
    };
    store.insert_user(&odd, &AUDIT).await.expect("added");
    for user in [&plain, &odd] {
        assert_eq!(store.user_by_id(user.user_id).await.expect("asks").as_ref(), Some(user));
        assert_eq!(store.user_by_email(&user.email).await.expect("asks").as_ref(), Some(user));
    }
    assert_eq!(store.user_by_id(Uuid::now_v7()).await.expect("asks"), None);
    for other in ["", "ada@example.or", "ada@example.org ", "ADA@example.org", "%", "ada@example.org' --"] {
        assert_eq!(store.user_by_email(other).await.expect("asks"), None, "{other:?}");
    }
}

/// Addresses are compared as given: the store knows nothing of letters' cases.
pub async fn a_taken_address_is_refused_and_changes_nothing(store: &dyn Store) {
    let first = added(store, "ada@example.org").await;
    let second = UserRecord { is_admin: true, ..user("ada@example.org") };
    assert!(matches!(store.insert_user(&second, &AUDIT).await, Err(StoreError::EmailTaken)));
    assert_eq!(store.user_by_email("ada@example.org").await.expect("asks"), Some(first.clone()));
    assert_eq!(store.user_by_id(second.user_id).await.expect("asks"), None);
    let other = added(store, "Ada@example.org").await;
    assert_eq!(store.list_users().await.expect("asks").len(), 2);
    assert_ne!(first.user_id, other.user_id);
}

/// The set-up works on an empty store alone.
pub async fn the_first_account_is_made_once(store: &dyn Store) {
    let (first, second) = (user("first@example.org"), user("second@example.org"));
    assert!(store.insert_first_user(&first, &AUDIT).await.expect("asks"));
    assert!(!store.insert_first_user(&second, &AUDIT).await.expect("asks"));
    assert!(!store.insert_first_user(&first, &AUDIT).await.expect("asks"), "not the same one again either");
    assert_eq!(store.list_users().await.expect("asks"), [first]);
}

/// Two who open the set-up link at the same time don't both get an account.
pub async fn of_many_first_accounts_one_is_made(store: &dyn Store) {
    let users: Vec<_> = (0..20).map(|n| user(&format!("{n}@example.org"))).collect();
    let made = join_all(users.iter().map(|user| store.insert_first_user(user, &AUDIT))).await;
    let made: Vec<_> =
        made.into_iter().zip(&users).filter(|(made, _)| *made.as_ref().expect("asks")).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(store.list_users().await.expect("asks"), [made[0].1.clone()]);
}

/// By their time, and by id where that is the same; not in the order in which they came.
pub async fn accounts_are_listed_oldest_first(store: &dyn Store) {
    assert!(!store.has_users().await.expect("asks"));
    assert_eq!(store.list_users().await.expect("asks"), []);
    let mut users: Vec<_> = [3, 1, 2, 1]
        .into_iter()
        .enumerate()
        .map(|(n, micros)| UserRecord { created_at: at(micros), ..user(&format!("{n}@example.org")) })
        .collect();
    for user in &users {
        store.insert_user(user, &AUDIT).await.expect("added");
        assert!(store.has_users().await.expect("asks"));
    }
    users.sort_by_key(|user| (user.created_at, user.user_id));
    assert_eq!(store.list_users().await.expect("asks"), users);
}

/// Disabling an account is an entry of the log; the tokens stay as they are, and the judgment
/// refuses them.
pub async fn disabling_ends_the_sessions_of_that_account_alone(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let (hers, also_hers, other) =
        (signed_in(store, &ada).await, signed_in(store, &ada).await, signed_in(store, &eve).await);
    let pat = issued(store, &ada).await;
    let seq = store.set_user_disabled(ada.user_id, Some(at(5)), at(6), &AUDIT).await.expect("asks");
    assert_eq!(seq, Some(1));
    assert!(!has_session(store, &hers).await && !has_session(store, &also_hers).await);
    assert!(has_session(store, &other).await);
    let FoundPat { pat: found, owner, .. } =
        store.pat_by_digest(&pat.digest).await.expect("asks").expect("there");
    assert_eq!((found.revoked_at, owner.disabled_at), (None, Some(at(5))));
    assert_eq!(store.user_by_email("eve@example.org").await.expect("asks"), Some(eve));
    let entry = only_entry(store).await;
    assert_eq!((entry.seq, entry.at, entry.change), (1, at(6), Change::UserDisabled(ada.user_id)));
}

/// Whoever disables twice waits for the entry of the first time.
pub async fn disabling_again_changes_nothing_and_names_the_first_entry(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let first = store.set_user_disabled(ada.user_id, Some(at(5)), at(5), &AUDIT).await.expect("asks");
    assert_eq!(
        store.set_user_disabled(eve.user_id, Some(at(6)), at(6), &AUDIT).await.expect("asks"),
        Some(2)
    );
    assert_eq!(store.set_user_disabled(ada.user_id, Some(at(7)), at(7), &AUDIT).await.expect("asks"), first);
    let found = store.user_by_id(ada.user_id).await.expect("asks").expect("there");
    assert_eq!(found.disabled_at, Some(at(5)));
    assert_eq!(store.log_head().await.expect("asks"), 2);
}

/// Enabling is told to the nodes too; enabling twice is one entry.
pub async fn enabling_is_an_entry_of_its_own(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    store.set_user_disabled(ada.user_id, Some(at(5)), at(5), &AUDIT).await.expect("asks");
    for now in [at(6), at(7)] {
        assert_eq!(store.set_user_disabled(ada.user_id, None, now, &AUDIT).await.expect("asks"), Some(2));
    }
    assert_eq!(store.user_by_id(ada.user_id).await.expect("asks"), Some(ada.clone()));
    assert_eq!(
        store.set_user_disabled(ada.user_id, Some(at(8)), at(8), &AUDIT).await.expect("asks"),
        Some(3)
    );
    let log = log_after(store, 0).await;
    let changes: Vec<_> = log.iter().map(|entry| (entry.at, &entry.change)).collect();
    let id = ada.user_id;
    assert_eq!(
        changes,
        [
            (at(5), &Change::UserDisabled(id)),
            (at(6), &Change::UserEnabled(id)),
            (at(8), &Change::UserDisabled(id))
        ]
    );
}

/// There is nothing to wait for.
pub async fn what_never_was_disabled_is_enabled_by_entry_zero(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    assert_eq!(store.set_user_disabled(ada.user_id, None, at(1), &AUDIT).await.expect("asks"), Some(0));
    assert_eq!(store.log_head().await.expect("asks"), 0);
}

/// The browser in which the password is changed stays signed in; a session to keep that is another
/// account's is not ended either.
pub async fn a_new_password_ends_all_sessions_but_one(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let (here, there, other) =
        (signed_in(store, &ada).await, signed_in(store, &ada).await, signed_in(store, &eve).await);
    store.set_password(ada.user_id, "new hash", Some(here.digest), &AUDIT).await.expect("set");
    assert!(has_session(store, &here).await && has_session(store, &other).await);
    assert!(!has_session(store, &there).await);
    let found = store.user_by_id(ada.user_id).await.expect("asks").expect("there");
    assert_eq!(found, UserRecord { password_hash: "new hash".to_owned(), ..ada });
    assert_eq!(store.user_by_id(eve.user_id).await.expect("asks"), Some(eve));
}

/// What the operator does at the machine.
pub async fn a_new_password_without_one_to_keep_ends_all(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (one, two) = (signed_in(store, &ada).await, signed_in(store, &ada).await);
    store.set_password(ada.user_id, "new hash", None, &AUDIT).await.expect("set");
    assert!(!has_session(store, &one).await && !has_session(store, &two).await);
    let unknown = session(&ada);
    let three = signed_in(store, &ada).await;
    store.set_password(ada.user_id, "newer hash", Some(unknown.digest), &AUDIT).await.expect("set");
    assert!(!has_session(store, &three).await, "one to keep that is not there keeps none");
}

/// An account that is not there is not made by a change to it.
pub async fn nobody_has_no_password_and_no_state(store: &dyn Store) {
    let nobody = Uuid::now_v7();
    assert!(matches!(store.set_password(nobody, "hash", None, &AUDIT).await, Err(StoreError::UserGone)));
    assert_eq!(store.set_user_disabled(nobody, Some(at(1)), at(1), &AUDIT).await.expect("asks"), None);
    assert_eq!(store.set_user_disabled(nobody, None, at(1), &AUDIT).await.expect("asks"), None);
    assert_eq!(store.delete_sessions_of(nobody, None, &AUDIT).await.expect("asks"), 0);
    assert!(!store.has_users().await.expect("asks"));
    assert_eq!(store.log_head().await.expect("asks"), 0);
}
