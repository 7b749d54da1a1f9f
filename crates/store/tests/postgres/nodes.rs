//! Several nodes on one database.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use trustrelay_authority::{
    AllowsFrom, Authority, AuthorityConfig, AuthorityError, Cut, Lease, NewAccount, ServerSecret, Store,
};
use trustrelay_token::{Denied, TokenDigest, Verifier};

use crate::cluster::Cluster;
use crate::database::Fresh;
use crate::kit::{
    LONG, PATIENCE, account, behind, change, lease as lease_of, node, node_at, started, token, until,
};

const LISTENERS: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'";

#[tokio::test]
async fn a_revocation_on_one_node_is_honoured_by_the_others_before_its_answer() {
    let fresh = Fresh::open().await;
    let url = Cluster::shared().url(&fresh.database);
    let secret = ServerSecret::generate().expect("random");
    let a = started(&url, &secret, "a", Duration::from_secs(5)).await;
    let b = started(&url, &secret, "b", Duration::from_secs(5)).await;
    account(&a).await;
    let (gone, stays) = (token(&a).await, token(&b).await);
    for issued in [&gone, &stays] {
        for node in [&a, &b] {
            node.verify(issued.token.clone()).wait().await.expect("good on both");
        }
    }
    let revoked = a.revoke_any(gone.record.pat_id).await.expect("revoked");
    assert!(matches!(b.verify(gone.token.clone()).wait().await, Err(Denied::Revoked(_))));
    assert!(matches!(a.verify(gone.token.clone()).wait().await, Err(Denied::Revoked(_))));
    assert_eq!(revoked.sessions_terminated, 2, "one on each node");
    b.verify(stays.token.clone()).wait().await.expect("the other one stands");

    let held = a.verify(stays.token.clone()).wait().await.expect("good");
    let (email, password) = ("root@example.org".to_owned(), "correct horse battery".to_owned().into());
    let root = NewAccount { email, password, is_admin: true };
    a.add_account(root).await.expect("somebody administers, so that the role may go again");
    for is_admin in [true, false] {
        b.set_admin(crate::kit::EMAIL, is_admin).await.expect("changed");
        assert_eq!(held.is_admin(), is_admin, "whoever holds the principal on the other node knows");
    }
    b.set_disabled(crate::kit::EMAIL, true).await.expect("disabled");
    assert_eq!(a.verify(stays.token.clone()).wait().await.expect_err("disabled"), Denied::OwnerDisabled);
    let names: Vec<_> = a.all_nodes().await.expect("asks").nodes.into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["a", "b"]);
    a.stop().await;
    b.stop().await;
    assert!(fresh.nodes().await.expect("asks").is_empty(), "who stops gives its lease up");
}

/// A node does not wait for its next renewal: the change of the log wakes it.
#[tokio::test]
async fn a_change_wakes_whoever_waits_for_the_log_to_grow() {
    let (fresh, since) = (Fresh::open().await, std::time::Duration::ZERO);
    let other = fresh.again().await;
    let client = fresh.client().await;
    until("both listen", async || client.query(LISTENERS, &[]).await.expect("asks").len() == 2).await;
    // Each start of listening counts as a notification.
    timeout(PATIENCE, async { tokio::join!(fresh.log_grew(), other.log_grew()) }).await.expect("heard");
    assert!(timeout(since, other.log_grew()).await.is_err(), "nothing has grown");
    let (_, ()) =
        timeout(PATIENCE, async { tokio::join!(change(&fresh), other.log_grew()) }).await.expect("heard");
    timeout(PATIENCE, fresh.log_grew()).await.expect("who made it hears it too, also if nobody was waiting");
    let (seq, (), ()) =
        timeout(PATIENCE, async { tokio::join!(change(&other), other.log_grew(), other.log_grew()) })
            .await
            .expect("all who wait are woken");
    assert_eq!(seq, 2);
}

/// The listener receives later notifications, and checks for those that it missed.
#[tokio::test]
async fn an_ear_that_was_cut_off_listens_again() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    until("it listens", async || client.query(LISTENERS, &[]).await.expect("asks").len() == 1).await;
    timeout(PATIENCE, fresh.log_grew()).await.expect("it began to listen");
    let kill = format!("SELECT pg_terminate_backend(pid) FROM ({LISTENERS}) l");
    client.query(&kill, &[]).await.expect("killed");
    timeout(PATIENCE, fresh.log_grew())
        .await
        .expect("it listens again, and says that it may have missed something");
    let (_, ()) =
        timeout(PATIENCE, async { tokio::join!(change(&fresh), fresh.log_grew()) }).await.expect("heard");
}

