//! Stories of rotations.

use futures_util::future::join_all;
use jiff::Timestamp;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use super::kit::{AUDIT, added, at, child, insert, issued, log_after, only_entry, pat, stored};
use super::notices::{listed, told};
use crate::record::{Change, LogEntry, PatRecord, RetiredSecret, RevokedPat};
use crate::rotation::{FoundPat, RETIRED_SECRETS, Repeatable, RotateOutcome, Rotation, Secret};
use crate::store::Store;

fn digest(n: u8) -> TokenDigest {
    let mut digest = [n; 32];
    digest[..16].copy_from_slice(Uuid::now_v7().as_bytes());
    TokenDigest::from_bytes(digest)
}

/// A rotation at `at`, whose old secret is good until `until`.
pub(super) fn rotation(pat: &PatRecord, when: Timestamp, until: Timestamp) -> Rotation {
    Rotation {
        pat_id: pat.pat_id,
        at: when,
        replaces: pat.digest,
        digest: digest(1),
        key_id: KeyId(8),
        hint: "...new1".into(),
        expires_at: at(2_000_000),
        old_valid_until: until,
        until_first_use: false,
        repeatable: None,
    }
}

async fn rotate(store: &dyn Store, rotation: &Rotation) -> RotateOutcome {
    store.rotate_pat(rotation, &AUDIT).await.expect("asks")
}

async fn found(store: &dyn Store, digest: &TokenDigest) -> FoundPat {
    store.pat_by_digest(digest).await.expect("asks").expect("there")
}

fn retired(entry: &LogEntry) -> Vec<RetiredSecret> {
    match &entry.change {
        Change::SecretsRetired(secrets) => secrets.clone(),
        other => panic!("{other:?}"),
    }
}

/// What the token is stays; what it is known by changes.
pub async fn a_rotated_token_has_another_secret_and_stays_itself(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let asked = rotation(&pat, at(10), at(500));
    assert_eq!(rotate(store, &asked).await, RotateOutcome::Rotated(1));

    let now = PatRecord {
        digest: asked.digest,
        key_id: asked.key_id,
        hint: asked.hint.clone(),
        expires_at: asked.expires_at,
        rotated_at: Some(at(10)),
        ..pat.clone()
    };
    assert_eq!(stored(store, &pat).await, now);
    let by_new = found(store, &asked.digest).await;
    assert_eq!((by_new.pat, by_new.secret), (now.clone(), Secret::Current { ends_another: false }));
    let by_old = found(store, &pat.digest).await;
    assert_eq!((by_old.pat, by_old.owner), (now, ada));
    let (digest, hint) = (pat.digest, pat.hint.clone());
    assert_eq!(by_old.secret, Secret::Retired { digest, valid_until: at(500), ended: false, hint });

    let entry = only_entry(store).await;
    assert_eq!((entry.seq, entry.at), (1, at(10)));
    assert_eq!(
        retired(&entry),
        [RetiredSecret { pat_id: pat.pat_id, digest, valid_until: at(500), ended: false }]
    );
}

/// However long an overlap is asked for.
pub async fn an_old_secret_is_good_no_longer_than_its_token_was(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    rotate(store, &rotation(&pat, at(10), at(5_000_000))).await;
    let Secret::Retired { valid_until, .. } = found(store, &pat.digest).await.secret else {
        panic!("retired")
    };
    assert_eq!(valid_until, pat.expires_at);
}

