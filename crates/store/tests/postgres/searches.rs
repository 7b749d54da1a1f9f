//! Searches among many tokens: pages come from indexes and read little more than they show, and
//! recording uses does not change those indexes.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use jiff::Timestamp;
use tokio_postgres::Client;
use trustrelay_authority::{
    Cursor, Expiring, MICROS_PER_DAY, NoticeKind, PatFilter, PatOwner, PatState, Store, Usage,
};
use uuid::Uuid;

use crate::database::Fresh;
use crate::kit::{issued, until};

/// Inserts 200,000 tokens: 40 for each hour.
const FILL: &str = "INSERT INTO users (user_id, email, password_hash, is_admin, created_at) \
      SELECT lpad(to_hex(n), 32, '0')::uuid, 'user' || n || '@example.org', '', false, 0 FROM generate_series(0, 999) n; \
    INSERT INTO pats (pat_id, user_id, name, hint, scopes, digest, key_id, created_at, expires_at, revoked_at, revoked_seq, last_used_at, unused_days) \
      SELECT gen_random_uuid(), lpad(to_hex(n % 1000), 32, '0')::uuid, CASE n % 4 WHEN 0 THEN 'ci' ELSE 'CI-' || n END, \
        '...' || lpad(to_hex(n % 60000), 4, '0'), 'mcp', decode(lpad(to_hex(n), 64, '0'), 'hex'), 1, n * 90000000::bigint, \
        n * 90000000::bigint + CASE n % 3 WHEN 0 THEN 86400000000 ELSE 31536000000000 END, \
        CASE n % 5 WHEN 0 THEN n * 90000000::bigint + 5 END, CASE n % 5 WHEN 0 THEN 1 END, \
        CASE n % 2 WHEN 0 THEN n * 90000000::bigint + 86400000000 * (n % 100) END, CASE n % 10 WHEN 1 THEN 90 END \
      FROM generate_series(1, 200000) n; \
    ANALYZE pats; ANALYZE users";

fn day(day: i64) -> Timestamp {
    Timestamp::from_microsecond(day * MICROS_PER_DAY).expect("in range")
}