/// Without a wake-up, the other node finds the revocation at its next renewal, and the answer waits
/// for that.
#[tokio::test]
async fn a_revocation_that_nobody_hears_of_is_honoured_all_the_same() {
    let fresh = Fresh::open().await;
    let url = Cluster::shared().url(&fresh.database);
    let secret = ServerSecret::generate().expect("random");
    let a = started(&url, &secret, "a", LONG).await;
    let b = started(&url, &secret, "b", LONG).await;
    account(&a).await;
    let issued = token(&a).await;
    b.verify(issued.token.clone()).wait().await.expect("good");
    // New connections are refused from here on, so a disconnected listener stays deaf. Open
    // connections continue.
    let admin = fresh.client().await;
    until("all listen", async || admin.query(LISTENERS, &[]).await.expect("asks").len() == 3).await;
    Cluster::shared().sql(&format!("ALTER DATABASE {} CONNECTION LIMIT 0", fresh.database));
    admin
        .query(&format!("SELECT pg_terminate_backend(pid) FROM ({LISTENERS}) l"), &[])
        .await
        .expect("killed");
    until("nobody listens", async || admin.query(LISTENERS, &[]).await.expect("asks").is_empty()).await;
    a.revoke_any(issued.record.pat_id).await.expect("revoked");
    assert!(matches!(b.verify(issued.token.clone()).wait().await, Err(Denied::Revoked(_))));
    assert!(admin.query(LISTENERS, &[]).await.expect("asks").is_empty(), "it was not heard");
}

/// A node that stops without notice delays others for at most the length of its lease.
#[tokio::test]
async fn a_node_that_died_is_waited_for_until_its_lease_is_over() {
    let fresh = Fresh::open().await;
    let url = Cluster::shared().url(&fresh.database);
    let secret = ServerSecret::generate().expect("random");
    let a = started(&url, &secret, "a", Duration::from_secs(2)).await;
    account(&a).await;
    let issued = token(&a).await;
    crate::kit::held(&fresh, uuid::Uuid::now_v7(), 0, Duration::from_secs(2)).await;
    let seq = fresh.log_head().await.expect("asks") + 1;
    let begun = Instant::now();
    a.revoke_any(issued.record.pat_id).await.expect("revoked");
    assert!(begun.elapsed() >= Duration::from_secs(2), "it was not waited for");
    assert_eq!(behind(&fresh, seq).await, 0, "it was let go");
    let nodes = fresh.nodes().await.expect("asks");
    assert!(nodes.iter().any(|node| node.applied_seq < seq && node.lease_left.is_none()), "{nodes:?}");
}

/// No decision depends on the database's clock.
#[tokio::test]
async fn a_clock_of_the_database_that_is_wrong_ends_no_lease() {
    let fresh = Fresh::open().await;
    let url = Cluster::shared().url(&fresh.database);
    let secret = ServerSecret::generate().expect("random");
    let a = started(&url, &secret, "a", Duration::from_secs(2)).await;
    account(&a).await;
    let issued = token(&a).await;
    crate::kit::held(&fresh, uuid::Uuid::now_v7(), 0, Duration::from_secs(2)).await;
    let client = fresh.client().await;
    // Simulates a jump by a day. By this clock all leases ended long ago, or have not begun.
    for jump in ["-", "+"] {
        let sql = format!("UPDATE nodes SET renewed_at = renewed_at {jump} 86400000000 WHERE name = 'node'");
        assert_eq!(client.execute(&sql, &[]).await.expect("jumps"), 1);
        let looked = fresh.holders_behind(u64::MAX, None).await.expect("asks");
        assert_eq!(looked.len(), 2, "{looked:?}");
    }
    let begun = Instant::now();
    a.revoke_any(issued.record.pat_id).await.expect("revoked");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2) && took < PATIENCE, "{took:?}");
}

