//! The server's secret: its rotation under a running server, and the file that it is kept in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use support::{PASSWORD, Place, Server};

fn stop(server: Server) {
    server.signal(Signal::TERM);
    let (code, _, err) = server.end();
    assert_eq!(code, Some(0), "{err:?}");
}

/// Key, state and number of tokens of each secret.
fn status(place: &Place) -> Vec<(String, String, u64)> {
    let out = place.run(&["secret", "status", "--json"]).done().good();
    let lines: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let text = |line: &Value, name: &str| line[name].as_str().expect("text").to_owned();
    lines
        .iter()
        .map(|line| (text(line, "key"), text(line, "state"), line["tokens"].as_u64().expect("a number")))
        .collect()
}

async fn good(server: &Server, token: &str) {
    assert_eq!(server.api(token).whoami().await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_rotated_under_a_running_server_costs_no_token() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    let (used, unused) = (place.token("api"), place.token("api"));
    good(&server, &used.token).await;
    let [(old, _, 2)] = &status(&place)[..] else { panic!("one key") };
    let said = place.run(&["secret", "rotate"]).done().good();
    assert!(said.contains("restart") && said.contains("secret.key"), "{said}");
    let mode = std::fs::metadata(place.data().join("secret.key")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The server does not know the new secret yet: what commands make beside it is under the old
    // one.
    let beside = place.token("api");
    for made in [&used, &unused, &beside] {
        good(&server, &made.token).await;
    }
    stop(server);

    let server = place.serve(&[]);
    for made in [&used, &beside] {
        good(&server, &made.token).await;
    }
    stop(server);
    let after = status(&place);
    assert_eq!(after.len(), 2);
    assert_eq!((after[0].1.as_str(), after[0].2), ("active", 2), "re-keyed as they were used");
    assert_eq!((after[1].0.as_str(), after[1].1.as_str(), after[1].2), (old.as_str(), "verifies", 1));

    let said = place.run(&["secret", "retire", old]).done().refused();
    assert!(said.contains("1 tokens") && said.contains("--drop-dependents"), "{said}");
    let said = place.run(&["secret", "retire", &after[0].0]).done().refused();
    assert!(said.contains("active"), "{said}");
    let server = place.serve(&[]);
    good(&server, &unused.token).await;
    stop(server);
    place.run(&["secret", "retire", old]).done().good();
    assert_eq!(status(&place)[1], (old.clone(), "retired".to_owned(), 0));
    let server = place.serve(&[]);
    for made in [&used, &unused, &beside] {
        good(&server, &made.token).await;
    }
    stop(server);
    // Seals of the retired secret's time are still checked.
    place.run(&["audit", "verify"]).done().good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_dropped_with_its_tokens_takes_them_along() {
    let place = Place::with_account();
    let made = place.token("api");
    place.run(&["secret", "rotate"]).done().good();
    stop(place.serve(&[]));
    let old = status(&place)[1].0.clone();
    place.run(&["secret", "retire", &old, "--drop-dependents"]).done().good();
    let server = place.serve(&[]);
    assert_eq!(server.api(&made.token).whoami().await.0, 401);
    stop(server);
}

#[test]
fn a_rotation_without_a_file_to_change_says_what_to_do() {
    let place = Place::with_account();
    let secret = place.bare(&["secret", "generate"]).done().good();
    let by_variable = place.run(&["secret", "rotate"]).env("TRUSTRELAY_SECRET_KEY", secret.trim());
    assert!(by_variable.done().refused().contains("TRUSTRELAY_SECRET_KEY"));
    let database = place.bare(&["secret", "rotate", "--database-url", "postgres://127.0.0.1:1/db"]);
    assert!(database.done().refused().contains("--secret-key-file"));
    let missing = place.run(&["secret", "rotate", "--secret-key-file", "none.key"]).done().refused();
    assert!(missing.contains("none.key"), "{missing}");
    let none = place.run(&["secret", "rotate", "--activate"]).done().refused();
    assert!(none.contains("--prepare"), "{none}");
    assert!(place.run(&["secret", "retire", "00000000"]).done().refused().contains("secret status"));
    for _ in 1..8 {
        place.run(&["secret", "rotate"]).done().good();
    }
    assert!(place.run(&["secret", "rotate"]).done().refused().contains("8 secrets"));
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn nothing_is_written_through_links_in_a_directory_that_others_can_write_in() {
    for planted in ["secret.key", "trustrelay.db", "trustrelay.db-wal", "server.lock"] {
        let place = Place::new();
        let (dir, target) = (place.data(), place.path("victim"));
        std::fs::create_dir(&dir).expect("made");
        mode(&dir, 0o777);
        symlink(&target, dir.join(planted)).expect("planted");
        let run = if planted == "server.lock" {
            place.run(&["serve", "--listen", "127.0.0.1:0"])
        } else {
            place.run(&["user", "add", "ada@example.org", "--password-stdin"]).stdin(PASSWORD)
        };
        let done = run.done();
        assert_eq!(done.code, Some(1), "{planted}: {done:?}");
        assert!(done.err.contains(planted), "{done:?}");
        assert!(!target.exists(), "{planted} was written through");
    }
}

#[test]
fn what_others_could_read_is_theirs_no_longer_and_that_is_said() {
    let place = Place::with_account();
    let dir = place.data();
    for open in [0o755, 0o770, 0o777] {
        mode(&dir, open);
        let done = place.run(&["user", "list"]).done();
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.err.contains(&format!("{open:o}")) && done.err.contains("700"), "{done:?}");
        assert_eq!(std::fs::metadata(&dir).expect("there").permissions().mode() & 0o777, 0o700);
        place.run(&["user", "list"]).done().good();
    }
    let database = dir.join("trustrelay.db");
    mode(&database, 0o644);
    place.run(&["user", "list"]).done().good();
    assert_eq!(std::fs::metadata(&database).expect("there").permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_from_before_a_rotation_is_imported_with_both_secrets() {
    let place = Place::with_account();
    let made = place.token("api");
    place.run(&["export", "before.jsonl"]).done().good();
    place.run(&["secret", "rotate"]).done().good();
    let key = place.data().join("secret.key").display().to_string();
    let moved = ["--data-dir", "moved", "--secret-key-file", &key];
    place.bare(&[&["import", "before.jsonl"][..], &moved].concat()).done().good();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let server = Server::start(place.bare(&[&serve[..], &moved].concat()));
    good(&server, &made.token).await;
    stop(server);
}
