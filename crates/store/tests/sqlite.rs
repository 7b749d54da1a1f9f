//! Tests that are specific to SQLite: its files, its commits, and the files that it refuses to
//! open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Barrier};

use futures_util::future::join_all;
use support::{Fresh, Locked, at_once, pat, session, user};
use tempfile::TempDir;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    Change, FoundPat, Holder, Lease, MAX_LEASE, RevokeOutcome, RotationStore, Secret, Store, StoreError,
};
use trustrelay_store::{DATABASE_FILE, OpenError, SqliteOptions, SqliteStore};
use uuid::Uuid;

#[tokio::test]
async fn changes_that_wait_share_a_commit() {
    let store = Fresh::on_disk(SqliteOptions::default());
    let ada = user("ada@example.org");
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let pats: Vec<_> = (0..300).map(|_| pat(&ada)).collect();
    let before = store.commits();
    // While another process writes, all changes have to wait.
    let other = Locked::by_another(&store);
    let done =
        at_once(join_all(pats.iter().map(|pat| store.insert_pat(pat, 1000, &AUDIT))), || drop(other)).await;
    assert!(done.iter().all(Result::is_ok));
    // The group that waited for the lock, and the group that was queued behind it.
    let commits = store.commits() - before;
    assert!((1..=2).contains(&commits), "{commits} commits for 300 changes");
    assert_eq!(store.active_pats(ada.user_id, ada.created_at).await.expect("asks").len(), 300);
}

#[tokio::test]
async fn a_change_that_fails_does_not_sink_the_others_of_its_commit() {
    let store = Fresh::on_disk(SqliteOptions::default());
    let (ada, eve) = (user("ada@example.org"), user("eve@example.org"));
    store.insert_user(&ada, &AUDIT).await.expect("added");
    store.insert_user(&eve, &AUDIT).await.expect("added");
    let before = store.commits();
    let other = Locked::by_another(&store);
    let good: Vec<_> = (0..50).map(|_| pat(&ada)).collect();
    // A missing parent, a reached limit and a taken address, each between valid changes.
    let mut bad: Vec<_> = (0..50).map(|_| pat(&eve)).collect();
    for pat in bad.iter_mut().step_by(2) {
        pat.parent_id = Some(Uuid::now_v7());
    }
    let taken = user("ada@example.org");
    let changes = good.iter().zip(&bad).map(|(good, bad)| async {
        let bad_limit = if bad.parent_id.is_some() { 1000 } else { 0 };
        tokio::join!(
            store.insert_pat(bad, bad_limit, &AUDIT),
            store.insert_pat(good, 1000, &AUDIT),
            store.insert_user(&taken, &AUDIT)
        )
    });
    for (refused, done, taken) in at_once(join_all(changes), || drop(other)).await {
        assert!(matches!(refused, Err(StoreError::ParentGone | StoreError::TooManyPats(0))), "{refused:?}");
        assert!(done.is_ok(), "{done:?}");
        assert!(matches!(taken, Err(StoreError::EmailTaken)), "{taken:?}");
    }
    assert!(store.commits() - before <= 2);
    assert_eq!(store.active_pats(ada.user_id, ada.created_at).await.expect("asks").len(), 50);
    assert!(store.active_pats(eve.user_id, eve.created_at).await.expect("asks").is_empty());
}

