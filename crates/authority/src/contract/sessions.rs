//! Stories of browser sessions.

use super::kit::{AUDIT, added, at, has_session, session, signed_in, user};
use crate::record::SessionRecord;
use crate::store::{Store, StoreError};

/// An expired one too: whether it may be used is not the store's judgment.
pub async fn a_session_reads_back_with_its_account(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let (hers, other) = (signed_in(store, &ada).await, signed_in(store, &eve).await);
    let expired = SessionRecord { expires_at: at(0), ..session(&ada) };
    store.insert_session(&expired, &AUDIT).await.expect("inserted");
    for (session, owner) in [(hers, &ada), (other, &eve), (expired, &ada)] {
        let found = store.session_by_digest(&session.digest).await.expect("asks");
        assert_eq!(found, Some((session, owner.clone())));
    }
    assert_eq!(store.session_by_digest(&[0; 32]).await.expect("asks"), None);
}

/// Whoever is disabled while they sign in isn't signed in.
pub async fn nobody_and_a_disabled_account_get_no_session(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    store.set_user_disabled(ada.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    for owner in [&ada, &user("nobody@example.org")] {
        let session = session(owner);
        assert!(matches!(store.insert_session(&session, &AUDIT).await, Err(StoreError::UserGone)));
        assert!(!has_session(store, &session).await);
    }
    store.set_user_disabled(ada.user_id, None, at(2), &AUDIT).await.expect("asks");
    signed_in(store, &ada).await;
}

/// Signing out ends one session, and says whether there was one.
pub async fn a_session_ends_once(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (here, there) = (signed_in(store, &ada).await, signed_in(store, &ada).await);
    assert!(store.delete_session(&here.digest, &AUDIT).await.expect("asks"));
    assert!(!store.delete_session(&here.digest, &AUDIT).await.expect("asks"));
    assert!(!has_session(store, &here).await && has_session(store, &there).await);
}

/// Signing out everywhere counts what it ended.
pub async fn all_sessions_end_but_the_one_to_keep(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let here = signed_in(store, &ada).await;
    let other = signed_in(store, &eve).await;
    signed_in(store, &ada).await;
    signed_in(store, &ada).await;
    assert_eq!(store.delete_sessions_of(ada.user_id, Some(here.digest), &AUDIT).await.expect("asks"), 2);
    assert!(has_session(store, &here).await && has_session(store, &other).await);
    assert_eq!(store.delete_sessions_of(ada.user_id, Some(other.digest), &AUDIT).await.expect("asks"), 1);
    assert_eq!(store.delete_sessions_of(ada.user_id, None, &AUDIT).await.expect("asks"), 0);
    assert!(has_session(store, &other).await);
}

/// A session that expires now is expired.
pub async fn expired_sessions_are_swept_and_no_others(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let mut sessions = Vec::new();
    for expires in [9, 10, 11] {
        let session = SessionRecord { expires_at: at(expires), ..session(&ada) };
        store.insert_session(&session, &AUDIT).await.expect("inserted");
        sessions.push(session);
    }
    assert_eq!(store.delete_expired_sessions(at(8)).await.expect("asks"), 0);
    assert_eq!(store.delete_expired_sessions(at(10)).await.expect("asks"), 2);
    assert!(!has_session(store, &sessions[0]).await && !has_session(store, &sessions[1]).await);
    assert!(has_session(store, &sessions[2]).await);
}
