//! A database that hangs, crashes, comes back, or fails over.

use std::time::Duration;

use tokio::time::timeout;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{AuditStore, NoticeStore, Renewal, ServerSecret, Store, StoreError};
use trustrelay_store::PostgresStore;
use trustrelay_token::{Denied, Verifier};
use uuid::Uuid;

use crate::cluster::{Cluster, ROLE};
use crate::database::Fresh;
use crate::kit::{
    LONG, PATIENCE, account, added, behind, change, issued, lease, started, token, told_revocation, until,
    until_waiting,
};

#[tokio::test]
async fn a_lock_that_is_never_released_is_unavailable_in_bounded_time_and_leaves_nothing_behind() {
    let fresh = Fresh::open().await;
    let pat = issued(&fresh).await;
    let client = fresh.client().await;
    client.batch_execute("BEGIN; LOCK TABLE pats IN ACCESS EXCLUSIVE MODE").await.expect("locks");
    let answers = async {
        tokio::join!(fresh.revoke_pat(pat.pat_id, pat.created_at, &AUDIT), fresh.pat_by_id(pat.pat_id))
    };
    let (revoked, found) = timeout(PATIENCE, answers).await.expect("it gives up");
    assert!(matches!(revoked, Err(StoreError::Unavailable(_))), "{revoked:?}");
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    client.batch_execute("ROLLBACK").await.expect("lets go");
    assert_eq!(fresh.pat_by_id(pat.pat_id).await.expect("works again"), Some(pat.clone()));
    assert_eq!(fresh.log_head().await.expect("asks"), 0, "what was refused is not done");
    assert!(fresh.revoke_pat(pat.pat_id, pat.created_at, &AUDIT).await.expect("asks").expect("there").newly);
}

/// Many changes that wait for one account's row occupy every connection except the ones for
/// renewals.
#[tokio::test]
async fn changes_that_wait_for_a_lock_do_not_cost_the_node_its_lease() {
    let fresh = Fresh::open().await;
    let pat = issued(&fresh).await;
    let client = fresh.client().await;
    client.batch_execute("BEGIN; SELECT 1 FROM users FOR UPDATE").await.expect("locks");
    let revoke = || Box::pin(fresh.revoke_pat(pat.pat_id, pat.created_at, &AUDIT));
    let mut changes = futures_util::future::select_all((0..20).map(|_| revoke()));
    let renewed = async {
        until_waiting(7, &client).await;
        crate::kit::held(&fresh, Uuid::now_v7(), 0, LONG).await;
    };
    tokio::select! {
        biased;
        (done, ..) = &mut changes => panic!("the account's row is locked: {done:?}"),
        () = renewed => {}
    }
    client.batch_execute("ROLLBACK").await.expect("lets go");
    let (first, _, others) = changes.await;
    for done in std::iter::once(first).chain(futures_util::future::join_all(others).await) {
        done.expect("asks").expect("there");
    }
}

/// Lets each of the writes fail in turn.
#[tokio::test]
async fn a_revocation_and_its_notice_are_done_together_or_not_at_all() {
    let fresh = Fresh::open().await;
    let pat = issued(&fresh).await;
    let client = fresh.client().await;
    client
        .batch_execute(
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'on purpose'; END $$",
        )
        .await
        .expect("made");
    let revocation = [told_revocation(&pat)];
    let before = fresh.audit_after(0, 100).await.expect("asks");
    for table in ["notices", "deliveries", "log_pats", "audit"] {
        let fails = format!("CREATE TRIGGER broken BEFORE INSERT ON {table} EXECUTE FUNCTION broken()");
        client.batch_execute(&fails).await.expect("made");
        let refused = fresh.revoke_pats(&revocation, pat.created_at, true).await;
        assert!(refused.is_err(), "{table}: {refused:?}");
        assert_eq!(fresh.pat_by_id(pat.pat_id).await.expect("asks"), Some(pat.clone()), "{table}");
        assert_eq!(fresh.notices(None, None, 9).await.expect("asks"), [], "{table}");
        assert_eq!(fresh.log_head().await.expect("asks"), 0, "{table}");
        assert_eq!(fresh.audit_after(0, 100).await.expect("asks"), before, "{table}");
        client.batch_execute(&format!("DROP TRIGGER broken ON {table}")).await.expect("gone");
    }
    let outcomes = fresh.revoke_pats(&revocation, pat.created_at, true).await.expect("works again");
    assert!(outcomes.iter().flatten().all(|outcome| outcome.newly) && outcomes.len() == 1);
    assert_eq!(fresh.notices(None, None, 9).await.expect("asks").len(), 1);
}