/// Such nodes use the database's clock to date what they seal for each other, and report that their
/// own clock is wrong.
#[tokio::test]
async fn a_node_whose_clock_is_an_hour_off_knows_it_and_the_shared_time() {
    use jiff::{SignedDuration, Timestamp};
    use trustrelay_authority::Clock;

    let fresh = Fresh::open().await;
    let secret = ServerSecret::generate().expect("random");
    for hours in [-1, 0, 1] {
        let real = trustrelay_authority::SystemClock.now();
        let wrong = real + SignedDuration::from_hours(hours);
        let clock = std::sync::Arc::new(trustrelay_authority::ManualClock::at(wrong));
        let store = std::sync::Arc::new(fresh.again().await);
        let secrets = std::slice::from_ref(&secret);
        let node = trustrelay_authority::Authority::open(store, secrets, clock, Default::default());
        let node = node.await.expect("opens");
        assert_eq!((node.clock_ahead(), node.shared_now()), (None, wrong), "nothing was compared yet");
        node.start().await.expect("starts");
        until("the clocks are compared", async || node.clock_ahead().is_some()).await;
        let minute = std::time::Duration::from_secs(60);
        let near = |one: Timestamp, other: Timestamp| one.duration_since(other).unsigned_abs() < minute;
        let ahead = node.clock_ahead().expect("compared");
        assert!(near(real + ahead, wrong), "{ahead}");
        assert!(near(node.shared_now(), real), "{}", node.shared_now());
        // Neither clock advances by itself, so the node would never renew again.
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_with_another_secret_is_refused() {
    let fresh = Fresh::open().await;
    let url = Cluster::shared().url(&fresh.database);
    let secret = ServerSecret::generate().expect("random");
    node(&url, &secret, "a", LONG).await;
    let other = ServerSecret::generate().expect("random");
    let store = std::sync::Arc::new(fresh.again().await);
    let clock = std::sync::Arc::new(trustrelay_authority::SystemClock);
    let opened = trustrelay_authority::Authority::open(store, &[other], clock, Default::default()).await;
    assert!(matches!(opened.err(), Some(AuthorityError::Conflict(_))));
    node(&url, &secret, "b", LONG).await;
}

#[tokio::test]
async fn nodes_that_run_with_the_same_url_notice_each_other_until_one_stops() {
    let fresh = Fresh::open().await;
    let url = Cluster::shared().url(&fresh.database);
    let secret = ServerSecret::generate().expect("random");
    let same = Some("http://10.0.0.11:8080/");
    let lease = Duration::from_secs(5);
    // A node with this address died, and its row says that its lease is still held.
    let dead = Lease { url: same.map(Into::into), ..lease_of(uuid::Uuid::now_v7(), 0, LONG) };
    fresh.renew_lease(&dead).await.expect("asks");
    let a = node_at(&url, &secret, "a", lease, same).await;
    let b = node_at(&url, &secret, "b", lease, same).await;
    let other = node_at(&url, &secret, "other", lease, Some("http://10.0.0.12:8080/")).await;
    for node in [&a, &b, &other] {
        node.start().await.expect("starts");
    }
    until("the nodes notice each other", async || a.namesakes() == ["b"] && b.namesakes() == ["a"]).await;
    assert!(other.namesakes().is_empty(), "{:?}", other.namesakes());
    b.stop().await;
    until("there is one left", async || a.namesakes().is_empty()).await;
    a.stop().await;
    other.stop().await;
}

/// Reports the same ended sessions for every token.
struct Sessions(&'static [u64]);

impl Cut for Sessions {
    fn cut_token(&self, _: uuid::Uuid) -> Vec<u64> {
        self.0.to_vec()
    }

    fn cut_user(&self, _: uuid::Uuid) -> Vec<u64> {
        self.0.to_vec()
    }

    fn cut_secret(&self, _: uuid::Uuid, _: &TokenDigest) -> usize {
        0
    }

    fn cut_from_elsewhere(&self, _: Option<AllowsFrom>) -> usize {
        0
    }
}

#[tokio::test]
async fn a_session_that_was_open_on_several_nodes_is_counted_once() {
    let fresh = Fresh::open().await;
    let secret = ServerSecret::generate().expect("random");
    let mut nodes = Vec::new();
    for (name, sessions) in [("a", &[1, 2][..]), ("b", &[2, u64::MAX]), ("c", &[u64::MAX, 2, 2])] {
        let config = AuthorityConfig { node_name: name.into(), ..AuthorityConfig::default() };
        let store = std::sync::Arc::new(fresh.again().await);
        let clock = std::sync::Arc::new(trustrelay_authority::SystemClock);
        let node = Authority::open(store, std::slice::from_ref(&secret), clock, config).await.expect("opens");
        node.set_cut(std::sync::Arc::new(Sessions(sessions)));
        node.start().await.expect("starts");
        nodes.push(node);
    }
    account(&nodes[0]).await;
    let (by_a, by_c) = (token(&nodes[0]).await, token(&nodes[0]).await);
    let revoked = nodes[0].revoke_any(by_a.record.pat_id).await.expect("revoked");
    assert_eq!(revoked.sessions_terminated, 3);
    let revoked = nodes[2].revoke_any(by_c.record.pat_id).await.expect("revoked");
    assert_eq!(revoked.sessions_terminated, 3);
    assert_eq!(nodes[1].set_disabled(crate::kit::EMAIL, true).await.expect("disabled"), 3);
}
