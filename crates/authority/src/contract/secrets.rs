//! Stories of the server secret that a store is bound to, and of its pulse.

use futures_util::future::join_all;

use crate::store::Store;

/// Digests under another secret would never be found again, so another one is noticed.
pub async fn the_first_secret_is_bound_for_good(store: &dyn Store) {
    assert!(store.bind_secret(&[1; 16]).await.expect("asks"));
    assert!(!store.bind_secret(&[2; 16]).await.expect("asks"));
    assert!(
        store.bind_secret(&[1; 16]).await.expect("asks"),
        "another one that was tried left nothing behind"
    );
    assert!(!store.bind_secret(&[0; 16]).await.expect("asks"));
}

/// Two that begin on the same store with different secrets don't both go on.
pub async fn of_many_secrets_at_once_one_is_bound(store: &dyn Store) {
    let secrets: Vec<[u8; 16]> = (1..=20).map(|n| [n; 16]).collect();
    let bound = join_all(secrets.iter().map(|secret| store.bind_secret(secret))).await;
    let winners: Vec<_> =
        bound.into_iter().zip(&secrets).filter(|(bound, _)| *bound.as_ref().expect("asks")).collect();
    assert_eq!(winners.len(), 1);
    assert!(store.bind_secret(winners[0].1).await.expect("asks"));
}

/// The pulse changes nothing.
pub async fn the_store_answers(store: &dyn Store) {
    store.ping().await.expect("answers");
    assert!(!store.has_users().await.expect("asks"));
    assert_eq!(store.log_head().await.expect("asks"), 0);
}
