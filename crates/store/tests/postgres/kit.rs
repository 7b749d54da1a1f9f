//! Helpers for the PostgreSQL tests.
#![allow(unreachable_pub)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_postgres::Client;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    AllowsFrom, Authority, AuthorityConfig, Cut, Expiry, Issued, Lease, NewAccount, NewNotice, NewPat,
    Notice, NoticeFacts, NoticeKind, PatRecord, Renewal, Revocation, ServerSecret, Store, SystemClock,
    UserRecord,
};
use trustrelay_store::PostgresStore;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

pub use crate::cluster::PATIENCE;

/// Longer than any test takes.
pub const LONG: Duration = Duration::from_secs(50);
pub const EMAIL: &str = "ada@example.org";

/// Returns a node's request for a lease.
pub fn lease(node_id: Uuid, applied_seq: u64, length: Duration) -> Lease {
    Lease { node_id, claim: 1, applied_seq, length, name: "node".into(), url: None, cuts: Vec::new() }
}

/// Returns the number of nodes that hold a lease and lack an entry.
pub async fn behind(store: &PostgresStore, seq: u64) -> usize {
    store.holders_behind(seq, None).await.expect("asks").len()
}

/// Releases all leases.
pub async fn let_all_go(store: &PostgresStore) {
    store.let_go(&store.holders_behind(u64::MAX, None).await.expect("asks")).await.expect("lets go");
}

pub async fn held(store: &PostgresStore, node_id: Uuid, applied_seq: u64, length: Duration) {
    let renewal = store.renew_lease(&lease(node_id, applied_seq, length)).await.expect("asks");
    assert_eq!(renewal, Renewal::Held);
}

/// Adds an account.
pub async fn added(store: &PostgresStore) -> UserRecord {
    let user_id = Uuid::now_v7();
    let user = UserRecord {
        user_id,
        email: format!("{user_id}@example.org"),
        password_hash: String::new(),
        is_admin: false,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        disabled_at: None,
        upstreams: None,
    };
    store.insert_user(&user, &AUDIT).await.expect("added");
    user
}

/// Makes a change that appends a log entry. Returns its number.
pub async fn change(store: &PostgresStore) -> u64 {
    let user = added(store).await;
    let at = user.created_at;
    store.set_user_disabled(user.user_id, Some(at), at, &AUDIT).await.expect("disabled").expect("there")
}

/// Adds an account with a token.
pub async fn issued(store: &PostgresStore) -> PatRecord {
    let UserRecord { user_id, created_at: at, .. } = added(store).await;
    let pat_id = Uuid::now_v7();
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(pat_id.as_bytes());
    let pat = PatRecord {
        pat_id,
        user_id,
        name: "ci".into(),
        hint: "...wxyz".into(),
        scopes: "mcp".parse().expect("a scope"),
        digest: TokenDigest::from_bytes(digest),
        key_id: KeyId(1),
        parent_id: None,
        created_at: at,
        expires_at: jiff::Timestamp::from_second(4_000_000_000).expect("in range"),
        revoked_at: None,
        last_used_at: None,
        rotated_at: None,
        limits: None,
    };
    store.insert_pat(&pat, 10, &AUDIT).await.expect("inserted");
    pat
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

/// Waits until `done` returns true. Fails if that takes far too long.
pub async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let waited = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "waited in vain: {what}");
}

/// Waits until `n` connections to this database wait for a lock.
pub async fn until_waiting(n: i64, client: &Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = async || {
        // By default a transaction sees an unchanging snapshot of the statistics.
        client.batch_execute("SELECT pg_stat_clear_snapshot()").await.expect("asks");
        client.query_one(sql, &[]).await.expect("asks").get::<_, i64>(0) >= n
    };
    until("somebody waits for a lock", waiting).await;
}

/// Reports one ended session for each call, with a unique number.
pub struct OneEach;

static ENDED: AtomicU64 = AtomicU64::new(0);

impl Cut for OneEach {
    fn cut_token(&self, _: Uuid) -> Vec<u64> {
        vec![ENDED.fetch_add(1, Ordering::SeqCst)]
    }

    fn cut_user(&self, _: Uuid) -> Vec<u64> {
        vec![ENDED.fetch_add(1, Ordering::SeqCst)]
    }

    fn cut_secret(&self, _: Uuid, _: &TokenDigest) -> usize {
        1
    }

    fn cut_from_elsewhere(&self, _: Option<AllowsFrom>) -> usize {
        0
    }
}

/// Creates a node without starting it.
pub async fn node(url: &str, secret: &ServerSecret, name: &str, lease: Duration) -> Arc<Authority> {
    node_at(url, secret, name, lease, None).await
}

/// Creates a node that the others reach at `node_url`.
pub async fn node_at(
    url: &str,
    secret: &ServerSecret,
    name: &str,
    lease: Duration,
    node_url: Option<&str>,
) -> Arc<Authority> {
    let store = PostgresStore::open(url).await.expect("opens");
    let config = AuthorityConfig {
        password_memory_kib: 8,
        lease,
        node_name: name.to_owned(),
        node_url: node_url.map(ToOwned::to_owned),
        ..AuthorityConfig::default()
    };
    let authority =
        Authority::open(Arc::new(store), std::slice::from_ref(secret), Arc::new(SystemClock), config)
            .await
            .expect("opens");
    authority.set_cut(Arc::new(OneEach));
    authority
}

/// Creates and starts a node.
pub async fn started(url: &str, secret: &ServerSecret, name: &str, lease: Duration) -> Arc<Authority> {
    let node = node(url, secret, name, lease).await;
    node.start().await.expect("starts");
    node
}

pub async fn account(node: &Authority) {
    let password = "correct horse battery".to_owned().into();
    node.add_account(NewAccount { email: EMAIL.into(), password, is_admin: false }).await.expect("added");
}

pub async fn token(node: &Authority) -> Issued {
    let new = NewPat { name: "n".into(), scope: "mcp".into(), expiry: Expiry::Default, ..NewPat::default() };
    node.issue_for(EMAIL, new).await.expect("issued")
}