/// And nothing is changed by that.
pub async fn what_is_not_active_or_has_another_secret_is_not_rotated(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let eve = added(store, "eve@example.org").await;
    let (revoked, expired, hers, pat) = (
        issued(store, &ada).await,
        issued(store, &ada).await,
        issued(store, &eve).await,
        issued(store, &ada).await,
    );
    store.revoke_pat(revoked.pat_id, at(1), &AUDIT).await.expect("asks");
    store.set_user_disabled(eve.user_id, Some(at(2)), at(2), &AUDIT).await.expect("asks");
    let unknown = PatRecord { pat_id: Uuid::now_v7(), ..pat.clone() };
    let late = rotation(&expired, expired.expires_at, at(2_000_000));
    for asked in [
        rotation(&revoked, at(3), at(9)),
        late,
        rotation(&hers, at(3), at(9)),
        rotation(&unknown, at(3), at(9)),
    ] {
        assert_eq!(rotate(store, &asked).await, RotateOutcome::NotActive, "{asked:?}");
        assert!(store.pat_by_digest(&asked.digest).await.expect("asks").is_none());
    }
    let other = Rotation { replaces: digest(9), ..rotation(&pat, at(3), at(9)) };
    assert_eq!(rotate(store, &other).await, RotateOutcome::Changed);
    assert_eq!(stored(store, &pat).await, pat);
    assert_eq!(log_after(store, 0).await.len(), 2, "what is refused takes no number");
}

/// Whoever comes second has to look again.
pub async fn of_many_rotations_at_once_one_is_made(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let asked: Vec<_> = (0..10).map(|_| rotation(&pat, at(10), at(500))).collect();
    let outcomes = join_all(asked.iter().map(|asked| rotate(store, asked))).await;
    let done: Vec<_> = outcomes.iter().filter(|outcome| **outcome == RotateOutcome::Rotated(1)).collect();
    assert_eq!(done.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == RotateOutcome::Changed).count(), 9);
    assert_eq!(log_after(store, 0).await.len(), 1);
}

/// One old secret is good at a time: the earlier one ends, and the entry names both.
pub async fn rotating_again_ends_the_secret_before_the_last(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let first = rotation(&pat, at(10), at(900));
    rotate(store, &first).await;
    let second = Rotation { replaces: first.digest, ..rotation(&pat, at(20), at(800)) };
    assert_eq!(rotate(store, &second).await, RotateOutcome::Rotated(2));
    let mut named = retired(&log_after(store, 1).await[0]);
    named.sort_by_key(|secret| secret.valid_until);
    let of = |digest, valid_until, ended| RetiredSecret { pat_id: pat.pat_id, digest, valid_until, ended };
    assert_eq!(named, [of(pat.digest, at(20), true), of(first.digest, at(800), false)]);
    let Secret::Retired { valid_until, .. } = found(store, &pat.digest).await.secret else {
        panic!("retired")
    };
    assert_eq!(valid_until, at(20));
}

/// Whatever of its secrets somebody has.
pub async fn revoking_names_every_secret_that_the_token_had(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    let below = insert(store, child(&parent)).await;
    let asked = Rotation { expires_at: parent.expires_at, ..rotation(&below, at(10), at(20)) };
    rotate(store, &asked).await;
    // Also one whose time is over: clocks differ.
    store.revoke_pat(parent.pat_id, at(30), &AUDIT).await.expect("asks");
    let Change::PatsRevoked(mut named) = log_after(store, 1).await[0].change.clone() else {
        panic!("revoked")
    };
    let mut all = vec![
        RevokedPat { pat_id: parent.pat_id, digest: parent.digest },
        RevokedPat { pat_id: below.pat_id, digest: asked.digest },
        RevokedPat { pat_id: below.pat_id, digest: below.digest },
    ];
    let order = |pat: &RevokedPat| (pat.pat_id, *pat.digest.as_bytes());
    named.sort_by_key(order);
    all.sort_by_key(order);
    assert_eq!(named, all);
    assert!(found(store, &below.digest).await.pat.revoked_at.is_some());
}

/// Once, by whoever comes first.
pub async fn the_first_use_ends_the_secret_before(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    assert_eq!(store.retire_secret(pat.pat_id, at(5), &AUDIT).await.expect("asks"), None);
    let asked = Rotation { until_first_use: true, ..rotation(&pat, at(10), at(900)) };
    rotate(store, &asked).await;
    let before = found(store, &asked.digest).await;
    assert_eq!((before.secret, before.first_use_seq), (Secret::Current { ends_another: true }, None));

    let ended = join_all((0..5).map(|n| store.retire_secret(pat.pat_id, at(20 + n), &AUDIT))).await;
    let ended: Vec<_> = ended.into_iter().map(|seq| seq.expect("asks")).collect();
    assert_eq!(ended.iter().flatten().collect::<Vec<_>>(), [&2], "{ended:?}");
    let after = found(store, &asked.digest).await;
    assert_eq!((after.secret, after.first_use_seq), (Secret::Current { ends_another: false }, Some(2)));
    let entry = &log_after(store, 1).await[0];
    let Secret::Retired { valid_until, .. } = found(store, &pat.digest).await.secret else {
        panic!("retired")
    };
    assert_eq!(valid_until, entry.at);
    assert_eq!(
        retired(entry),
        [RetiredSecret { pat_id: pat.pat_id, digest: pat.digest, valid_until, ended: true }]
    );
}

