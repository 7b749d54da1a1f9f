//! The row on which a renewal and a revocation meet. Each of these cases would fail if one of the
//! locks were left out.

use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{Renewal, Store};
use uuid::Uuid;

use crate::database::Fresh;
use crate::kit::{LONG, behind, change, held, issued, lease, let_all_go, until_waiting};

/// During a renewal the committed row still shows no lease. A revocation must wait instead of
/// trusting that.
#[tokio::test]
async fn a_renewal_that_is_on_its_way_is_waited_for() {
    let fresh = Fresh::open().await;
    let node = Uuid::now_v7();
    held(&fresh, node, 0, LONG).await;
    let_all_go(&fresh).await;
    let seq = change(&fresh).await;
    for (end, expected) in [("COMMIT", 1), ("ROLLBACK", 0)] {
        let renewing = fresh.client().await;
        renewing.batch_execute("BEGIN").await.expect("begins");
        let sql = "UPDATE nodes SET held = TRUE WHERE node_id = $1";
        assert_eq!(renewing.execute(sql, &[&node]).await.expect("renews"), 1);
        let release = async {
            until_waiting(1, &renewing).await;
            renewing.batch_execute(end).await.expect("ends");
        };
        let (behind, ()) = tokio::join!(behind(&fresh, seq), release);
        assert_eq!(behind, expected, "{end}");
        let_all_go(&fresh).await;
    }
}

/// The renewal waits for the revocation's look at the row and reads the log afterwards, so it finds
/// entries committed meanwhile.
#[tokio::test]
async fn a_renewal_that_had_to_wait_reads_the_log_anew() {
    let fresh = Fresh::open().await;
    let node = Uuid::now_v7();
    held(&fresh, node, 0, LONG).await;
    let looking = fresh.client().await;
    looking.batch_execute("BEGIN; SELECT 1 FROM nodes FOR SHARE").await.expect("locks");
    let meanwhile = async {
        until_waiting(1, &looking).await;
        let seq = change(&fresh).await;
        looking.batch_execute("COMMIT").await.expect("ends");
        seq
    };
    let claim = lease(node, 0, LONG);
    let (renewal, seq) = tokio::join!(fresh.renew_lease(&claim), meanwhile);
    let Renewal::Behind(missing) = renewal.expect("asks") else { panic!("held behind the head") };
    assert_eq!(missing.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [seq]);
}

/// The lease is renewed while it is being released. The release decides by the row as it is once it
/// holds the lock.
#[tokio::test]
async fn a_lease_that_is_being_renewed_is_not_let_go() {
    let fresh = Fresh::open().await;
    let node = Uuid::now_v7();
    held(&fresh, node, 0, LONG).await;
    let found = fresh.holders_behind(1, None).await.expect("asks");
    for (end, expected) in [("COMMIT", 1), ("ROLLBACK", 0)] {
        let renewing = fresh.client().await;
        renewing.batch_execute("BEGIN; UPDATE nodes SET claim = 2").await.expect("renews");
        let release = async {
            until_waiting(1, &renewing).await;
            renewing.batch_execute(end).await.expect("ends");
        };
        let (done, ()) = tokio::join!(fresh.let_go(&found), release);
        done.expect("lets go");
        assert_eq!(behind(&fresh, 1).await, expected, "{end}");
        renewing.batch_execute("UPDATE nodes SET claim = 1").await.expect("as before");
    }
}

