//! Stories of data that moves: out of SQLite, into PostgreSQL, and back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../../store/tests/support/cluster.rs"]
mod cluster;
mod support;

use std::os::unix::fs::PermissionsExt;

use cluster::Cluster;
use support::{EMAIL, Made, PASSWORD, Place, Run, Server};

/// A place with a secret, which may hold several sets of data.
struct Moving {
    place: Place,
    secret: String,
}

impl Moving {
    fn new() -> Self {
        let place = Place::new();
        let secret = place.bare(&["secret", "generate"]).done().good().trim().to_owned();
        Self { place, secret }
    }

    fn on(&self, data: &Data, args: &[&str]) -> Run {
        let run = self.place.bare(args).env("TRUSTRELAY_SECRET_KEY", &self.secret);
        match data {
            Data::Directory(name) => run.env("TRUSTRELAY_DATA_DIR", name),
            Data::Database(url) => run.env("TRUSTRELAY_DATABASE_URL", url),
        }
    }

    fn token(&self, data: &Data, name: &str, scope: &str) -> Made {
        let create = ["token", "create", "--user", EMAIL, "--name", name, "--scope", scope];
        let limits = ["--allow-network", "127.0.0.0/8", "--rate", "6000", "--unused-days", "300"];
        let token = self.on(data, &[&create[..], &limits].concat()).done().good();
        let list = self.on(data, &["token", "list", "--user", EMAIL, "--json"]).done().good();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let id = list.as_array().expect("a list").iter().find(|pat| pat["pat_name"] == name).expect("there")
            ["pat_id"]
            .as_str()
            .expect("text")
            .to_owned();
        Made { id, token: token.trim_end().to_owned() }
    }

    fn serve(&self, data: &Data) -> Server {
        Server::start(self.on(data, &["serve", "--listen", "127.0.0.1:0"]))
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.place.path(file)).expect("there")
    }
}

