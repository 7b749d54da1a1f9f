//! A modified archive is either refused, or everything in it can be read. In other words, a
//! successful import implies readable data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/database.rs"]
mod database;

use std::sync::LazyLock;

use database::Fresh;
use jiff::Timestamp;
use jiff::civil::date;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use trustrelay_authority::contract::AUDIT;
use trustrelay_authority::{
    AskedPolicy, AuditSeal, AuditStore, Call, DayCalls, NewNotice, Notice, NoticeFacts, NoticeKind,
    NoticeStore, PatRecord, PolicyStore, Rotation, RotationStore, Store, TokenCalls, Usage, UserRecord,
    WebhookRecord,
};
use trustrelay_store::{Archive, Archived, BadArchive, SqliteOptions, SqliteStore};
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

/// Number of modified archives to try. At about 15 ms each, this takes 6 s.
const CASES: u32 = 400;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(1_775_563_200_000_000 + micros).expect("in range")
}

fn sqlite() -> (TempDir, SqliteStore) {
    let dir = TempDir::new().expect("a directory");
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("opens");
    (dir, store)
}

fn pat(owner: &UserRecord, n: u8) -> PatRecord {
    PatRecord {
        pat_id: Uuid::now_v7(),
        user_id: owner.user_id,
        name: "ci".into(),
        hint: "...wxyz".into(),
        scopes: "mcp api".parse().expect("scopes"),
        digest: TokenDigest::from_bytes([n; 32]),
        key_id: KeyId(7),
        parent_id: None,
        created_at: at(0),
        expires_at: at(1_000_000),
        revoked_at: None,
        last_used_at: None,
        rotated_at: None,
        limits: None,
    }
}

async fn fill(store: &SqliteStore) {
    let ada = UserRecord {
        user_id: Uuid::now_v7(),
        email: "ada@example.org".into(),
        password_hash: "hash".into(),
        is_admin: true,
        created_at: at(0),
        disabled_at: None,
        upstreams: Some(vec!["docs".into()]),
    };
    store.insert_user(&ada, &AUDIT).await.expect("added");
    let eve = UserRecord { user_id: Uuid::now_v7(), email: "eve@example.org".into(), ..ada.clone() };
    store.insert_user(&eve, &AUDIT).await.expect("added");
    let pats = [pat(&ada, 1), pat(&ada, 2), pat(&eve, 3)];
    for pat in &pats {
        store.insert_pat(pat, 9, &AUDIT).await.expect("inserted");
    }
    let rotation = Rotation {
        pat_id: pats[0].pat_id,
        at: at(1),
        replaces: pats[0].digest,
        digest: TokenDigest::from_bytes([4; 32]),
        key_id: KeyId(8),
        hint: "...new1".into(),
        expires_at: at(2_000_000),
        old_valid_until: at(900),
        until_first_use: false,
        repeatable: None,
    };
    store.rotate_pat(&rotation, &AUDIT).await.expect("rotated");
    store.revoke_pat(pats[1].pat_id, at(2), &AUDIT).await.expect("revoked");
    store.set_user_disabled(eve.user_id, Some(at(3)), at(3), &AUDIT).await.expect("disabled");
    let usage = Usage {
        pat_id: pats[0].pat_id,
        last_used_at: at(4),
        address: Some([192, 0, 2, 1].into()),
        user_agent: Some("agent/1".into()),
        count: 1,
        networks: Vec::new(),
    };
    store.record_usage(&[usage]).await.expect("noted");
    let (upstream, tool) = ("docs".to_owned(), "search".to_owned());
    let sums = std::time::Duration::from_millis(3);
    let day = DayCalls {
        day: date(2026, 4, 7),
        upstream: upstream.clone(),
        tool: tool.clone(),
        outcome: "ok".into(),
        calls: 1,
        duration: sums,
        bytes_in: 1,
        bytes_out: 2,
    };
    let call =
        Call { at: at(5), upstream, tool, outcome: "ok".into(), duration: sums, bytes_in: 1, bytes_out: 2 };
    let calls = TokenCalls { pat_id: pats[0].pat_id, days: vec![day], latest: vec![call] };
    store.record_calls(&[calls]).await.expect("noted");
    let webhook = WebhookRecord {
        webhook_id: Uuid::now_v7(),
        user_id: Some(ada.user_id),
        url: "https://hooks.example.org/".into(),
        origin: "https://hooks.example.org".into(),
        key_id: KeyId(7),
        created_at: at(6),
    };
    store.insert_webhook(&webhook, 9, &AUDIT).await.expect("added");
    let notice = Notice {
        notice_id: Uuid::now_v7(),
        user_id: ada.user_id,
        pat_id: None,
        kind: NoticeKind::Leaked,
        created_at: at(7),
        facts: NoticeFacts::default(),
    };
    let notice = NewNotice { notice, once: "once".into(), only: None };
    store.add_notices(&[notice], true).await.expect("kept");
    let asked = AskedPolicy { max_days: Some(90), ..AskedPolicy::default() };
    let policy = asked.read().expect("a policy");
    store.set_policy(&policy, 0, at(8), &AUDIT).await.expect("decided");
    let head = store.audit_ends().await.expect("asks").head;
    let seal = AuditSeal { seq: head.seq, at: at(9), mac: [5; 32] };
    store.seal_audit(&seal).await.expect("sealed");
}