/// The look at the leases and their release lock rows in the same order, so that they cannot
/// deadlock.
#[tokio::test]
async fn looks_and_letting_go_get_along() {
    let fresh = Fresh::open().await;
    for n in 0..20 {
        // The ids are in a different order than the insertions.
        held(&fresh, Uuid::from_u128(u128::MAX / 20 * (n * 7 % 20)), 0, LONG).await;
    }
    let mut found = fresh.holders_behind(1, None).await.expect("asks");
    found.sort_by_key(|holder| std::cmp::Reverse(holder.node_id));
    let (first, last) = (fresh.client().await, fresh.client().await);
    first
        .batch_execute("BEGIN; SELECT 1 FROM nodes ORDER BY node_id LIMIT 1 FOR UPDATE")
        .await
        .expect("locks");
    let look = async {
        until_waiting(2, &first).await;
        let sql = "SELECT 1 FROM nodes ORDER BY node_id DESC LIMIT 1 FOR UPDATE NOWAIT";
        let locked = last.batch_execute(sql).await;
        first.batch_execute("ROLLBACK").await.expect("lets go");
        locked.expect("who waits for the first row holds no later one");
    };
    let (looked, done, ()) = tokio::join!(fresh.holders_behind(1, None), fresh.let_go(&found), look);
    looked.expect("asks");
    done.expect("lets go");
    assert_eq!(behind(&fresh, 1).await, 0);
}

/// A revocation cannot wait for a row that it cannot see, so the row exists before the node takes
/// its first lease.
#[tokio::test]
async fn a_new_node_can_be_waited_for_before_it_has_its_first_lease() {
    let fresh = Fresh::open().await;
    let holder = fresh.client().await;
    // A trigger holds up a renewal before its commit.
    holder
        .batch_execute(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$; \
             CREATE TRIGGER hold BEFORE UPDATE ON nodes FOR EACH ROW EXECUTE FUNCTION hold(); SELECT pg_advisory_lock(7)",
        )
        .await
        .expect("holds");
    let node = Uuid::now_v7();
    let claim = lease(node, 0, LONG);
    let other = fresh.again().await;
    let revocation = async {
        until_waiting(1, &holder).await;
        let seq = change(&other).await;
        let release = async {
            until_waiting(2, &holder).await;
            holder.batch_execute("SELECT pg_advisory_unlock(7)").await.expect("lets go");
        };
        tokio::join!(behind(&other, seq), release).0
    };
    let (renewal, behind) = tokio::join!(fresh.renew_lease(&claim), revocation);
    assert_eq!((renewal.expect("asks"), behind), (Renewal::Held, 1));
}

/// The node's row may have been removed. The node then catches up before it gets a lease.
#[tokio::test]
async fn a_node_whose_row_was_removed_comes_back() {
    let fresh = Fresh::open().await;
    let (dead, alive) = (Uuid::now_v7(), Uuid::now_v7());
    held(&fresh, dead, 0, LONG).await;
    let client = fresh.client().await;
    let long_ago = "UPDATE nodes SET renewed_at = 0 WHERE node_id = $1";
    client.execute(long_ago, &[&dead]).await.expect("long ago, by this clock");
    held(&fresh, alive, 0, LONG).await;
    assert_eq!(
        fresh.nodes().await.expect("asks").len(),
        2,
        "whatever the clock says: it has not been let go"
    );
    let found = fresh.holders_behind(u64::MAX, Some(alive)).await.expect("asks");
    fresh.let_go(&found).await.expect("lets go");
    // A lock on the row, taken to examine it, keeps it from removal and blocks nobody.
    client.batch_execute("BEGIN; SELECT 1 FROM nodes WHERE NOT held FOR SHARE").await.expect("locks");
    held(&fresh, alive, 0, LONG).await;
    assert_eq!(fresh.nodes().await.expect("asks").len(), 2);
    client.batch_execute("COMMIT").await.expect("ends");
    held(&fresh, alive, 0, LONG).await;
    assert_eq!(fresh.nodes().await.expect("asks").len(), 1, "then it is forgotten");

    let seq = change(&fresh).await;
    assert!(matches!(fresh.renew_lease(&lease(dead, 0, LONG)).await.expect("asks"), Renewal::Behind(_)));
    held(&fresh, dead, seq, LONG).await;
    assert_eq!(behind(&fresh, seq).await, 1, "the other one has not read it");
}

