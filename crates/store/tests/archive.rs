//! The durable data of a store can be moved to any other store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/database.rs"]
mod database;

use database::Fresh;
use jiff::Timestamp;
use tempfile::TempDir;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    AskedPolicy, Change, Claim, NewNotice, Notice, NoticeFacts, NoticeKind, NoticeStore, Outcome, Policy,
    PolicyStore, Store, UserRecord, WebhookRecord,
};
use trustrelay_store::{Archive, Archived, SqliteOptions, SqliteStore};
use trustrelay_token::KeyId;
use uuid::Uuid;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).expect("in range")
}

fn sqlite() -> (TempDir, SqliteStore) {
    let dir = TempDir::new().expect("a directory");
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
    (dir, store)
}

/// Moves the data through an archive file. Returns the file's text.
async fn moved(from: &dyn Archived, to: &dyn Archived) -> String {
    let mut file = Vec::new();
    from.export().await.expect("exports").write(&mut file).expect("writes");
    to.import(Archive::read(&file[..]).expect("reads")).await.expect("imports");
    String::from_utf8(file).expect("text")
}

#[tokio::test]
async fn notices_move_with_where_they_go_and_how_far_they_came() {
    let (_dir, sqlite_store) = sqlite();
    let postgres = Fresh::open().await;
    let ada = UserRecord {
        user_id: Uuid::now_v7(),
        email: "ada@example.org".into(),
        password_hash: "hash".into(),
        is_admin: true,
        created_at: at(0),
        disabled_at: None,
        upstreams: None,
    };
    sqlite_store.insert_user(&ada, &AUDIT).await.expect("added");
    for user_id in [Some(ada.user_id), None] {
        let webhook = WebhookRecord {
            webhook_id: Uuid::now_v7(),
            user_id,
            url: "https://hooks.example.org/ä".into(),
            origin: "https://hooks.example.org".into(),
            key_id: KeyId(u32::MAX),
            created_at: at(1),
        };
        sqlite_store.insert_webhook(&webhook, 10, &AUDIT).await.expect("added");
    }
    let notices: Vec<_> = ["a", "b"]
        .map(|once| {
            let notice = Notice {
                notice_id: Uuid::now_v7(),
                user_id: ada.user_id,
                pat_id: Some(Uuid::now_v7()),
                kind: NoticeKind::Expiring7d,
                created_at: at(2),
                facts: NoticeFacts { pat_name: Some("ci".into()), ..NoticeFacts::default() },
            };
            NewNotice { notice, once: once.into(), only: None }
        })
        .into();
    sqlite_store.add_notices(&notices, true).await.expect("kept");
    let claim = Claim { now: at(3), until: at(9), limit: 2, notice_id: None };
    let [done, failed] = &sqlite_store.claim_deliveries(&claim).await.expect("claims")[..] else {
        panic!("two")
    };
    sqlite_store.finish_delivery(done.delivery_id, 1, at(4), &Outcome::Done).await.expect("asks");
    let outcome = Outcome::Failed("no".into());
    sqlite_store.finish_delivery(failed.delivery_id, 1, at(4), &outcome).await.expect("asks");

    let there = moved(&sqlite_store, &*postgres).await;
    let (_dir, again) = sqlite();
    let back = moved(&*postgres, &again).await;
    assert_eq!(there, back, "byte for byte");
    for kind in ["webhook", "notice", "delivery"] {
        assert!(there.contains(&format!("{{\"{kind}\":")), "{kind} in {there}");
    }
    let told = sqlite_store.notices(None, None, 10).await.expect("asks");
    assert_eq!(again.notices(None, None, 10).await.expect("asks"), told);
    assert_eq!(postgres.notices(None, None, 10).await.expect("asks"), told);
    for user_id in [Some(ada.user_id), None] {
        let webhooks = sqlite_store.webhooks(user_id).await.expect("asks");
        assert_eq!(again.webhooks(user_id).await.expect("asks"), webhooks);
    }
    // Notices that were delivered before the move are not repeated after it.
    assert_eq!(again.add_notices(&notices, true).await.expect("asks"), 0);
}

#[tokio::test]
async fn what_an_account_may_use_moves_with_it() {
    let (_dir, from) = sqlite();
    let (_other, back) = sqlite();
    let postgres = Fresh::open().await;
    let held = [None, Some(vec![]), Some(vec!["docs".to_owned(), "wiki".to_owned()])];
    let users: Vec<_> = (0..)
        .zip(held)
        .map(|(n, upstreams)| UserRecord {
            user_id: Uuid::now_v7(),
            email: format!("{n}@example.org"),
            password_hash: "hash".into(),
            is_admin: n == 0,
            created_at: at(n),
            disabled_at: None,
            upstreams,
        })
        .collect();
    for user in &users {
        from.insert_user(user, &AUDIT).await.expect("added");
    }
    moved(&from, &*postgres).await;
    assert_eq!(postgres.list_users().await.expect("asks"), users);
    moved(&*postgres, &back).await;
    assert_eq!(back.list_users().await.expect("asks"), users);
}

#[tokio::test]
async fn a_policy_moves_with_the_entry_that_made_it_and_none_is_no_line() {
    let (_dir, from) = sqlite();
    let (_other, back) = sqlite();
    let postgres = Fresh::open().await;
    let nothing = moved(&from, &*postgres).await;
    assert!(!nothing.contains("{\"policy\":"), "{nothing}");
    let asked = AskedPolicy {
        max_days: Some(90),
        default_days: None,
        allowed_scopes: vec!["mcp".into(), "api:read".into()],
        unused_days: Some(45),
        networks: vec!["10.0.0.0/8".into(), "2001:db8::/32".into()],
    };
    let policy = asked.read().expect("a policy");
    assert_eq!(from.set_policy(&policy, 0, at(1), &AUDIT).await.expect("asks"), Some(1));
    let decided = from.policy().await.expect("asks");
    let there = moved(&from, &*postgres).await;
    assert_eq!(postgres.policy().await.expect("asks"), decided);
    assert_eq!(moved(&*postgres, &back).await, there, "byte for byte");
    assert_eq!(back.policy().await.expect("asks"), decided);
    // The store continues from the imported state.
    assert_eq!(back.set_policy(&Policy::default(), 1, at(2), &AUDIT).await.expect("asks"), Some(2));
    assert_eq!(back.log_after(1).await.expect("asks")[0].change, Change::PolicyChanged);
}
