//! Tampering with the audit log in the SQLite file, outside of the program, is always detected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    Actor, AuditEntry, AuditFlaw, AuditReport, AuditStore, Authority, AuthorityConfig, CUT, ManualClock,
    ServerSecret, chained,
};
use trustrelay_store::{DATABASE_FILE, SqliteOptions, SqliteStore};

struct Kept {
    authority: Arc<Authority>,
    store: Arc<SqliteStore>,
    dir: tempfile::TempDir,
}

impl Kept {
    /// Creates nine entries, of which the third, sixth and ninth are sealed.
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens"));
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let secret = ServerSecret::generate().expect("random");
        let config = AuthorityConfig { password_memory_kib: 8, ..AuthorityConfig::default() };
        let authority =
            Authority::open(store.clone(), &[secret], clock.clone(), config).await.expect("opens");
        for _ in 0..3 {
            clock.advance(Duration::from_secs(1));
            let entry = AuditEntry::new(trustrelay_authority::Clock::now(&*clock), Actor::SYSTEM, "test");
            store.append_audit(&vec![entry.of_user(uuid::Uuid::now_v7()); 3]).await.expect("appended");
            authority.seal_audit().await.expect("sealed");
        }
        let kept = Self { authority, store, dir };
        let report = kept.report().await;
        assert_eq!((report.flaw, report.entries, report.seals), (None, 9, 3), "as it was written");
        kept
    }

    /// Acts as somebody who can write the file.
    fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.dir.path().join(DATABASE_FILE)).expect("opens");
        connection.execute_batch(sql).expect(sql);
    }

    /// Acts as somebody who also knows how the chain is built.
    fn chain_anew(&self) {
        let connection = Connection::open(self.dir.path().join(DATABASE_FILE)).expect("opens");
        let mut select = connection.prepare("SELECT seq, entry FROM audit ORDER BY seq").expect("SQL");
        let entries = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("reads");
        let entries: Vec<(u64, Vec<u8>)> = entries.map(|entry| entry.expect("reads")).collect();
        let mut hash = [0; 32];
        for (seq, entry) in entries {
            hash = chained(&hash, seq, &entry);
            let values = rusqlite::params![seq, hash];
            connection.execute("UPDATE audit SET hash = ?2 WHERE seq = ?1", values).expect("writes");
            connection.execute("UPDATE audit_head SET seq = ?1, hash = ?2", values).expect("writes");
        }
    }

    async fn report(&self) -> AuditReport {
        self.authority.verify_audit().await.expect("asks")
    }

    async fn flaw(&self) -> AuditFlaw {
        self.report().await.flaw.expect("it is found")
    }
}

async fn found(sql: &str) -> AuditFlaw {
    let kept = Kept::new().await;
    kept.tamper(sql);
    kept.flaw().await
}

const OTHER: &str =
    "UPDATE audit SET entry = CAST(replace(CAST(entry AS TEXT), 'system', 'operator') AS BLOB) WHERE seq = 5";

#[tokio::test]
async fn an_entry_that_was_changed_taken_out_or_moved_is_found() {
    assert_eq!(found(OTHER).await, AuditFlaw::Changed(5));
    assert_eq!(found("UPDATE audit SET hash = zeroblob(32) WHERE seq = 5").await, AuditFlaw::Changed(5));
    let gone = "DELETE FROM audit WHERE seq IN (4, 5)";
    assert_eq!(found(gone).await, AuditFlaw::Missing { first: 4, last: 5 });
    let swapped = "UPDATE audit SET seq = -4 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = -4";
    assert_eq!(found(swapped).await, AuditFlaw::Changed(4));
    let closed_up = "DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = seq - 1 WHERE seq > 4";
    assert_eq!(found(closed_up).await, AuditFlaw::Changed(4));
}

#[tokio::test]
async fn a_chain_that_was_made_anew_is_found_by_its_seal() {
    let kept = Kept::new().await;
    kept.tamper(OTHER);
    kept.chain_anew();
    assert_eq!(kept.flaw().await, AuditFlaw::Seal { seq: 6, good: Some(3) });
}

