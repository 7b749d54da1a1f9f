//! Stores and records for tests.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::ops::Deref;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    NewNotice, Notice, NoticeFacts, NoticeKind, PatRecord, Revocation, SessionRecord, UserRecord,
};
use trustrelay_store::{DATABASE_FILE, SqliteOptions, SqliteStore};
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

/// A new store in a temporary directory, which is removed with it.
pub struct Fresh {
    pub store: SqliteStore,
    pub dir: TempDir,
}

impl Fresh {
    /// Creates a store on a memory file system where there is one. On a disk, hundreds of stores
    /// that flush each commit are slow.
    pub fn in_memory_if_possible() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() };
        Self::at(dir.expect("a directory"), SqliteOptions::default())
    }

    pub fn on_disk(options: SqliteOptions) -> Self {
        Self::at(TempDir::new().expect("a directory"), options)
    }

    fn at(dir: TempDir, options: SqliteOptions) -> Self {
        let store = SqliteStore::open(dir.path(), options).expect("opens");
        Self { store, dir }
    }
}

impl Deref for Fresh {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.store
    }
}

/// The file's write lock, held by another connection until this is dropped.
pub struct Locked(Connection);

impl Locked {
    pub fn by_another(store: &Fresh) -> Self {
        let connection = Connection::open(store.dir.path().join(DATABASE_FILE)).expect("opens");
        connection.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
        Self(connection)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").expect("ends");
    }
}

/// Polls a future until all its changes are queued, then calls `then` and waits for the result.
pub async fn at_once<F: Future>(changes: F, then: impl FnOnce()) -> F::Output {
    // Tokio's cooperative budget would queue only some of them at a time.
    let changes = tokio::task::unconstrained(changes);
    tokio::pin!(changes);
    tokio::select! {
        biased;
        _ = &mut changes => panic!("a change was answered while the file was locked"),
        () = std::future::ready(()) => {}
    }
    then();
    changes.await
}

pub fn user(email: &str) -> UserRecord {
    UserRecord {
        user_id: Uuid::now_v7(),
        email: email.to_owned(),
        password_hash: "hash".to_owned(),
        is_admin: false,
        created_at: Timestamp::from_microsecond(1_775_563_200_000_001).expect("in range"),
        disabled_at: None,
        upstreams: None,
    }
}

pub fn pat(owner: &UserRecord) -> PatRecord {
    let pat_id = Uuid::now_v7();
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(pat_id.as_bytes());
    PatRecord {
        pat_id,
        user_id: owner.user_id,
        name: "ci-pipeline".to_owned(),
        hint: "...wxyz".to_owned(),
        scopes: "mcp".parse().expect("a scope"),
        digest: TokenDigest::from_bytes(digest),
        key_id: KeyId(1),
        parent_id: None,
        created_at: owner.created_at,
        expires_at: Timestamp::from_microsecond(1_800_000_000_000_000).expect("in range"),
        revoked_at: None,
        last_used_at: None,
        rotated_at: None,
        limits: None,
    }
}

pub fn session(owner: &UserRecord) -> SessionRecord {
    SessionRecord {
        digest: *pat(owner).digest.as_bytes(),
        user_id: owner.user_id,
        created_at: owner.created_at,
        expires_at: Timestamp::from_microsecond(1_800_000_000_000_000).expect("in range"),
    }
}

/// Returns a revocation that notifies the owner.
pub fn told_revocation(pat: &PatRecord) -> Revocation {
    let notice = Notice {
        notice_id: Uuid::now_v7(),
        user_id: pat.user_id,
        pat_id: Some(pat.pat_id),
        kind: NoticeKind::Leaked,
        created_at: pat.created_at,
        facts: NoticeFacts::default(),
    };
    let notice = Some(NewNotice { notice, once: format!("leaked:{}", pat.pat_id), only: None });
    Revocation { pat_id: pat.pat_id, audit: AUDIT.clone(), notice }
}
