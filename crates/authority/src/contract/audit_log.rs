//! The audit log, read and kept: pages, seals, and what is cut off.

use futures_util::future::join_all;
use uuid::Uuid;

use super::kit::at;
use crate::audit::{
    Actor, ActorKind, AuditEntry, AuditFilter, AuditLink, AuditLook, AuditPlace, AuditRecord, AuditSeal, CUT,
    CUT_HASH, CUT_THROUGH, chained, hex,
};
use crate::store::Store;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn entry(action: &'static str, micros: i64) -> AuditEntry {
    AuditEntry::new(at(micros), Actor::SYSTEM, action)
}

async fn append(store: &dyn Store, entries: &[AuditEntry]) {
    for batch in entries.chunks(crate::AUDIT_BATCH) {
        store.append_audit(batch).await.expect("appended");
    }
}

async fn kept(store: &dyn Store) -> Vec<AuditRecord> {
    store.audit_after(0, 10_000).await.expect("asks")
}

fn seqs(records: &[AuditRecord]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

fn place(record: &AuditRecord) -> AuditPlace {
    AuditPlace { at: AuditEntry::from_bytes(&record.entry).expect("reads").at, seq: record.seq }
}

/// All that fits, page by page.
async fn paged(store: &dyn Store, filter: &AuditFilter, oldest_first: bool, limit: u64) -> Vec<u64> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let look = AuditLook { filter: filter.clone(), after, oldest_first, limit };
        let page = store.audit_page(&look).await.expect("asks");
        assert!(page.len() as u64 <= limit);
        let Some(last) = page.last() else { return found };
        after = Some(place(last));
        found.extend(seqs(&page));
    }
}

/// By time, and of the same time by number: from either end, without a gap and nothing twice.
pub async fn pages_go_on_where_they_ended(store: &dyn Store) {
    // Refusals come to the log later than they were.
    let times = [5, 1, 3, 3, 3, 9, 0, 3, 7];
    append(store, &times.map(|micros| entry("test", micros))).await;
    let oldest_first = [7, 2, 3, 4, 5, 8, 1, 9, 6];
    let newest_first: Vec<_> = oldest_first.iter().rev().copied().collect();
    for limit in [1, 2, 4, 9, 100] {
        assert_eq!(paged(store, &AuditFilter::default(), true, limit).await, oldest_first);
        assert_eq!(paged(store, &AuditFilter::default(), false, limit).await, newest_first);
    }
}

/// Whatever is asked for, alone and together.
pub async fn a_filter_finds_what_fits_and_nothing_else(store: &dyn Store) {
    let actions = ["token.created", "token.revoked", "tokens.created", "refused.login"];
    let some = |n: u128| (n > 0).then(|| id(n));
    let mut entries = Vec::new();
    for n in 0..120_u128 {
        let actor =
            Actor { kind: ActorKind::Token, user_id: some(n % 3), pat_id: some(n % 4), ..Actor::SYSTEM };
        let micros = i64::try_from(n * 7 % 50).expect("small");
        let mut entry = AuditEntry::new(at(micros), actor, actions[usize::try_from(n % 4).expect("small")]);
        (entry.user_id, entry.pat_id) = (some(n / 3 % 3), some(n / 4 % 4));
        entries.push(entry);
    }
    append(store, &entries).await;
    let users = [None, Some(id(1)), Some(id(9))];
    let filters = users.into_iter().flat_map(|user_id| {
        let actors = [None, Some(id(2))];
        actors.into_iter().flat_map(move |actor_id| {
            let pats = [None, Some(id(1)), Some(id(3))];
            pats.into_iter().flat_map(move |pat_id| {
                let actions = [None, Some("token.created"), Some("token"), Some("refused")];
                actions.into_iter().flat_map(move |action| {
                    let times = [
                        (None, None),
                        (Some(at(10)), None),
                        (None, Some(at(40))),
                        (Some(at(7)), Some(at(28))),
                    ];
                    let action = action.map(Into::into);
                    times.map(move |(from, to)| AuditFilter {
                        user_id,
                        actor_id,
                        pat_id,
                        action: action.clone(),
                        from,
                        to,
                    })
                })
            })
        })
    });
    let mut found_some = 0;
    for filter in filters {
        let mut fitting: Vec<_> = (1..).zip(&entries).filter(|(_, entry)| filter.fits(entry)).collect();
        fitting.sort_by_key(|(seq, entry)| (entry.at, *seq));
        let fitting: Vec<u64> = fitting.into_iter().map(|(seq, _)| seq).collect();
        found_some += usize::from(!fitting.is_empty());
        assert_eq!(paged(store, &filter, true, 7).await, fitting, "{filter:?}");
        let newest_first: Vec<_> = fitting.into_iter().rev().collect();
        assert_eq!(paged(store, &filter, false, 50).await, newest_first, "{filter:?}");
    }
    assert!(found_some > 100, "only {found_some} filters found anything");
}

/// Nothing was cut off of a new log, and its head is its last entry.
pub async fn the_ends_are_those_of_the_chain(store: &dyn Store) {
    let ends = store.audit_ends().await.expect("asks");
    assert_eq!((ends.cut, ends.head), (AuditLink::BEGINNING, AuditLink::BEGINNING));
    append(store, &[entry("one", 0), entry("two", 0)]).await;
    let ends = store.audit_ends().await.expect("asks");
    let last = kept(store).await.pop().expect("there");
    assert_eq!((ends.cut, ends.head), (AuditLink::BEGINNING, AuditLink { seq: 2, hash: last.hash }));
}

