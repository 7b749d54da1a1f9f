//! The store while its file cannot be written: it reports errors, applies no change partially, and
//! recovers afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use rusqlite::Connection;
use support::{Fresh, Locked, pat, session, told_revocation, user};
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    AuditStore, DayCalls, Holder, KeptActivity, Lease, NoticeStore, Renewal, RotationStore, Store,
    StoreError, TokenCalls, Usage,
};
use trustrelay_store::{DATABASE_FILE, SqliteOptions, SqliteStore};
use uuid::Uuid;

fn impatient() -> SqliteOptions {
    SqliteOptions { busy: Duration::from_millis(20), ..SqliteOptions::default() }
}

/// Options with so few pages that a test can fill the file.
fn small() -> SqliteOptions {
    SqliteOptions { max_pages: Some(120), ..SqliteOptions::default() }
}

/// The error that the operator sees, whichever step of a group did not fit.
const FULL: &str = "database or disk is full";

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(why)) => why,
        other => panic!("expected Unavailable, not {other:?}"),
    }
}

#[tokio::test]
async fn while_another_holds_the_file_every_change_is_refused_and_nothing_is_done() {
    let store = Fresh::on_disk(impatient());
    let ada = user("ada@example.org");
    let (pat, other, session) = (pat(&ada), pat(&ada), session(&ada));
    let (at, node_id) = (ada.created_at, Uuid::now_v7());
    store.insert_user(&ada, &AUDIT).await.expect("added");
    store.insert_pat(&pat, 9, &AUDIT).await.expect("inserted");
    let held = Locked::by_another(&store);
    let lease = Lease {
        node_id,
        claim: 1,
        applied_seq: 0,
        length: Duration::from_secs(600),
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    let use_of = Usage {
        pat_id: pat.pat_id,
        last_used_at: at,
        address: None,
        user_agent: None,
        count: 1,
        networks: Vec::new(),
    };
    let called = TokenCalls {
        pat_id: pat.pat_id,
        days: vec![DayCalls {
            day: jiff::civil::date(2026, 4, 7),
            upstream: "github".to_owned(),
            tool: "search".to_owned(),
            outcome: "ok".into(),
            calls: 1,
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        }],
        latest: Vec::new(),
    };
    let eve = user("eve@example.org");
    for why in [
        unavailable(store.insert_user(&eve, &AUDIT).await),
        unavailable(store.insert_first_user(&eve, &AUDIT).await),
        unavailable(store.set_user_disabled(ada.user_id, Some(at), at, &AUDIT).await),
        unavailable(store.set_password(ada.user_id, "new hash", None, &AUDIT).await),
        unavailable(store.insert_pat(&other, 9, &AUDIT).await),
        unavailable(store.revoke_pat(pat.pat_id, at, &AUDIT).await),
        unavailable(store.record_usage(&[use_of]).await),
        unavailable(store.record_calls(std::slice::from_ref(&called)).await),
        unavailable(store.forget_calls(called.days[0].day, 9).await),
        unavailable(store.insert_session(&session, &AUDIT).await),
        unavailable(store.delete_session(&session.digest, &AUDIT).await),
        unavailable(store.delete_sessions_of(ada.user_id, None, &AUDIT).await),
        unavailable(store.delete_expired_sessions(at).await),
        unavailable(store.renew_lease(&lease).await),
        unavailable(store.end_lease(node_id).await),
        unavailable(store.let_go(&[Holder { node_id, claim: 1, length: lease.length }]).await),
        unavailable(store.bind_secret(&[1; 16]).await),
    ] {
        assert!(why.contains("locked"), "it says why: {why}");
    }
    // Reads still work, and show that nothing was changed.
    store.ping().await.expect("answers");
    assert_eq!(store.list_users().await.expect("reads"), std::slice::from_ref(&ada));
    assert_eq!(store.active_pats(ada.user_id, at).await.expect("reads"), std::slice::from_ref(&pat));
    assert_eq!(store.pat_by_id(other.pat_id).await.expect("reads"), None);
    let day = called.days[0].day;
    assert_eq!(store.activity(pat.pat_id, day).await.expect("reads"), KeptActivity::default());
    assert_eq!(store.log_head().await.expect("reads"), 0);
    assert_eq!(store.log_after(0).await.expect("reads"), []);
    assert_eq!(store.holders_behind(1, None).await.expect("reads"), []);

    drop(held);
    assert!(store.bind_secret(&[2; 16]).await.expect("works again"), "the refused one was not bound");
    store.insert_pat(&other, 9, &AUDIT).await.expect("works again");
    assert_eq!(store.renew_lease(&lease).await.expect("works again"), Renewal::Held);
    assert!(store.revoke_pat(pat.pat_id, at, &AUDIT).await.expect("works again").expect("there").newly);
    assert_eq!(store.log_head().await.expect("reads"), 1);
}

#[tokio::test]
async fn a_change_waits_for_another_that_is_soon_done() {
    let store = Fresh::on_disk(SqliteOptions::default());
    let held = Locked::by_another(&store);
    let ada = user("ada@example.org");
    let change = store.insert_user(&ada, &AUDIT);
    support::at_once(change, || drop(held)).await.expect("added");
}

#[tokio::test]
async fn on_a_full_disk_what_is_answered_is_done_and_what_is_refused_is_not() {
    let store = Fresh::on_disk(small());
    let ada = user("ada@example.org");
    let at = ada.created_at;
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    // Groups of twenty, until one does not fit, so that a commit contains both successes and
    // failures.
    for _ in 0..100 {
        let pats: Vec<_> = (0..20).map(|_| pat(&ada)).collect();
        let answers = join_all(pats.iter().map(|pat| store.insert_pat(pat, 100_000, &AUDIT))).await;
        for (pat, answer) in pats.into_iter().zip(answers) {
            match answer {
                Ok(()) => kept.push(pat),
                Err(_) => {
                    assert_eq!(unavailable(answer), FULL);
                    refused.push(pat);
                }
            }
        }
        if refused.len() > 60 {
            break;
        }
    }
    assert!(!kept.is_empty() && !refused.is_empty(), "{} kept, {} refused", kept.len(), refused.len());
    let holds = async |store: &SqliteStore, expected: usize| {
        assert_eq!(store.active_pats(ada.user_id, at).await.expect("reads").len(), expected);
    };
    holds(&store, kept.len()).await;
    for pat in &refused {
        assert_eq!(store.pat_by_id(pat.pat_id).await.expect("reads"), None);
    }
    for pat in &kept {
        assert_eq!(store.pat_by_id(pat.pat_id).await.expect("reads").as_ref(), Some(pat));
    }

    let Fresh { store, dir } = store;
    drop(store);
    let roomy = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
    holds(&roomy, kept.len()).await;
    for pat in &refused {
        roomy.insert_pat(pat, 100_000, &AUDIT).await.expect("there is room again");
    }
    holds(&roomy, kept.len() + refused.len()).await;
}

#[tokio::test]
async fn a_revocation_that_does_not_fit_is_refused_and_the_token_stands() {
    let store = Fresh::on_disk(small());
    let ada = user("ada@example.org");
    let at = ada.created_at;
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let token = pat(&ada);
    store.insert_pat(&token, 100_000, &AUDIT).await.expect("inserted");
    // Fill the file until no page is left for another token. A token needs a few pages at most.
    while store.insert_pat(&pat(&ada), 100_000, &AUDIT).await.is_ok() {}
    // The entry alone needs a hundred pages, and revoking one token frees none.
    let long = AUDIT.clone().with("reason", "x".repeat(100 * 4096));
    let before = store.audit_after(0, 100_000).await.expect("reads");
    for _ in 0..2 {
        assert_eq!(unavailable(store.revoke_pat(token.pat_id, at, &long).await), FULL);
        assert_eq!(store.log_head().await.expect("reads"), 0, "no node is told");
        assert_eq!(store.log_after(0).await.expect("reads"), []);
        assert_eq!(store.audit_after(0, 100_000).await.expect("reads"), before);
        let found = store.pat_by_digest(&token.digest).await.expect("reads").expect("there");
        assert_eq!(found.pat, token, "it is not revoked, and nobody was told that it is");
    }

    let Fresh { store, dir } = store;
    drop(store);
    let roomy = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
    let outcome = roomy.revoke_pat(token.pat_id, at, &long).await.expect("there is room again");
    let outcome = outcome.expect("there");
    assert_eq!((outcome.seq, outcome.newly), (1, true));
    assert_eq!(roomy.pat_by_id(token.pat_id).await.expect("reads").expect("there").revoked_at, Some(at));
}

#[tokio::test]
async fn a_revocation_on_a_full_disk_is_done_whole_or_refused_whole() {
    let store = Fresh::on_disk(small());
    let ada = user("ada@example.org");
    let at = ada.created_at;
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let root = pat(&ada);
    store.insert_pat(&root, 100_000, &AUDIT).await.expect("inserted");
    let mut tree = 1;
    // A tree that fills the file. Revoking it needs an entry as large as the tree itself. Removing
    // its tokens from the indexes of active tokens frees space for some of it.
    loop {
        let mut child = pat(&ada);
        child.parent_id = Some(root.pat_id);
        match store.insert_pat(&child, 100_000, &AUDIT).await {
            Ok(()) => tree += 1,
            Err(_) => break,
        }
    }
    let fits = store.revoke_pat(root.pat_id, at, &AUDIT).await;
    let (entries, active) = match &fits {
        Ok(_) => (1, 0),
        Err(error) => {
            assert!(matches!(error, StoreError::Unavailable(why) if why == FULL), "{error:?}");
            (0, tree)
        }
    };
    assert_eq!(store.log_head().await.expect("reads"), entries);
    assert_eq!(store.active_pats(ada.user_id, at).await.expect("reads").len(), active);

    let Fresh { store, dir } = store;
    drop(store);
    let roomy = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
    let outcome =
        roomy.revoke_pat(root.pat_id, at, &AUDIT).await.expect("there is room again").expect("there");
    assert_eq!((outcome.seq, outcome.newly), (1, fits.is_err()));
    assert!(roomy.active_pats(ada.user_id, at).await.expect("reads").is_empty());
}

fn count(raw: &Connection, table: &str) -> i64 {
    raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counts")
}

#[tokio::test]
async fn a_revocation_and_its_notice_are_done_together_or_not_at_all() {
    let store = Fresh::on_disk(SqliteOptions::default());
    let ada = user("ada@example.org");
    let at = ada.created_at;
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let (token, other) = (pat(&ada), pat(&ada));
    for pat in [&token, &other] {
        store.insert_pat(pat, 9, &AUDIT).await.expect("inserted");
    }
    let before = store.audit_after(0, 100).await.expect("reads");
    let raw = Connection::open(store.dir.path().join(DATABASE_FILE)).expect("opens");
    let revocations = [told_revocation(&other), told_revocation(&token)];
    // Lets each write fail in turn. The failure hits the second token, after the first has
    // succeeded.
    for table in ["notices", "deliveries", "audit", "log_pats"] {
        let fails = format!(
            "CREATE TRIGGER broken BEFORE INSERT ON {table} WHEN (SELECT count(*) FROM {table}) > {} \
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
            count(&raw, table)
        );
        raw.execute_batch(&fails).expect("made");
        let refused = store.revoke_pats(&revocations, at, true).await;
        assert!(refused.is_err(), "{table}: {refused:?}");
        assert_eq!(store.log_head().await.expect("reads"), 0, "{table}");
        assert_eq!(store.active_pats(ada.user_id, at).await.expect("reads").len(), 2, "{table}");
        assert_eq!(store.notices(None, None, 9).await.expect("reads"), [], "{table}");
        assert_eq!(store.audit_after(0, 100).await.expect("reads"), before, "{table}");
        raw.execute_batch("DROP TRIGGER broken").expect("gone");
    }
    let outcomes = store.revoke_pats(&revocations, at, true).await.expect("works again");
    assert!(outcomes.iter().flatten().all(|outcome| outcome.newly) && outcomes.len() == 2);
    assert_eq!(store.notices(None, None, 9).await.expect("reads").len(), 2);
}