/// The lines of a complete archive.
static LINES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let text = Runtime::new().expect("runs").block_on(async {
        let (_dir, store) = sqlite();
        fill(&store).await;
        let mut file = Vec::new();
        store.export().await.expect("exports").write(&mut file).expect("writes");
        String::from_utf8(file).expect("text")
    });
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
});

/// Collects the paths of all scalar values in a line.
fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| leaves(value, format!("{path}/{name}"), found));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| leaves(value, format!("{path}/{at}"), found));
        }
        _ => found.push(path),
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Reads everything that an import has written.
async fn read_all(store: &SqliteStore) {
    for user in store.list_users().await.expect("accounts") {
        store.active_pats(user.user_id, at(0)).await.expect("tokens");
        store.webhooks(Some(user.user_id)).await.expect("webhooks");
        store.notices(Some(user.user_id), None, 100).await.expect("notices");
    }
    store.webhooks(None).await.expect("webhooks");
    store.notices(None, None, 100).await.expect("notices");
    for line in LINES.iter().filter_map(|line| line.get("pat")) {
        let id: Uuid = line["pat_id"].as_str().expect("text").parse().expect("an id");
        store.pat_by_id(id).await.expect("a token");
        store.activity(id, date(2020, 1, 1)).await.expect("its calls");
    }
    for n in 0..6 {
        store.pat_by_digest(&TokenDigest::from_bytes([n; 32])).await.expect("a token by its digest");
    }
    let head = store.log_head().await.expect("the log's head");
    let log = store.log_after(0).await.expect("the log");
    assert_eq!(log.last().map_or(0, |entry| entry.seq), head);
    store.policy().await.expect("the policy");
    store.audit_ends().await.expect("the audit log's ends");
    store.audit_after(0, 1000).await.expect("the audit log");
    store.audit_seals(0, 1000).await.expect("its seals");
    // The imported store accepts new data.
    let user = UserRecord {
        user_id: Uuid::now_v7(),
        email: "new@example.org".into(),
        password_hash: "hash".into(),
        // The archive may have no administrator, and the last one cannot be disabled.
        is_admin: false,
        created_at: at(10),
        disabled_at: None,
        upstreams: None,
    };
    store.insert_user(&user, &AUDIT).await.expect("added");
    store.set_user_disabled(user.user_id, Some(at(11)), at(11), &AUDIT).await.expect("disabled");
    store.export().await.expect("exports");
}