/// The caller's connection is closed, and its transaction with it. However often that happens,
/// other callers still get connections.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_transaction_open() {
    let fresh = Fresh::open().await;
    let pat = issued(&fresh).await;
    let client = fresh.client().await;
    for _ in 0..20 {
        client.batch_execute("BEGIN; SELECT 1 FROM users FOR UPDATE").await.expect("locks");
        tokio::select! {
            biased;
            done = fresh.revoke_pat(pat.pat_id, pat.created_at, &AUDIT) => panic!("the account's row is locked: {done:?}"),
            () = until_waiting(1, &client) => {}
        }
        client.batch_execute("ROLLBACK").await.expect("lets go");
        // The next change runs in its own transaction, and is visible to everyone once it is
        // acknowledged.
        let user = added(&fresh).await;
        let sql = "SELECT 1 FROM users WHERE user_id = $1";
        assert!(
            client.query_opt(sql, &[&user.user_id]).await.expect("asks").is_some(),
            "it is in no one's transaction"
        );
    }
    assert!(fresh.revoke_pat(pat.pat_id, pat.created_at, &AUDIT).await.expect("asks").expect("there").newly);
    let open = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until("none is open", async || client.query(open, &[]).await.expect("asks").is_empty()).await;
}

/// All connections are lost at once, under load. Acknowledged changes are not.
#[tokio::test]
async fn a_database_that_crashes_and_comes_back_is_found_again_with_all_that_was_answered() {
    let mut cluster = Cluster::start();
    cluster.append("postgresql.conf", "fsync = on\n");
    cluster.crash();
    cluster.begin();
    let database = cluster.database();
    let url = cluster.url(&database);
    let secret = ServerSecret::generate().expect("random");
    let a = started(&url, &secret, "a", Duration::from_secs(2)).await;
    let b = started(&url, &secret, "b", Duration::from_secs(2)).await;
    account(&a).await;
    let (gone, stays) = (token(&a).await, token(&a).await);
    let store = PostgresStore::open(&url).await.expect("opens");
    let load = tokio::spawn(async move {
        let mut answered = 0;
        loop {
            if store.ping().await.is_ok() && tokio::time::timeout(PATIENCE, change(&store)).await.is_ok() {
                answered += 1;
            }
            if answered > 10_000 {
                return;
            }
        }
    });
    a.revoke_any(gone.record.pat_id).await.expect("revoked");
    cluster.crash();
    let denied = b.verify(gone.token.clone()).wait().await.expect_err("refused, whatever it can ask");
    assert!(matches!(denied, Denied::Revoked(_) | Denied::Unavailable { .. }), "{denied:?}");
    until("the lease is over", async || !b.holds_lease()).await;
    let denied = b.verify(stays.token.clone()).wait().await.expect_err("nobody to ask");
    assert!(matches!(denied, Denied::Unavailable { .. }), "{denied:?}");
    cluster.begin();
    until("both hold a lease again", async || a.holds_lease() && b.holds_lease()).await;
    for node in [&a, &b] {
        node.verify(stays.token.clone()).wait().await.expect("good");
        assert!(matches!(node.verify(gone.token.clone()).wait().await, Err(Denied::Revoked(_))));
    }
    let revoked = b.revoke_any(stays.record.pat_id).await.expect("revoked");
    assert_eq!(revoked.pat_id, stays.record.pat_id);
    assert!(matches!(a.verify(stays.token.clone()).wait().await, Err(Denied::Revoked(_))));
    load.abort();
}

/// The store uses the writable host among those that a URL names, even after it has changed.
#[tokio::test]
async fn a_synchronous_standby_takes_over_with_all_that_was_answered() {
    let mut primary = Cluster::start();
    let database = primary.database();
    let mut standby = Cluster::standby_of(&primary);
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.sql("SELECT pg_reload_conf()");
    until("the standby is synchronous", async || {
        primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    })
    .await;
    let socket = |cluster: &Cluster| cluster.socket().replace('/', "%2F");
    let hosts = format!("{}:{},{}:{}", socket(&standby), standby.port, socket(&primary), primary.port);
    let store = PostgresStore::open(&format!("postgres://{ROLE}@{hosts}/{database}"))
        .await
        .expect("the primary is found");
    let node = Uuid::now_v7();
    assert_eq!(store.renew_lease(&lease(node, 0, LONG)).await.expect("asks"), Renewal::Held);
    let pat = issued(&store).await;
    let seq = store.revoke_pat(pat.pat_id, pat.created_at, &AUDIT).await.expect("asks").expect("there").seq;
    primary.crash();
    assert!(matches!(store.log_head().await, Err(StoreError::Unavailable(_))), "nobody can be written to");
    standby.promote();
    until("it is found", async || store.log_head().await.is_ok()).await;
    assert_eq!(store.log_head().await.expect("asks"), seq);
    assert_eq!(behind(&store, seq).await, 1, "leases are known as well");
    let found = store.pat_by_id(pat.pat_id).await.expect("asks").expect("there");
    assert_eq!(found.revoked_at, Some(pat.created_at));
}