/// By the next rotation, or when the token's life is over by somebody's clock: who has the new
/// secret waits for that entry.
pub async fn what_else_ends_a_secret_before_its_successor_is_used_is_known_too(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let seq = async |digest: &TokenDigest| found(store, digest).await.first_use_seq;
    let first = Rotation { until_first_use: true, ..rotation(&pat, at(10), at(900)) };
    rotate(store, &first).await;
    let second = Rotation { replaces: first.digest, digest: digest(2), ..rotation(&pat, at(20), at(40)) };
    rotate(store, &second).await;
    assert_eq!((seq(&first.digest).await, seq(&second.digest).await), (Some(2), Some(2)));
    // What ends otherwise, nobody waits for.
    assert_eq!(store.end_overlap(pat.pat_id, at(50), &AUDIT).await.expect("asks"), Some(3));
    assert_eq!(seq(&second.digest).await, Some(2));

    let third = Rotation {
        replaces: second.digest,
        digest: digest(3),
        until_first_use: true,
        ..rotation(&pat, at(60), at(70))
    };
    rotate(store, &third).await;
    assert_eq!(store.end_overlap(pat.pat_id, at(80), &AUDIT).await.expect("asks"), Some(5));
    let after = found(store, &third.digest).await;
    assert_eq!((after.secret, after.first_use_seq), (Secret::Current { ends_another: false }, Some(5)));
    assert_eq!(seq(&issued(store, &ada).await.digest).await, None, "another token's");
}

/// Whoever's clock is behind is not asked.
pub async fn a_secret_that_has_ended_is_marked_as_such(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let ended = async |digest: &TokenDigest| match found(store, digest).await.secret {
        Secret::Retired { ended, valid_until, .. } => (ended, valid_until),
        Secret::Current { .. } => panic!("retired"),
    };
    // With an overlap of nothing.
    let pat = issued(store, &ada).await;
    rotate(store, &rotation(&pat, at(10), at(10))).await;
    assert_eq!(ended(&pat.digest).await, (true, at(10)));
    assert!(retired(&only_entry(store).await)[0].ended);

    // With one that comes to its end, by whichever clock says so first. Nothing else of the token's
    // ends then.
    let pat = issued(store, &ada).await;
    let first = rotation(&pat, at(10), at(20));
    rotate(store, &first).await;
    assert_eq!(store.end_overlap(pat.pat_id, at(19), &AUDIT).await.expect("asks"), None);
    assert_eq!(ended(&pat.digest).await, (false, at(20)));
    assert_eq!(store.end_overlap(pat.pat_id, at(25), &AUDIT).await.expect("asks"), Some(3));
    assert_eq!(ended(&pat.digest).await, (true, at(20)));
    let named = RetiredSecret { pat_id: pat.pat_id, digest: pat.digest, valid_until: at(20), ended: true };
    assert_eq!(retired(&log_after(store, 2).await[0]), [named]);
    assert_eq!(store.end_overlap(pat.pat_id, at(26), &AUDIT).await.expect("asks"), None, "once");

    // With one that is over by the clock of who rotates again, and is not marked yet: the entry
    // ends it.
    let second = Rotation { replaces: first.digest, digest: digest(2), ..rotation(&pat, at(30), at(40)) };
    rotate(store, &second).await;
    let third = Rotation { replaces: second.digest, digest: digest(3), ..rotation(&pat, at(50), at(900)) };
    rotate(store, &third).await;
    assert_eq!(ended(&first.digest).await, (true, at(40)));
    assert_eq!(store.end_overlap(pat.pat_id, at(60), &AUDIT).await.expect("asks"), None);
    assert_eq!(ended(&second.digest).await, (false, at(900)));
    assert_eq!(store.end_overlap(Uuid::now_v7(), at(60), &AUDIT).await.expect("asks"), None);
}

