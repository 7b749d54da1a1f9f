//! The audit log: told with each change, or not at all, and chained.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::kit::{AUDIT, MANY, added, at, issued, pat, session, user};
use crate::audit::{AUDIT_BATCH, AUDIT_BEGINNING, Actor, AuditEntry, AuditRecord, chained};
use crate::store::{Revocation, Store};

fn entry(action: &'static str) -> AuditEntry {
    AuditEntry::new(at(0), Actor::SYSTEM, action)
}

async fn log(store: &dyn Store) -> Vec<AuditRecord> {
    store.audit_after(0, 1000).await.expect("asks")
}

fn actions(log: &[AuditRecord]) -> Vec<String> {
    let read = |record: &AuditRecord| AuditEntry::from_bytes(&record.entry).expect("reads");
    log.iter().map(|record| read(record).action.into_owned()).collect()
}

fn assert_chained(log: &[AuditRecord]) {
    let mut before = AUDIT_BEGINNING;
    for (record, seq) in log.iter().zip(1..) {
        assert_eq!(record.seq, seq, "there are no gaps");
        assert_eq!(record.hash, chained(&before, seq, &record.entry), "entry {seq} holds all before it");
        before = record.hash;
    }
}

/// Each change has one entry, in the order of the changes.
pub async fn each_change_is_told_once(store: &dyn Store) {
    let ada = user("ada@example.org");
    store.insert_user(&ada, &entry("added")).await.expect("added");
    let pat = pat(&ada);
    store.insert_pat(&pat, MANY, &entry("created")).await.expect("inserted");
    let session = session(&ada);
    store.insert_session(&session, &entry("began")).await.expect("inserted");
    store.set_password(ada.user_id, "new hash", Some(session.digest), &entry("password")).await.expect("set");
    store.delete_session(&session.digest, &entry("ended")).await.expect("asks");
    store.insert_session(&session, &entry("began again")).await.expect("inserted");
    store.delete_sessions_of(ada.user_id, None, &entry("ended all")).await.expect("asks");
    store.revoke_pat(pat.pat_id, at(1), &entry("revoked")).await.expect("asks");
    let many = [issued(store, &ada).await, issued(store, &ada).await].map(|pat| pat.pat_id);
    let all =
        [pat.pat_id, many[0], ada.user_id, many[1]].into_iter().zip(["again", "many", "unknown", "and more"]);
    let all: Vec<_> = all.map(|(pat_id, action)| Revocation::untold(pat_id, entry(action))).collect();
    store.revoke_pats(&all, at(2), true).await.expect("asks");
    store.set_user_disabled(ada.user_id, Some(at(2)), at(2), &entry("disabled")).await.expect("asks");
    store.set_user_disabled(ada.user_id, None, at(3), &entry("enabled")).await.expect("asks");
    let log = log(store).await;
    let told = [
        "added",
        "created",
        "began",
        "password",
        "ended",
        "began again",
        "ended all",
        "revoked",
        "test",
        "test",
        "many",
        "and more",
        "disabled",
        "enabled",
    ];
    assert_eq!(actions(&log), told);
    assert_chained(&log);
}

/// What is refused, and what was so before, has none.
pub async fn what_changes_nothing_is_not_told(store: &dyn Store) {
    let first = user("ada@example.org");
    assert!(store.insert_first_user(&first, &entry("first")).await.expect("asks"));
    let pat = issued(store, &first).await;
    store.revoke_pat(pat.pat_id, at(1), &AUDIT).await.expect("asks");
    let before = log(store).await;
    let (no, nobody) = (entry("nothing"), user("nobody@example.org"));

    assert!(!store.insert_first_user(&nobody, &no).await.expect("asks"));
    store.insert_user(&first, &no).await.expect_err("taken");
    store.insert_pat(&pat, 0, &no).await.expect_err("too many");
    store.insert_session(&session(&nobody), &no).await.expect_err("of nobody");
    store.set_password(nobody.user_id, "hash", None, &no).await.expect_err("of nobody");
    store.delete_session(&session(&first).digest, &no).await.expect("asks");
    store.delete_sessions_of(first.user_id, None, &no).await.expect("asks");
    store.revoke_pat(pat.pat_id, at(2), &no).await.expect("asks");
    store.revoke_pat(nobody.user_id, at(2), &no).await.expect("asks");
    store.set_user_disabled(first.user_id, None, at(2), &no).await.expect("asks");
    store.set_user_disabled(nobody.user_id, Some(at(2)), at(2), &no).await.expect("asks");
    store.append_audit(&[]).await.expect("asks");
    assert_eq!(log(store).await, before);
}

/// The bytes are kept as they are: the chain is made over them.
pub async fn an_entry_reads_back_byte_for_byte(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let mut odd = entry("odd").of_user(ada.user_id).of_pat(ada.user_id).with("näme", "\u{0}\"\\\u{1F980}\n");
    odd.at = Timestamp::from_microsecond(-1).expect("in range");
    odd.actor.address = Some("2001:db8::1".parse().expect("an address"));
    odd.actor.email = Some("ada@example.org".into());
    store.append_audit(std::slice::from_ref(&odd)).await.expect("appended");
    let log = log(store).await;
    assert_eq!(log[1].entry, odd.to_bytes().expect("bytes"));
    assert_eq!(AuditEntry::from_bytes(&log[1].entry).expect("reads"), odd);
    assert_chained(&log);
}

/// However many come at once, the chain has no gap and no fork.
pub async fn entries_that_come_at_once_are_chained_without_gaps(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let pats: Vec<_> = (0..20).map(|_| pat(&ada)).collect();
    let refused = vec![entry("refused"); AUDIT_BATCH];
    let (made, appended) = tokio::join!(
        join_all(pats.iter().map(|pat| store.insert_pat(pat, MANY, &AUDIT))),
        join_all((0..4).map(|_| store.append_audit(&refused))),
    );
    assert!(made.iter().chain(&appended).all(Result::is_ok), "{made:?} {appended:?}");
    let log = log(store).await;
    assert_eq!(log.len(), 1 + 20 + 4 * AUDIT_BATCH);
    assert_chained(&log);
    let last = log.last().expect("there").seq;
    assert_eq!(store.audit_after(last - 3, 2).await.expect("asks"), log[log.len() - 3..log.len() - 1]);
}