#[tokio::test]
async fn what_was_there_is_there_when_it_is_opened_again() {
    let dir = TempDir::new().expect("a directory");
    let ada = user("ada@example.org");
    let (pat, gone, session) = (pat(&ada), pat(&ada), session(&ada));
    let at = ada.created_at;
    let head;
    {
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
        store.insert_user(&ada, &AUDIT).await.expect("added");
        store.insert_pat(&pat, 9, &AUDIT).await.expect("inserted");
        store.insert_pat(&gone, 9, &AUDIT).await.expect("inserted");
        store.insert_session(&session, &AUDIT).await.expect("inserted");
        store.revoke_pat(gone.pat_id, at, &AUDIT).await.expect("asks");
        store.set_user_disabled(ada.user_id, Some(at), at, &AUDIT).await.expect("asks");
        store.set_user_disabled(ada.user_id, None, at, &AUDIT).await.expect("asks");
        store.insert_session(&session, &AUDIT).await.expect("inserted again");
        assert!(store.bind_secret(&[7; 16]).await.expect("asks"));
        head = store.log_head().await.expect("asks");
    }
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens again");
    assert_eq!(store.list_users().await.expect("asks"), std::slice::from_ref(&ada));
    let secret = Secret::Current { ends_another: false };
    let found = FoundPat { pat: pat.clone(), owner: ada.clone(), secret, first_use_seq: None };
    assert_eq!(store.pat_by_digest(&pat.digest).await.expect("asks"), Some(found));
    assert_eq!(store.session_by_digest(&session.digest).await.expect("asks"), Some((session, ada.clone())));
    let again = store.revoke_pat(gone.pat_id, at, &AUDIT).await.expect("asks");
    assert_eq!(again, Some(RevokeOutcome { revoked_at: at, seq: 1, newly: false }));
    assert!(!store.bind_secret(&[8; 16]).await.expect("asks"));
    assert_eq!((head, store.log_head().await.expect("asks")), (3, 3));
    let next = store.set_user_disabled(ada.user_id, Some(at), at, &AUDIT).await.expect("asks");
    assert_eq!(next, Some(4), "the numbering goes on");
}

/// The lengths of leases from before are unknown. They are waited for as long as any lease may
/// last, and then released.
#[tokio::test]
async fn a_file_from_before_leases_had_a_length_is_carried_over_with_who_holds_one() {
    let dir = TempDir::new().expect("a directory");
    let raw = rusqlite::Connection::open(dir.path().join(DATABASE_FILE)).expect("opens");
    for migration in [
        include_str!("../migrations/0001_initial.sql"),
        include_str!("../migrations/0002_nodes.sql"),
        include_str!("../migrations/0003_activity.sql"),
    ] {
        raw.execute_batch(migration).expect("as it was");
    }
    raw.pragma_update(None, "user_version", 3).expect("set");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    let (here, earlier) = (Uuid::now_v7(), Uuid::now_v7());
    let sql = "INSERT INTO nodes (node_id, boot_id, lease_until, applied_seq, name) VALUES (?1, ?2, ?3, 0, 'a:8080')";
    raw.execute(sql, (here.as_bytes(), boot_id.trim(), i64::MAX)).expect("holds one");
    raw.execute(sql, (earlier.as_bytes(), "another boot", i64::MAX)).expect("held one");

    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
    let held = store.holders_behind(1, None).await.expect("asks");
    assert_eq!(held, [Holder { node_id: here, claim: 0, length: MAX_LEASE }]);
    assert_eq!(store.nodes().await.expect("asks")[0].name, "a:8080");
    raw.execute(sql, (Uuid::now_v7().as_bytes(), boot_id.trim(), i64::MAX))
        .expect_err("a program of before gets no more of them");
    store.let_go(&held).await.expect("lets go");
    assert_eq!(store.holders_behind(1, None).await.expect("asks"), []);
}