/// Several nodes may seal the same entry: the first seal stays.
pub async fn seals_are_kept_once_and_read_in_order(store: &dyn Store) {
    let seal = |seq, n| AuditSeal { seq, at: at(i64::from(n)), mac: [n; 32] };
    for (seq, n) in [(2, 1), (1, 2), (2, 3), (7, 4)] {
        store.seal_audit(&seal(seq, n)).await.expect("sealed");
    }
    assert_eq!(store.audit_seals(0, 10).await.expect("asks"), [seal(1, 2), seal(2, 1), seal(7, 4)]);
    assert_eq!(store.audit_seals(1, 1).await.expect("asks"), [seal(2, 1)]);
    assert_eq!(store.audit_seals(7, 10).await.expect("asks"), []);
}

/// What is old is cut off from the front; what is old and behind something younger stays until that
/// is old too.
pub async fn the_oldest_entries_are_cut_off_and_the_chain_goes_on(store: &dyn Store) {
    append(store, &[0, 1, 2, 3, 9, 4, 5].map(|micros| entry("test", micros))).await;
    for seq in [2, 4, 5, 7] {
        store.seal_audit(&AuditSeal { seq, at: at(0), mac: [0; 32] }).await.expect("sealed");
    }
    let before = kept(store).await;
    assert_eq!(store.cut_audit(at(0), 100, &entry(CUT, 20)).await.expect("asks"), 0, "nothing is older");
    assert_eq!(kept(store).await, before, "what cuts nothing is not told");

    assert_eq!(store.cut_audit(at(6), 3, &entry(CUT, 20)).await.expect("asks"), 3, "no more than asked for");
    assert_eq!(store.cut_audit(at(6), 3, &entry(CUT, 21)).await.expect("asks"), 1);
    assert_eq!(
        store.cut_audit(at(6), 3, &entry(CUT, 22)).await.expect("asks"),
        0,
        "a younger one stands before"
    );
    let log = kept(store).await;
    assert_eq!(seqs(&log), [5, 6, 7, 8, 9]);
    assert_eq!(log[..3], before[4..]);
    let ends = store.audit_ends().await.expect("asks");
    assert_eq!(ends.cut, AuditLink { seq: 4, hash: before[3].hash });
    assert_eq!(ends.head.seq, 9);
    let told = AuditEntry::from_bytes(&log[4].entry).expect("reads");
    assert_eq!((&*told.action, told.at), (CUT, at(21)));
    assert_eq!(told.details.get(CUT_THROUGH).map(String::as_str), Some("4"));
    assert_eq!(told.details.get(CUT_HASH), Some(&hex(&before[3].hash)));
    let seals = store.audit_seals(0, 10).await.expect("asks");
    assert_eq!(seals.iter().map(|seal| seal.seq).collect::<Vec<_>>(), [5, 7], "seals go with their entries");

    append(store, &[entry("after", 30)]).await;
    assert_chained(ends.cut, &kept(store).await);
}

/// However old it is: else nobody knew what comes next.
pub async fn the_last_entry_is_never_cut_off(store: &dyn Store) {
    assert_eq!(store.cut_audit(at(9), 100, &entry(CUT, 9)).await.expect("asks"), 0, "there is none");
    append(store, &[entry("only", 0)]).await;
    assert_eq!(store.cut_audit(at(9), 100, &entry(CUT, 9)).await.expect("asks"), 0);
    append(store, &[entry("last", 1)]).await;
    assert_eq!(store.cut_audit(at(9), 100, &entry(CUT, 9)).await.expect("asks"), 1);
    assert_eq!(seqs(&kept(store).await), [2, 3]);
}

/// Several nodes do it, and meanwhile the log grows.
pub async fn cuts_at_once_cut_each_entry_off_once(store: &dyn Store) {
    append(store, &vec![entry("old", 0); 100]).await;
    let (cuts, appended) = tokio::join!(
        join_all((0..8).map(|_| async { store.cut_audit(at(5), 30, &entry(CUT, 9)).await })),
        join_all((0..8).map(|_| async { store.append_audit(&[entry("new", 9)]).await })),
    );
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");
    let cuts: Vec<u64> = cuts.into_iter().map(|cut| cut.expect("asks")).collect();
    let log = kept(store).await;
    let ends = store.audit_ends().await.expect("asks");
    assert_eq!(cuts.iter().sum::<u64>(), ends.cut.seq, "{cuts:?}");
    assert!(ends.cut.seq >= 30, "one at least cut something off");
    let told = log.iter().filter(|record| record.columns.action == CUT).count();
    assert_eq!(told, cuts.iter().filter(|cut| **cut > 0).count(), "{cuts:?}");
    assert_chained(ends.cut, &log);
}

fn assert_chained(cut: AuditLink, log: &[AuditRecord]) {
    let mut last = cut;
    for record in log {
        assert_eq!(record.seq, last.seq + 1, "there are no gaps");
        assert_eq!(record.hash, chained(&last.hash, record.seq, &record.entry));
        last = AuditLink { seq: record.seq, hash: record.hash };
    }
}
