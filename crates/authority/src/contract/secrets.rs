//! Stories of the server secret that a store is bound to, and of its pulse.

use futures_util::future::join_all;

use super::kit::at;
use crate::audit::{Actor, AuditEntry};
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

/// A rotation of the server's secret moves the binding forward, and nothing moves it back.
pub async fn a_store_learns_a_new_secret_and_never_goes_back(store: &dyn Store) {
    let (old, new, other) = ([1; 16], [2; 16], [3; 16]);
    let activated = AuditEntry::new(at(1), Actor::SYSTEM, "secret.activated");
    assert!(!store.replace_secret(&old, &new, &activated).await.expect("asks"), "it is bound to none");
    assert!(store.bind_secret(&old).await.expect("asks"));
    assert!(
        !store.replace_secret(&other, &new, &activated).await.expect("asks"),
        "only its own secret is replaced"
    );
    assert!(!store.replace_secret(&old, &old, &activated).await.expect("asks"), "not with itself");
    assert!(store.bind_secret(&old).await.expect("asks"), "what was refused changed nothing");
    let moves = join_all((0..10).map(|_| store.replace_secret(&old, &new, &activated))).await;
    let moved = moves.into_iter().filter(|moved| *moved.as_ref().expect("asks")).count();
    assert_eq!(moved, 1);
    assert!(store.bind_secret(&new).await.expect("asks"));
    assert!(!store.bind_secret(&old).await.expect("asks"));
    assert!(
        !store.replace_secret(&new, &old, &activated).await.expect("asks"),
        "an outdated key file undoes nothing"
    );
    assert!(store.replace_secret(&new, &other, &activated).await.expect("asks"));
    assert!(!store.replace_secret(&other, &old, &activated).await.expect("asks"));
    assert!(store.bind_secret(&other).await.expect("asks"));
    let told = store.audit_after(0, 100).await.expect("asks");
    assert_eq!(told.len(), 2, "each change once, and nothing of what was refused");
}

/// The pulse changes nothing.
pub async fn the_store_answers(store: &dyn Store) {
    store.ping().await.expect("answers");
    assert!(!store.has_users().await.expect("asks"));
    assert_eq!(store.log_head().await.expect("asks"), 0);
}