#[tokio::test]
async fn a_store_that_ends_leaves_its_database_alone_in_one_file() {
    let dir = TempDir::new().expect("a directory");
    for n in 0..200 {
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
        let new = user(&format!("{n}@example.org"));
        store.insert_user(&new, &AUDIT).await.expect("added");
        assert_eq!(names(dir.path()).len(), 3, "while it is open, its log and index are beside it");
        drop(store);
        assert_eq!(names(dir.path()), [DATABASE_FILE], "after {n}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("lists");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("plain")).collect()
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("deep/data");
    let store = SqliteStore::open(&data, SqliteOptions::default()).expect("opens");
    store.insert_user(&user("ada@example.org"), &AUDIT).await.expect("added");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut files = Vec::new();
    for file in std::fs::read_dir(&data).expect("lists") {
        let path = file.expect("a file").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files.push(path);
    }
    assert!(files.len() >= 3, "the database, its log and its index: {files:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_schema_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().expect("a directory");
    drop(SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens"));
    let path = dir.path().join(DATABASE_FILE);
    let version = || {
        let connection = rusqlite::Connection::open(&path).expect("opens");
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, usize>(0)).expect("reads")
    };
    let known = version();
    let raw = rusqlite::Connection::open(&path).expect("opens");
    raw.pragma_update(None, "user_version", known + 1).expect("set");
    drop(raw);
    let refused = SqliteStore::open(dir.path(), SqliteOptions::default()).err().expect("refused");
    assert!(matches!(&refused, OpenError::NewerSchema { found, .. } if *found == known + 1), "{refused}");
    let says = refused.to_string();
    assert!(
        says.contains(DATABASE_FILE) && says.contains(&format!("schema version {}", known + 1)),
        "{says}"
    );
    assert_eq!(version(), known + 1);
}

#[test]
fn what_is_no_database_is_refused_and_left_as_it_is() {
    for garbage in [&b"x"[..], b"SQLite format 3\0", &[0xa5; 511], &[0xa5; 512], &[0xa5; 20_000]] {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join(DATABASE_FILE);
        std::fs::write(&path, garbage).expect("written");
        let refused = SqliteStore::open(dir.path(), SqliteOptions::default()).err().expect("refused");
        assert!(matches!(refused, OpenError::NotADatabase(_)), "{refused}");
        assert!(refused.to_string().contains(&path.display().to_string()), "{refused}");
        assert_eq!(std::fs::read(&path).expect("there"), garbage);
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    for unusable in [file.join("below"), file] {
        let refused = SqliteStore::open(&unusable, SqliteOptions::default()).err().expect("refused");
        assert!(matches!(refused, OpenError::Directory { .. }), "{refused}");
        assert!(refused.to_string().contains(&unusable.display().to_string()), "{refused}");
    }
    std::fs::create_dir(dir.path().join(DATABASE_FILE)).expect("made");
    let refused = SqliteStore::open(dir.path(), SqliteOptions::default()).err().expect("refused");
    assert!(matches!(refused, OpenError::NotADatabase(_)), "{refused}");
}

#[test]
fn many_may_begin_on_the_same_new_directory() {
    for _ in 0..10 {
        let dir = TempDir::new().expect("a directory");
        let (path, together) = (dir.path().to_owned(), Arc::new(Barrier::new(8)));
        let begun: Vec<_> = (0..8)
            .map(|_| {
                let (path, together) = (path.clone(), together.clone());
                std::thread::spawn(move || {
                    together.wait();
                    SqliteStore::open(&path, SqliteOptions::default()).map(drop)
                })
            })
            .collect();
        for begun in begun {
            begun.join().expect("joins").expect("opens");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_to_be_corrupt_and_costs_nothing_else() {
    let store = Fresh::on_disk(SqliteOptions::default());
    let ada = user("ada@example.org");
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let (good, bad) = (pat(&ada), pat(&ada));
    store.insert_pat(&good, 9, &AUDIT).await.expect("inserted");
    store.insert_pat(&bad, 9, &AUDIT).await.expect("inserted");
    store.revoke_pat(good.pat_id, ada.created_at, &AUDIT).await.expect("asks");
    let raw = rusqlite::Connection::open(store.dir.path().join(DATABASE_FILE)).expect("opens");
    raw.execute("UPDATE pats SET scopes = 'everything' WHERE pat_id = ?1", [bad.pat_id.as_bytes()])
        .expect("damaged");
    raw.execute("UPDATE log SET kind = 'odd'", []).expect("damaged");
    assert!(matches!(store.pat_by_id(bad.pat_id).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.pat_by_digest(&bad.digest).await, Err(StoreError::Corrupt(_))));
    assert!(store.pat_by_id(good.pat_id).await.expect("reads").is_some());
    let lease = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq: 0,
        length: std::time::Duration::ZERO,
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    let refused = store.renew_lease(&lease).await;
    assert!(matches!(&refused, Err(StoreError::Corrupt(what)) if what.contains("odd")), "{refused:?}");
    let outcome = store.revoke_pat(bad.pat_id, ada.created_at, &AUDIT).await.expect("asks").expect("there");
    assert!(outcome.newly, "what cannot be read can still be revoked");
    raw.execute("UPDATE log SET kind = 'revoked'", []).expect("mended");
    let read = store.renew_lease(&lease).await.expect("reads");
    let trustrelay_authority::Renewal::Behind(entries) = read else { panic!("held") };
    assert!(matches!(&entries[1].change, Change::PatsRevoked(pats) if pats[0].pat_id == bad.pat_id));
}
