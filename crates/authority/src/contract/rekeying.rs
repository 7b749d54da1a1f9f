//! Stories of re-keying: a digest is rewritten under another key, and the token stays what it is.

use futures_util::future::join_all;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use super::kit::{AUDIT, added, at, child, insert, issued, log_after, stored};
use crate::keys::{KeyCount, Rekey, RekeyOutcome};
use crate::record::{Change, LogEntry, PatRecord};
use crate::rotation::{RotateOutcome, Rotation, Secret};
use crate::store::Store;

const BOUND: [u8; 16] = [1; 16];

fn digest() -> TokenDigest {
    let mut digest = [3; 32];
    digest[..16].copy_from_slice(Uuid::now_v7().as_bytes());
    TokenDigest::from_bytes(digest)
}

fn asked(pat: &PatRecord) -> Rekey {
    Rekey { pat_id: pat.pat_id, replaces: pat.digest, digest: digest(), key_id: KeyId(8), fingerprint: BOUND }
}

async fn bind(store: &dyn Store) {
    assert!(store.bind_secret(&BOUND).await.expect("asks"));
}

async fn rekeyed(store: &dyn Store, pat: &PatRecord) -> PatRecord {
    let asked = asked(pat);
    assert_eq!(store.rekey_pat(&asked).await.expect("asks"), RekeyOutcome::Rekeyed);
    PatRecord { digest: asked.digest, key_id: asked.key_id, ..pat.clone() }
}

async fn rotate(store: &dyn Store, pat: &PatRecord) -> RotateOutcome {
    let rotation = Rotation {
        pat_id: pat.pat_id,
        at: at(10),
        replaces: pat.digest,
        digest: digest(),
        key_id: KeyId(8),
        hint: "...new1".into(),
        expires_at: at(2_000_000),
        old_valid_until: at(500),
        until_first_use: false,
        repeatable: None,
    };
    store.rotate_pat(&rotation, &AUDIT).await.expect("asks")
}

/// The digests that an entry names, sorted.
fn named(entry: &LogEntry) -> Vec<[u8; 32]> {
    let mut digests: Vec<_> = match &entry.change {
        Change::PatsRevoked(pats) => pats.iter().map(|pat| *pat.digest.as_bytes()).collect(),
        Change::SecretsRetired(secrets) => secrets.iter().map(|one| *one.digest.as_bytes()).collect(),
        other => panic!("{other:?}"),
    };
    digests.sort_unstable();
    digests
}

fn sorted(digests: &[TokenDigest]) -> Vec<[u8; 32]> {
    let mut digests: Vec<_> = digests.iter().map(|digest| *digest.as_bytes()).collect();
    digests.sort_unstable();
    digests
}

/// A node that does not know the new key looks for the old digest, and must not lose the token.
pub async fn a_rekeyed_token_is_found_by_every_digest_that_it_had(store: &dyn Store) {
    bind(store).await;
    let ada = added(store, "ada@example.org").await;
    let first = issued(store, &ada).await;
    let second = rekeyed(store, &first).await;
    let third = rekeyed(store, &second).await;
    assert_eq!(stored(store, &first).await, third);
    for known in [first.digest, second.digest, third.digest] {
        let found = store.pat_by_digest(&known).await.expect("asks").expect("there");
        assert_eq!(found.pat, third);
        assert_eq!(found.secret, Secret::Current { ends_another: false });
    }
    assert!(log_after(store, 0).await.is_empty(), "no power is taken away");
}

