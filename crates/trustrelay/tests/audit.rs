//! Stories of `trustrelay audit`, of the setting that goes with it, and of what a running server
//! writes down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../../store/tests/support/cluster.rs"]
mod cluster;
mod support;

use cluster::Cluster;
use rustix::process::Signal;
use serde_json::Value;
use support::{EMAIL, PASSWORD, Place, Server};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn actions(text: &str) -> Vec<String> {
    lines(text).iter().map(|line| line["entry"]["action"].as_str().expect("text").to_owned()).collect()
}

/// Tells a server to stop, and waits until it has.
fn stop(server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
}

/// What somebody does who can write the file.
fn tamper(place: &Place, sql: &str) {
    let connection = rusqlite::Connection::open(place.data().join("trustrelay.db")).expect("opens");
    connection.execute_batch(sql).expect("done");
}

#[tokio::test]
async fn a_server_seals_what_it_writes_and_the_command_finds_it_whole() {
    let place = Place::with_account();
    let token = place.token("api");
    let server = place.serve(&[]);
    let client = reqwest::Client::new();
    let login = serde_json::json!({ "email": EMAIL, "password": "not the password" });
    let answer = client.post(format!("{}/api/auth/login", server.base)).json(&login).send().await;
    assert_eq!(answer.expect("answers").status(), 401);
    assert_eq!(server.api(&token.token).get("/api/admin/audit").await.status(), 403);
    stop(server);

    let told = place.run(&["audit", "verify"]).done().good();
    assert!(told.starts_with("4 entries from ") && told.contains("the audit log is intact"), "{told}");
    let json: Value =
        serde_json::from_str(&place.run(&["audit", "verify", "--json"]).done().good()).expect("JSON");
    assert_eq!((&json["entries"], &json["sealed_seq"], &json["wrong"]), (&4.into(), &4.into(), &Value::Null));

    let all = place.run(&["audit", "export"]).done().good();
    let mut told = actions(&all);
    told.sort_unstable();
    assert_eq!(told, ["account.added", "refused.admin", "refused.login", "token.created"]);
    assert!(!all.contains("not the password"), "{all}");
    for (args, count) in [
        (&["--user", EMAIL] as &[&str], 4),
        (&["--actor", EMAIL], 1),
        (&["--action", "refused"], 2),
        (&["--action", "refused.login"], 1),
        (&["--token", &token.id], 2),
        (&["--to", "2000-01-01"], 0),
        (&["--from", "2000-01-01"], 4),
    ] {
        let some = place.run(&[&["audit", "export"], args].concat()).done().good();
        assert_eq!(lines(&some).len(), count, "{args:?}: {some}");
    }
}

#[test]
fn what_was_done_to_the_file_is_said_and_the_exit_code_tells() {
    for (sql, says) in [
        (
            "UPDATE audit SET entry = CAST(replace(CAST(entry AS TEXT), 'operator', 'system') AS BLOB) WHERE seq = 2",
            "entry 2 was changed",
        ),
        ("DELETE FROM audit WHERE seq = 2", "entry 2 is missing"),
        ("UPDATE audit SET user_id = NULL WHERE seq = 3", "`user_id`"),
        ("DELETE FROM audit WHERE seq = 3", "the end is missing"),
    ] {
        let place = Place::with_account();
        place.token("api");
        place.token("api");
        place.run(&["audit", "verify"]).done().good();
        tamper(&place, sql);
        let done = place.run(&["audit", "verify"]).done();
        assert_eq!(done.code, Some(1), "{sql}");
        assert!(done.out.contains("INVALID: ") && done.out.contains(says), "{sql}: {}", done.out);
        let json = place.run(&["audit", "verify", "--json"]).done();
        let json: Value = serde_json::from_str(&json.out).expect("JSON");
        assert!(json["wrong"].as_str().expect("text").contains(says), "{json}");
    }
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let place = Place::with_account();
    for (args, code, says) in [
        (&["--user", "nobody@example.org"] as &[&str], 1, "nobody@example.org"),
        (&["--from", "soon"], 2, "`soon`"),
        (&["--token", "mine"], 2, "mine"),
    ] {
        let done = place.run(&[&["audit", "export"], args].concat()).done();
        assert_eq!(done.code, Some(code), "{args:?}");
        assert!(done.err.contains(says), "{args:?}: {}", done.err);
    }
    let elsewhere = Place::new();
    assert_eq!(elsewhere.run(&["audit", "verify"]).done().code, Some(1), "there is no data");
    let short = place.run(&["serve", "--audit-retention", "23h"]).done();
    assert!(short.err.contains("--audit-retention") && short.err.contains("at least 1d"), "{}", short.err);
}

#[tokio::test]
async fn the_log_moves_with_its_chain_and_its_seals_to_the_other_store_and_back() {
    let place = Place::new();
    let secret = place.bare(&["secret", "generate"]).done().good().trim().to_owned();
    let url = Cluster::shared().url(&Cluster::shared().database());
    let on = |name: &str, value: &str, args: &[&str]| {
        place.bare(args).env("TRUSTRELAY_SECRET_KEY", &secret).env(name, value)
    };
    let first = |args: &[&str]| on("TRUSTRELAY_DATA_DIR", "first", args);
    let second = |args: &[&str]| on("TRUSTRELAY_DATABASE_URL", &url, args);
    let third = |args: &[&str]| on("TRUSTRELAY_DATA_DIR", "third", args);
    first(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
    let server = Server::start(first(&["serve", "--listen", "127.0.0.1:0"]));
    stop(server);
    first(&["user", "disable", EMAIL]).done().good();

    first(&["export", "one.jsonl"]).done().good();
    second(&["import", "one.jsonl"]).done().good();
    second(&["user", "enable", EMAIL]).done().good();
    second(&["export", "two.jsonl"]).done().good();
    third(&["import", "two.jsonl"]).done().good();
    let verified = third(&["audit", "verify", "--json"]).done().good();
    let json: Value = serde_json::from_str(&verified).expect("JSON");
    assert_eq!((&json["entries"], &json["seals"], &json["wrong"]), (&3.into(), &1.into(), &Value::Null));
    let told = third(&["audit", "export"]).done().good();
    assert_eq!(actions(&told), ["account.added", "account.disabled", "account.enabled"]);
    assert_eq!(told, second(&["audit", "export"]).done().good());
    third(&["user", "disable", EMAIL]).done().good();
    third(&["audit", "verify"]).done().good();
}
