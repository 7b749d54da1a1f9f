//! The authority with SQLite, end to end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use trustrelay_authority::*;
use trustrelay_store::{SqliteOptions, SqliteStore};
use trustrelay_token::{Denied, Verifier};
use zeroize::Zeroizing;

async fn open(dir: &std::path::Path, secret: &ServerSecret) -> Arc<Authority> {
    let store = SqliteStore::open(dir, SqliteOptions::default()).expect("opens");
    let config =
        AuthorityConfig { password_memory_kib: 8, lease: Duration::from_millis(400), ..Default::default() };
    Authority::open(Arc::new(store), std::slice::from_ref(secret), Arc::new(SystemClock), config)
        .await
        .expect("opens")
}

#[tokio::test]
async fn a_command_in_another_process_is_honoured_and_all_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = ServerSecret::generate().expect("random");
    let server = open(dir.path(), &secret).await;
    server.start().await.expect("starts");
    let password = Zeroizing::new("correct horse battery".to_owned());
    server.add_account(NewAccount { email: "a@b".into(), password, is_admin: false }).await.expect("added");
    let new = || NewPat {
        name: "n".into(),
        scope: "mcp tokens".into(),
        expiry: Expiry::Default,
        ..NewPat::default()
    };
    let parent = server.issue_for("a@b", new()).await.expect("issued");
    let by = By::new(server.verify(parent.token.clone()).wait().await.expect("good"), None);
    let child = server.issue(&by, new()).await.expect("issued");
    server.verify(child.token.clone()).wait().await.expect("good");

    let command = open(dir.path(), &secret).await;
    command.revoke_any(parent.record.pat_id).await.expect("revoked");
    for token in [&parent.token, &child.token] {
        assert!(matches!(server.verify(token.clone()).wait().await, Err(Denied::Revoked(_))));
    }
    let other = server.issue_for("a@b", new()).await.expect("issued");
    server.verify(other.token.clone()).wait().await.expect("good");
    command.set_disabled("a@b", true).await.expect("disabled");
    assert_eq!(server.verify(other.token.clone()).wait().await.expect_err("disabled"), Denied::OwnerDisabled);
    command.set_disabled("a@b", false).await.expect("enabled");
    server.stop().await;
    drop(server);

    let again = open(dir.path(), &secret).await;
    again.start().await.expect("starts");
    again.verify(other.token.clone()).wait().await.expect("good");
    assert!(matches!(again.verify(parent.token.clone()).wait().await, Err(Denied::Revoked(_))));
    assert_eq!(again.list_for("a@b").await.expect("lists").len(), 1);
}