/// Happens, for example, after a failover to a standby that had not received everything. The node
/// gets no lease rather than one on a different log.
#[tokio::test]
async fn a_log_that_went_back_gives_nobody_a_lease() {
    let fresh = Fresh::open().await;
    let seq = change(&fresh).await;
    let node = Uuid::now_v7();
    held(&fresh, node, seq, LONG).await;
    let_all_go(&fresh).await;
    for applied in [seq + 1, seq + 7] {
        let error = fresh.renew_lease(&lease(node, applied, LONG)).await.expect_err("refused");
        assert!(error.to_string().contains("does not go on"), "{error}");
    }
    assert_eq!(behind(&fresh, seq + 1).await, 0);
}

/// The log's numbers are committed in order. The second transaction waits for the first, and the
/// number of an aborted one is reused.
#[tokio::test]
async fn a_number_is_held_until_its_commit() {
    let fresh = Fresh::open().await;
    let first = fresh.client().await;
    let take = "BEGIN; UPDATE log_head SET seq = seq + 1";
    first.batch_execute(take).await.expect("takes 1");
    let release = async {
        until_waiting(1, &first).await;
        assert_eq!(fresh.log_head().await.expect("asks"), 0, "nobody sees a number that is not committed");
        first.batch_execute("ROLLBACK").await.expect("gives it up");
    };
    let (seq, ()) = tokio::join!(change(&fresh), release);
    assert_eq!(seq, 1);
}

/// Revoking tokens and recording their uses lock the tokens in the same order, so that they cannot
/// deadlock.
#[tokio::test]
async fn uses_and_revocations_of_the_same_tokens_get_along() {
    let fresh = Fresh::open().await;
    let parent = issued(&fresh).await;
    let mut pats = vec![parent.clone()];
    for n in 1..20 {
        // The ids are in a different order than the insertions.
        let pat_id = Uuid::from_u128(u128::MAX / 20 * (n * 7 % 20));
        let digest = trustrelay_token::TokenDigest::from_bytes([u8::try_from(n).expect("small"); 32]);
        let child = trustrelay_authority::PatRecord {
            pat_id,
            digest,
            parent_id: Some(parent.pat_id),
            ..parent.clone()
        };
        fresh.insert_pat(&child, 100, &AUDIT).await.expect("inserted");
        pats.push(child);
    }
    let note = |pat: &trustrelay_authority::PatRecord| trustrelay_authority::Usage {
        pat_id: pat.pat_id,
        last_used_at: pat.created_at,
        address: None,
        user_agent: None,
        count: 1,
        networks: Vec::new(),
    };
    let notes: Vec<_> = pats.iter().rev().map(note).collect();
    let (first, last) = (fresh.client().await, fresh.client().await);
    for revokes in [false, true] {
        first
            .batch_execute("BEGIN; SELECT 1 FROM pats ORDER BY pat_id LIMIT 1 FOR UPDATE")
            .await
            .expect("locks");
        let look = async {
            until_waiting(1, &first).await;
            let sql = "SELECT 1 FROM pats ORDER BY pat_id DESC LIMIT 1 FOR UPDATE NOWAIT";
            let locked = last.batch_execute(sql).await;
            first.batch_execute("ROLLBACK").await.expect("lets go");
            locked.expect("who waits for the first row holds no later one");
        };
        if revokes {
            let (revoked, ()) =
                tokio::join!(fresh.revoke_pat(parent.pat_id, parent.created_at, &AUDIT), look);
            assert!(revoked.expect("asks").expect("there").newly);
        } else {
            let (used, ()) = tokio::join!(fresh.record_usage(&notes), look);
            used.expect("recorded");
        }
    }
    let counts = last.query("SELECT DISTINCT use_count, revoked_seq FROM pats", &[]).await.expect("asks");
    assert_eq!(counts.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(i64, i64)>>(), [(1, 1)]);
}