/// As long as that is remembered, and until the next one.
pub async fn a_rotation_reads_back_until_it_is_forgotten(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    assert_eq!(store.last_rotation(pat.pat_id).await.expect("asks"), None);
    let repeatable = Repeatable { key_digest: [1; 32], asked_digest: [2; 32], nonce: [3; 32] };
    let asked = Rotation { repeatable: Some(repeatable.clone()), ..rotation(&pat, at(10), at(900)) };
    rotate(store, &asked).await;
    let past = store.last_rotation(pat.pat_id).await.expect("asks").expect("there");
    assert_eq!((past.at, past.seq, past.old_valid_until, past.until_first_use), (at(10), 1, at(900), false));
    assert_eq!(past.repeatable, repeatable);

    assert_eq!(store.forget_rotations(at(10)).await.expect("asks"), 0);
    assert!(store.last_rotation(pat.pat_id).await.expect("asks").is_some());
    assert_eq!(store.forget_rotations(at(11)).await.expect("asks"), 1);
    assert_eq!(store.last_rotation(pat.pat_id).await.expect("asks"), None);

    let second =
        Rotation { replaces: asked.digest, digest: digest(2), repeatable: Some(repeatable), ..asked.clone() };
    rotate(store, &second).await;
    let third = Rotation { replaces: second.digest, digest: digest(3), ..rotation(&pat, at(30), at(900)) };
    rotate(store, &third).await;
    assert_eq!(store.last_rotation(pat.pat_id).await.expect("asks"), None, "the next one cannot be repeated");
}

/// Its owner is told of each use that is noted, and of no other.
pub async fn the_use_of_a_retired_secret_is_noted_and_told_now_and_then(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = pat(&ada);
    let pat = insert(store, pat).await;
    let note = async |digest: &TokenDigest, micros: i64, since: i64| {
        let mut new = told(&ada, &format!("at {micros}, noted since {since}"));
        new.notice.created_at = at(micros);
        let noted = store.note_retired_use(digest, at(since), &new, true).await.expect("asks");
        let last = listed(store, Some(&ada)).await.into_iter().next();
        let is_told = last.is_some_and(|last| last.notice == new.notice && last.deliveries.len() == 1);
        assert_eq!(is_told, noted, "at {micros}, noted since {since}");
        noted
    };
    assert!(!note(&pat.digest, 5, 0).await, "it is the current one");
    rotate(store, &rotation(&pat, at(10), at(20))).await;
    assert!(note(&pat.digest, 30, 25).await);
    assert!(!note(&pat.digest, 31, 30).await);
    assert!(note(&pat.digest, 40, 31).await);
    assert!(!note(&digest(7), 40, 31).await, "nobody's");
    assert_eq!(listed(store, Some(&ada)).await.len(), 2);
}

/// The oldest go first: what has been dead for a hundred rotations is an unknown token.
pub async fn of_the_retired_secrets_the_latest_stay(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pat = issued(store, &ada).await;
    let mut digests = vec![pat.digest];
    for n in 0..=i64::try_from(RETIRED_SECRETS).expect("small") {
        let replaces = digests[digests.len() - 1];
        let asked = Rotation { replaces, ..rotation(&pat, at(10 + n), at(10 + n)) };
        assert!(matches!(rotate(store, &asked).await, RotateOutcome::Rotated(_)));
        digests.push(asked.digest);
    }
    assert!(store.pat_by_digest(&digests[0]).await.expect("asks").is_none());
    for digest in [&digests[1], &digests[RETIRED_SECRETS], &digests[RETIRED_SECRETS + 1]] {
        assert_eq!(found(store, digest).await.pat.pat_id, pat.pat_id);
    }
}