enum Data {
    Directory(&'static str),
    Database(String),
}

fn database() -> Data {
    Data::Database(Cluster::shared().url(&Cluster::shared().database()))
}

#[tokio::test]
async fn all_data_moves_from_one_store_to_the_other_and_back_with_its_tokens_valid() {
    let moving = Moving::new();
    let (first, second, third) = (Data::Directory("first"), database(), Data::Directory("third"));
    moving.on(&first, &["user", "add", EMAIL, "--password-stdin", "--admin"]).stdin(PASSWORD).done().good();
    moving.on(&first, &["user", "add", "eve@example.org", "--password-stdin"]).stdin(PASSWORD).done().good();
    let (good, gone) = (moving.token(&first, "good", "api tokens"), moving.token(&first, "gone", "api"));
    let server = moving.serve(&first);
    let child = server.api(&good.token).create("api").await.expect("made with a token");
    assert_eq!(server.api(&child.token).whoami().await.0, 200);
    drop(server);
    moving.on(&first, &["token", "revoke", &gone.id]).done().good();
    let rotated = moving.on(&first, &["token", "rotate", &good.id]).done().good();
    moving.on(&first, &["user", "disable", "eve@example.org"]).done().good();

    moving.on(&first, &["export", "one.jsonl"]).done().good();
    let mode = std::fs::metadata(moving.place.path("one.jsonl")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = moving.on(&second, &["import", "one.jsonl"]).done().good();
    assert!(said.contains("2 accounts, 3 tokens, 3 log entries and 8 audit entries"), "{said}");
    moving.on(&second, &["export", "two.jsonl"]).done().good();
    moving.on(&third, &["import", "two.jsonl"]).done().good();
    moving.on(&third, &["export", "three.jsonl"]).done().good();
    assert_eq!(moving.read("one.jsonl"), moving.read("two.jsonl"), "nothing was lost on the way");
    assert_eq!(moving.read("one.jsonl"), moving.read("three.jsonl"), "nor back");
    assert!(!moving.read("one.jsonl").contains(&good.token));
    for limit in
        ["\"allowed_networks\":\"127.0.0.0/8\"", "\"requests_per_minute\":6000", "\"unused_days\":300"]
    {
        assert!(moving.read("three.jsonl").contains(limit), "{limit}");
    }
    let rotated = Made { id: good.id.clone(), token: rotated.trim_end().to_owned() };

    for data in [&second, &third] {
        let server = moving.serve(data);
        for (made, status) in [(&good, 200), (&rotated, 200), (&child, 200), (&gone, 401)] {
            assert_eq!(server.api(&made.token).whoami().await.0, status);
        }
        // What was revoked before is as revoked as ever, and nobody waits for it; what is revoked
        // now takes its children along.
        moving.on(data, &["token", "revoke", &gone.id]).done().good();
        moving.on(data, &["token", "revoke", &good.id]).done().good();
        assert_eq!(server.api(&good.token).whoami().await.0, 401);
        assert_eq!(server.api(&rotated.token).whoami().await.0, 401);
        assert_eq!(server.api(&child.token).whoami().await.0, 401);
        moving.on(data, &["user", "enable", "eve@example.org"]).done().good();
    }
}

#[test]
fn what_cannot_be_imported_leaves_the_data_as_it_was() {
    let moving = Moving::new();
    let from = Data::Directory("from");
    moving.on(&from, &["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
    moving.token(&from, "n", "mcp");
    moving.on(&from, &["export", "good.jsonl"]).done().good();
    let good = moving.read("good.jsonl");
    let says = moving.on(&from, &["export", "good.jsonl"]).done().refused();
    assert!(says.contains("good.jsonl already exists"), "{says}");
    assert_eq!(moving.read("good.jsonl"), good);
    assert_eq!(std::fs::read_dir(moving.place.path(".")).expect("lists").count(), 2, "no draft is left");

    let lines: Vec<&str> = good.lines().collect();
    let short = lines[..lines.len() - 1].join("\n");
    let missing = [&lines[..1], &lines[2..]].concat().join("\n");
    for (name, text, names) in [
        ("short.jsonl", short.as_str(), "incomplete after line 5"),
        ("missing.jsonl", missing.as_str(), "damaged"),
        ("damaged.jsonl", &good.replace("\"email\"", "\"mail\""), "line 2 is damaged"),
        ("newer.jsonl", &good.replace("\"trustrelay_export\":1", "\"trustrelay_export\":2"), "version 2"),
        ("other.jsonl", "s3cret\n", "not a TrustRelay export"),
        ("empty.jsonl", "", "not a TrustRelay export"),
    ] {
        moving.place.write(name, text);
        let says = moving.on(&Data::Directory("to"), &["import", name]).done().refused();
        assert!(says.contains(name) && says.contains(names) && !says.contains("s3cret"), "{says}");
        assert!(!moving.place.path("to").exists(), "nothing was begun");
    }
    let says = moving.on(&Data::Directory("to"), &["import", "nowhere.jsonl"]).done().refused();
    assert!(says.contains("nowhere.jsonl cannot be read"), "{says}");

    for (at, to) in [Data::Directory("to"), database()].into_iter().enumerate() {
        let other =
            Moving { secret: moving.place.bare(&["secret", "generate"]).done().good(), place: Place::new() };
        std::fs::copy(moving.place.path("good.jsonl"), other.place.path("good.jsonl")).expect("copied");
        let says = other.on(&to, &["import", "good.jsonl"]).done().refused();
        assert!(says.contains("another server secret"), "{says}");
        moving.on(&to, &["import", "good.jsonl"]).done().good();
        let says = moving.on(&to, &["import", "good.jsonl"]).done().refused();
        assert!(says.contains("already contains data"), "{says}");
        let again = format!("again{at}.jsonl");
        moving.on(&to, &["export", &again]).done().good();
        assert_eq!(moving.read(&again), good);
    }
    // Without the secret there is nothing to begin with: a new one would open no token.
    let run = moving.place.bare(&["import", "good.jsonl", "--data-dir", "keyless"]);
    let says = run.done().refused();
    assert!(says.contains("key file"), "{says}");
}