/// Neither a stale digest nor an outdated order of secrets changes anything.
pub async fn what_changed_meanwhile_is_not_rekeyed(store: &dyn Store) {
    bind(store).await;
    let ada = added(store, "ada@example.org").await;
    let (pat, revoked) = (issued(store, &ada).await, issued(store, &ada).await);
    store.revoke_pat(revoked.pat_id, at(1), &AUDIT).await.expect("asks");
    let refused = [
        (Rekey { fingerprint: [2; 16], ..asked(&pat) }, RekeyOutcome::NotBound),
        (Rekey { replaces: digest(), ..asked(&pat) }, RekeyOutcome::Changed),
        (Rekey { pat_id: Uuid::now_v7(), ..asked(&pat) }, RekeyOutcome::Changed),
        (asked(&revoked), RekeyOutcome::Changed),
    ];
    for (asked, outcome) in refused {
        assert_eq!(store.rekey_pat(&asked).await.expect("asks"), outcome, "{asked:?}");
        assert!(store.pat_by_digest(&asked.digest).await.expect("asks").is_none());
    }
    assert_eq!(stored(store, &pat).await, pat);
    let asked: Vec<_> = (0..10).map(|_| asked(&pat)).collect();
    let outcomes = join_all(asked.iter().map(|asked| store.rekey_pat(asked))).await;
    let done =
        outcomes.into_iter().filter(|outcome| *outcome.as_ref().expect("asks") == RekeyOutcome::Rekeyed);
    assert_eq!(done.count(), 1, "of many at once, one is made");
}

/// An index may hold the token under any of them.
pub async fn a_revocation_names_the_digests_from_before_a_rekeying(store: &dyn Store) {
    bind(store).await;
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    let below = insert(store, child(&parent)).await;
    let (parent_now, below_now) = (rekeyed(store, &parent).await, rekeyed(store, &below).await);
    store.revoke_pat(parent.pat_id, at(5), &AUDIT).await.expect("asks").expect("there");
    let entries = log_after(store, 0).await;
    assert_eq!(
        named(&entries[0]),
        sorted(&[parent.digest, below.digest, parent_now.digest, below_now.digest])
    );
}

/// All of them belong to the secret that is replaced, and end with it.
pub async fn a_rotation_retires_the_digests_from_before_a_rekeying(store: &dyn Store) {
    bind(store).await;
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let now = rekeyed(store, &pat).await;
    // The caller has read the token before it was re-keyed.
    assert_eq!(rotate(store, &pat).await, RotateOutcome::Rotated(1));
    let entries = log_after(store, 0).await;
    assert_eq!(named(&entries[0]), sorted(&[pat.digest, now.digest]));
    for known in [pat.digest, now.digest] {
        let found = store.pat_by_digest(&known).await.expect("asks").expect("there");
        assert_eq!(
            found.secret,
            Secret::Retired { digest: known, valid_until: at(500), ended: false, hint: pat.hint.clone() }
        );
    }
    assert_eq!(rotate(store, &pat).await, RotateOutcome::Changed, "its time is over");
    let next = stored(store, &pat).await;
    rekeyed(store, &next).await;
    store.revoke_pat(pat.pat_id, at(20), &AUDIT).await.expect("asks").expect("there");
    let entries = log_after(store, 1).await;
    assert_eq!(named(&entries[0]).len(), 4);
}

/// For the operator who asks whether a key can be dropped.
pub async fn what_hangs_on_each_key_is_counted(store: &dyn Store) {
    bind(store).await;
    let ada = added(store, "ada@example.org").await;
    let (one, two) = (issued(store, &ada).await, issued(store, &ada).await);
    let (revoked, rotated) = (issued(store, &ada).await, issued(store, &ada).await);
    store.revoke_pat(revoked.pat_id, at(1), &AUDIT).await.expect("asks");
    rotate(store, &rotated).await;
    rekeyed(store, &two).await;
    let count = |key_id, tokens, overlaps| KeyCount { key_id: KeyId(key_id), tokens, overlaps, webhooks: 0 };
    assert_eq!(store.key_counts(at(20)).await.expect("asks"), [count(one.key_id.0, 1, 1), count(8, 2, 0)]);
    assert_eq!(store.key_counts(at(500)).await.expect("asks"), [count(one.key_id.0, 1, 0), count(8, 2, 0)]);
    assert_eq!(store.key_counts(at(2_000_000)).await.expect("asks"), []);
}