#[tokio::test]
async fn a_column_that_says_other_than_its_entry_is_found() {
    for (column, value) in [
        ("at", "at + 1"),
        ("action", "'token.created'"),
        ("actor_user_id", "randomblob(16)"),
        ("actor_pat_id", "randomblob(16)"),
        ("user_id", "NULL"),
        ("pat_id", "randomblob(16)"),
    ] {
        let flaw = found(&format!("UPDATE audit SET {column} = {value} WHERE seq = 8")).await;
        assert_eq!(flaw, AuditFlaw::Column { seq: 8, column });
    }
}

#[tokio::test]
async fn what_is_no_entry_at_all_is_found() {
    for what in ["user_id = x'00'", "hash = x'00'"] {
        assert_eq!(found(&format!("UPDATE audit SET {what} WHERE seq = 8")).await, AuditFlaw::Unreadable(8));
    }
    let kept = Kept::new().await;
    kept.tamper("UPDATE audit SET entry = x'ff' WHERE seq = 8");
    kept.chain_anew();
    assert_eq!(kept.flaw().await, AuditFlaw::Unreadable(8));
}

#[tokio::test]
async fn a_forged_seal_is_found() {
    let forged = "UPDATE audit_seals SET mac = randomblob(32) WHERE seq = 6";
    assert_eq!(found(forged).await, AuditFlaw::Seal { seq: 6, good: Some(3) });
    let moved = "UPDATE audit_seals SET seq = 5 WHERE seq = 6";
    assert_eq!(found(moved).await, AuditFlaw::Seal { seq: 5, good: Some(3) });
    let later = "UPDATE audit_seals SET at = at + 1 WHERE seq = 3";
    assert_eq!(found(later).await, AuditFlaw::Seal { seq: 3, good: None });
}

#[tokio::test]
async fn a_head_that_disagrees_is_found() {
    let other = "UPDATE audit_head SET hash = zeroblob(32)";
    assert_eq!(found(other).await, AuditFlaw::Head { head: 9, last: 9 });
    let back = "UPDATE audit_head SET seq = 7, hash = (SELECT hash FROM audit WHERE seq = 7)";
    assert_eq!(found(back).await, AuditFlaw::Head { head: 7, last: 8 });
}

#[tokio::test]
async fn an_end_that_was_cut_off_is_found() {
    let cut = "DELETE FROM audit WHERE seq > 7";
    assert_eq!(found(cut).await, AuditFlaw::Head { head: 9, last: 7 });
    let with_head =
        format!("{cut}; UPDATE audit_head SET seq = 7, hash = (SELECT hash FROM audit WHERE seq = 7)");
    assert_eq!(found(&with_head).await, AuditFlaw::CutShort { sealed: 9, last: 7 });
    let all = "DELETE FROM audit; UPDATE audit_head SET seq = 0, hash = zeroblob(32)";
    assert_eq!(found(all).await, AuditFlaw::CutShort { sealed: 3, last: 0 });
}

#[tokio::test]
async fn a_beginning_that_was_cut_off_is_found_if_no_entry_tells_of_it() {
    let cut = "UPDATE audit_cut SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4); \
               DELETE FROM audit WHERE seq <= 4; DELETE FROM audit_seals WHERE seq <= 4";
    assert_eq!(found(cut).await, AuditFlaw::Beginning { cut: 4 });
    let kept = Kept::new().await;
    let entry = AuditEntry { action: CUT.into(), ..AUDIT.clone() };
    let before = Timestamp::from_second(2).expect("in range");
    assert_eq!(kept.store.cut_audit(before, 100, &entry).await.expect("asks"), 3);
    let report = kept.report().await;
    assert_eq!((report.flaw, report.cut, report.entries), (None, 3, 7), "a sweep tells of itself");
    kept.tamper("UPDATE audit_cut SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4); DELETE FROM audit WHERE seq = 4");
    assert_eq!(kept.flaw().await, AuditFlaw::Beginning { cut: 4 });
}