fn junk() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(i64::MIN),
        Just(-1),
        Just(0),
        Just(1 << 32),
        Just(i64::MAX),
        Just(i64::MAX - 1),
        any::<i64>()
    ];
    let word = prop_oneof![
        Just("AAAA".to_owned()),
        Just(String::new()),
        Just("retired".to_owned()),
        Just("revoked".to_owned()),
        Just("9999-99-99".to_owned()),
        Just("2026-4-7".to_owned()),
        "[ -~]{0,12}"
    ];
    prop_oneof![
        number.prop_map(|number| json!(number)),
        word.prop_map(|word| json!(word)),
        Just(Value::Null),
        any::<bool>().prop_map(|is| json!(is)),
    ]
}

#[test]
fn what_was_exported_is_imported_and_read() {
    Runtime::new().expect("runs").block_on(async {
        let (_dir, store) = sqlite();
        store.import(Archive::read(text(&LINES).as_bytes()).expect("reads")).await.expect("imports");
        read_all(&store).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_archive_is_refused_or_can_be_read(line in any::<prop::sample::Index>(), leaf in any::<prop::sample::Index>(), junk in junk()) {
        let mut lines = LINES.clone();
        let at = line.index(lines.len());
        let mut paths = Vec::new();
        leaves(&lines[at], String::new(), &mut paths);
        let path = leaf.get(&paths).clone();
        *lines[at].pointer_mut(&path).expect("there") = junk;
        let Ok(archive) = Archive::read(text(&lines).as_bytes()) else { return Ok(()) };
        Runtime::new().expect("runs").block_on(async {
            let (_dir, store) = sqlite();
            if store.import(archive).await.is_ok() {
                read_all(&store).await;
            }
        });
    }
}

/// The error names the line and the value's name, but does not repeat the value.
#[test]
fn values_that_no_store_reads_back_are_refused_with_their_line() {
    for (kind, name, value) in [
        ("pat", "scopes", json!("AAAA")),
        ("pat", "key_id", json!(4_294_967_296_u64)),
        ("pat", "digest", json!("AAAA")),
        ("pat", "created_at", json!(i64::MAX)),
        ("pat", "last_used_address", json!("AAAA")),
        ("pat", "allowed_networks", json!("AAAA")),
        ("pat", "revoked_seq", json!(-1)),
        ("log", "seq", json!(-1)),
        ("log", "kind", json!("AAAA")),
        ("log_secret", "valid_until", Value::Null),
        ("retired_secret", "key_id", json!(-1)),
        ("call_day", "day", json!("AAAA")),
        ("call", "duration", json!(-1)),
        ("webhook", "key_id", json!(-1)),
        ("notice", "kind", json!("AAAA")),
        ("notice", "facts", json!("AAAA")),
        ("delivery", "attempts", json!(-1)),
        ("policy", "entry", json!("AAAA")),
        ("audit", "entry", json!("AAAA")),
        ("audit_seal", "mac", json!("AAAA")),
    ] {
        let mut lines = LINES.clone();
        let at = lines.iter().position(|line| line.get(kind).is_some()).expect(kind);
        lines[at][kind][name] = value;
        match Archive::read(text(&lines).as_bytes()).err() {
            Some(error @ BadArchive::Value { line, .. }) => {
                assert_eq!(line, at + 1, "{kind} {name}");
                let said = error.to_string();
                assert!(said.contains(name) || name == "revoked_seq", "{said}");
                assert!(!said.contains("AAAA"), "{said}");
            }
            other => panic!("{kind} {name}: {other:?}"),
        }
    }
}

/// An error that only the database detects leaves no data behind.
#[tokio::test]
async fn an_import_that_fails_leaves_either_store_empty() {
    let postgres = Fresh::open().await;
    let mut lines = LINES.clone();
    let at = lines.iter().position(|line| line.get("pat").is_some()).expect("a token");
    lines[at]["pat"]["user_id"] = json!(Uuid::nil());
    let (_dir, store) = sqlite();
    for store in [&store as &dyn Archived, &*postgres] {
        let archive = Archive::read(text(&lines).as_bytes()).expect("reads");
        assert!(store.import(archive).await.is_err());
        let whole = Archive::read(text(&LINES).as_bytes()).expect("reads");
        store.import(whole).await.expect("it is as empty as before");
    }
}
