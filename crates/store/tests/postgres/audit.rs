//! The audit log in PostgreSQL: tampering outside of the program is detected, and pages come from
//! indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Client;
use trustrelay_authority::{
    Actor, AuditEntry, AuditFilter, AuditFlaw, AuditLook, AuditPlace, AuditStore, Authority, AuthorityConfig,
    ServerSecret, SystemClock,
};
use trustrelay_store::PostgresStore;
use uuid::Uuid;

use crate::database::Fresh;
use crate::kit::PATIENCE;

/// Creates six entries with a seal, runs the SQL, and returns the flaw that is found.
async fn found(sql: &str) -> AuditFlaw {
    let fresh = Fresh::emptied().await;
    let store = Arc::new(fresh.again().await);
    let config = AuthorityConfig { password_memory_kib: 8, ..AuthorityConfig::default() };
    let secret = ServerSecret::generate().expect("random");
    let authority = Authority::open(store, &[secret], Arc::new(SystemClock), config).await.expect("opens");
    fresh
        .append_audit(&vec![AuditEntry::new(Timestamp::UNIX_EPOCH, Actor::SYSTEM, "test"); 6])
        .await
        .expect("appended");
    authority.seal_audit().await.expect("sealed");
    let report = authority.verify_audit().await.expect("asks");
    assert_eq!((report.flaw, report.entries, report.seals), (None, 6, 1), "as it was written");
    fresh.client().await.batch_execute(sql).await.expect(sql);
    authority.verify_audit().await.expect("asks").flaw.expect("it is found")
}

#[tokio::test]
async fn what_was_changed_taken_out_or_forged_is_found() {
    let changed = "UPDATE audit SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'system', 'operator'), 'UTF8') WHERE seq = 4";
    assert_eq!(found(changed).await, AuditFlaw::Changed(4));
    assert_eq!(found("DELETE FROM audit WHERE seq = 4").await, AuditFlaw::Missing { first: 4, last: 4 });
    let column = "UPDATE audit SET user_id = gen_random_uuid() WHERE seq = 4";
    assert_eq!(found(column).await, AuditFlaw::Column { seq: 4, column: "user_id" });
    assert_eq!(found("UPDATE audit SET hash = 'x' WHERE seq = 4").await, AuditFlaw::Unreadable(4));
    let forged = "UPDATE audit_seals SET mac = decode(repeat('00', 32), 'hex')";
    assert_eq!(found(forged).await, AuditFlaw::Seal { seq: 6, good: None });
    let cut = "DELETE FROM audit WHERE seq > 4";
    assert_eq!(found(cut).await, AuditFlaw::Head { head: 6, last: 4 });
    let with_head =
        format!("{cut}; UPDATE audit_head SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4)");
    assert_eq!(found(&with_head).await, AuditFlaw::CutShort { sealed: 6, last: 4 });
}

/// Returns the number of scans of the whole table, and the number of entries read from each index.
async fn counted(client: &Client) -> (i64, BTreeMap<String, i64>) {
    let table = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'audit'";
    let indexes = "SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'audit'";
    let scans = client.query_one(table, &[]).await.expect("asks").get(0);
    let read = client.query(indexes, &[]).await.expect("asks");
    (scans, read.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn page_of(store: &PostgresStore, filter: AuditFilter, after: Option<AuditPlace>) -> usize {
    let look = AuditLook { filter, after, limit: 50, oldest_first: false };
    store.audit_page(&look).await.expect("asks").len()
}

#[tokio::test]
async fn a_page_reads_no_more_of_an_index_than_it_shows() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    // Creates 40,000 entries of 400 accounts, each with two tokens.
    let fill = "INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
        SELECT n, n * 1000000::bigint, CASE n % 400 WHEN 1 THEN 'token.leaked' WHEN 2 THEN 'refused.login' ELSE 'token.created' END, \
        lpad(to_hex(n % 400), 32, '0')::uuid, lpad(to_hex(n % 800), 32, '0')::uuid, lpad(to_hex(n % 400), 32, '0')::uuid, \
        lpad(to_hex(n / 2 % 800), 32, '0')::uuid, '{}', decode(repeat('00', 32), 'hex') FROM generate_series(1, 40000) n; ANALYZE audit";
    client.batch_execute(fill).await.expect("filled");
    let id = |n: u128| Some(Uuid::from_u128(n));
    let at = |second| Some(Timestamp::from_second(second).expect("in range"));
    let none = AuditFilter::default;
    let cases = [
        (none(), "audit_by_time"),
        (AuditFilter { from: at(9000), to: at(20_000), ..none() }, "audit_by_time"),
        (AuditFilter { user_id: id(77), ..none() }, "audit_by_user"),
        (AuditFilter { user_id: id(77), from: at(9000), ..none() }, "audit_by_user"),
        (AuditFilter { actor_id: id(77), ..none() }, "audit_by_actor_user"),
        (AuditFilter { action: Some("token.leaked".into()), ..none() }, "audit_by_action"),
        (AuditFilter { action: Some("refused".into()), to: at(39_000), ..none() }, "audit_by_subject"),
    ];
    let (scans, before) = counted(&client).await;
    let store = fresh.again().await;
    let after = Some(AuditPlace { at: at(30_000).expect("a time"), seq: 30_000 });
    let mut shown: BTreeMap<_, i64> = BTreeMap::new();
    for (filter, index) in cases {
        for after in [None, after] {
            assert_eq!(page_of(&store, filter.clone(), after).await, 50, "{filter:?}");
            *shown.entry(index.to_owned()).or_default() += 50;
        }
    }
    assert_eq!(page_of(&store, AuditFilter { pat_id: id(77), ..none() }, None).await, 50);
    // Half of the rows come from each side: the token that is concerned, and the token that acts.
    shown.extend(["audit_by_pat", "audit_by_actor_pat"].map(|index| (index.to_owned(), 50)));
    // A connection reports its statistics when it ends.
    drop(store);
    let told = async {
        loop {
            let (scans, now) = counted(&client).await;
            let read: BTreeMap<_, _> =
                now.into_iter().map(|(index, now)| (index.clone(), now - before[&index])).collect();
            if read.values().sum::<i64>() >= shown.values().sum() {
                return (scans, read);
            }
            tokio::task::yield_now().await;
        }
    };
    let (scans_then, read) = tokio::time::timeout(PATIENCE, told).await.expect("it counts");
    assert_eq!(scans_then, scans, "the table is never scanned");
    for (index, read) in read {
        let shown = shown.get(&index).copied().unwrap_or_default();
        // At the beginning of a range, one or two additional entries are read.
        assert!((shown..=shown * 21 / 20).contains(&read), "{index}: {read} read for {shown} shown");
    }
}