/// Returns the number of scans of the whole table of tokens, and the number of rows read from each
/// of its indexes.
async fn counted(client: &Client) -> (i64, BTreeMap<String, i64>) {
    let table = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'pats'";
    let indexes = "SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'pats'";
    client.batch_execute("SELECT pg_stat_clear_snapshot()").await.expect("asks");
    let scans = client.query_one(table, &[]).await.expect("asks").get(0);
    let read = client.query(indexes, &[]).await.expect("asks");
    (scans, read.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the number of rows that `asked` reads from indexes, and checks that it does not scan the
/// table. A connection reports its statistics when it ends, so each query has its own connection.
async fn reads(fresh: &Fresh, client: &Client, asked: impl AsyncFn(&dyn Store)) -> BTreeMap<String, i64> {
    let (scans, before) = counted(client).await;
    let store = fresh.again().await;
    asked(&store).await;
    drop(store);
    let grown = async || {
        let (_, now) = counted(client).await;
        now != before
    };
    until("it is counted", grown).await;
    let (scans_then, now) = counted(client).await;
    assert_eq!(scans_then, scans, "the table is gone through");
    now.into_iter()
        .map(|(index, now)| (index.clone(), now - before[&index]))
        // The planner reads the end of an index to estimate its range.
        .filter(|(_, read)| *read > 2)
        .collect()
}

#[tokio::test]
async fn a_page_among_many_tokens_reads_little_more_of_one_index_than_it_shows() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    client.batch_execute(FILL).await.expect("filled");
    let now = day(208);
    let all = PatFilter::default;
    let state = |state| PatFilter { state: Some(state), ..all() };
    let name = |name: &str| PatFilter { name: Some(name.into()), ..all() };
    let (active, expired, revoked) = (PatState::Active, PatState::Expired, PatState::Revoked);
    // The maximum number of rows to read for a page of 50: enough to find 51 that match the other
    // conditions.
    for (filter, index, most) in [
        (all(), "pats_by_age", 60),
        (PatFilter { owner: Some(PatOwner::Id(Uuid::from_u128(77))), ..all() }, "pats_of_user", 210),
        (name("ci"), "pats_by_name", 60),
        (name("CI-1999"), "pats_by_name", 120),
        (PatFilter { state: Some(active), ..name("ci") }, "pats_by_name", 400),
        (PatFilter { hint: Some("...0abc".into()), ..all() }, "pats_by_hint", 10),
        (state(active), "pats_by_expiry", 60),
        (state(expired), "pats_by_expiry", 60),
        (state(revoked), "pats_revoked", 60),
        (PatFilter { expires_before: Some(day(240)), ..state(active) }, "pats_by_expiry", 60),
        (PatFilter { expires_before: Some(day(100)), ..all() }, "pats_by_expiry", 60),
        (PatFilter { unused_since: Some(day(100)), ..all() }, "pats_by_use", 60),
    ] {
        let page = async |after: Option<Cursor>| {
            let shown = std::cell::Cell::new((0, None));
            let read = reads(&fresh, &client, async |store: &dyn Store| {
                let page = store.search_pats(&filter, after.as_ref(), 50, now).await.expect("asks");
                shown.set((page.pats.len(), page.next));
            });
            let read = read.await;
            assert_eq!(read.keys().collect::<Vec<_>>(), [index], "{filter:?}: {read:?}");
            assert!(read[index] <= most, "{filter:?}: {read:?}");
            shown.into_inner()
        };
        let (first, next) = page(None).await;
        assert!(first > 0, "{filter:?}");
        if next.is_some() {
            // The next page costs as much as the first.
            page(next).await;
        }
    }
}

#[tokio::test]
async fn what_is_swept_and_counted_among_many_tokens_goes_by_an_index() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    client.batch_execute(FILL).await.expect("filled");
    let user = Uuid::from_u128(77);
    let own = reads(&fresh, &client, async |store: &dyn Store| {
        assert!(!store.active_pats(user, day(208)).await.expect("asks").is_empty());
    });
    let own = own.await;
    assert!(own.len() == 1 && own["pats_of_user"] <= 210, "{own:?}");
    let ends = reads(&fresh, &client, async |store: &dyn Store| {
        assert!(store.pats_by_end(day(208), &[day(209)]).await.expect("asks")[0] > 0);
    });
    assert_eq!(ends.await.keys().collect::<Vec<_>>(), ["pats_by_expiry"]);
    let untold = reads(&fresh, &client, async |store: &dyn Store| {
        let lacking = Expiring {
            kind: NoticeKind::Expiring1d,
            after: day(370),
            until: day(371),
            made_before: MICROS_PER_DAY,
        };
        assert_eq!(store.expiring(&lacking, 50).await.expect("asks").len(), 50);
    });
    let untold = untold.await;
    assert_eq!(untold.keys().collect::<Vec<_>>(), ["pats_by_expiry"], "{untold:?}");
    for (of_all, indexes) in [(0, &["pats_to_be_used"][..]), (30, &["pats_unused", "pats_to_be_used"])] {
        let unused = reads(&fresh, &client, async |store: &dyn Store| {
            let of_all = NonZeroU16::new(of_all);
            let unused = store.unused_pats(day(208), day(208), of_all, 50).await.expect("asks");
            assert_eq!(unused.len(), 50);
        });
        let unused = unused.await;
        assert!(!unused.contains_key("pats_by_use"), "{unused:?}");
        for index in ["pats_unused", "pats_to_be_used"] {
            let read = unused.get(index).copied().unwrap_or_default();
            let most = if indexes.contains(&index) { 50..=1000 } else { 0..=0 };
            assert!(most.contains(&read), "{index}, {of_all}: {unused:?}");
        }
    }
}

/// The tokens that have been unused for longest have expired: 25,000 of them come before the first
/// that has not.
#[tokio::test]
async fn what_has_ended_is_passed_over_unread_when_unused_tokens_are_looked_for() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    client.batch_execute(FILL).await.expect("filled");
    let unused = reads(&fresh, &client, async |store: &dyn Store| {
        let unused = store.unused_pats(day(391), day(391), NonZeroU16::new(30), 50).await.expect("asks");
        assert_eq!(unused.len(), 50);
    });
    let unused = unused.await;
    // Fifty rows of each span, and the expired ones of the current span.
    assert!(unused.values().sum::<i64>() <= 2500, "{unused:?}");
}

#[tokio::test]
async fn a_use_is_written_down_where_the_row_is() {
    let fresh = Fresh::open().await;
    let client = fresh.client().await;
    let pat = issued(&fresh).await;
    let row = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'pats'";
    let used = async |times: std::ops::Range<i64>| {
        let store = fresh.again().await;
        for second in times {
            let last_used_at = Timestamp::from_second(second).expect("in range");
            let used = Usage {
                pat_id: pat.pat_id,
                last_used_at,
                address: None,
                user_agent: None,
                count: 1,
                networks: Vec::new(),
            };
            store.record_usage(&[used]).await.expect("kept");
        }
    };
    used(1..21).await;
    let counted = async || {
        client.batch_execute("SELECT pg_stat_clear_snapshot()").await.expect("asks");
        let row = client.query_one(row, &[]).await.expect("asks");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    until("all are counted", async || counted().await.0 >= 20).await;
    assert_eq!(counted().await, (20, 20), "no index has a new entry for any of them");
    client.batch_execute("CREATE INDEX pats_by_last_use ON pats (last_used_at)").await.expect("made");
    used(21..41).await;
    until("all are counted", async || counted().await.0 >= 40).await;
    assert_eq!(counted().await, (40, 20), "an index of the time itself would have one for each");
}
