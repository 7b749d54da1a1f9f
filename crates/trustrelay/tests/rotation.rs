//! Stories of `token rotate` and `token delegate`: by the operator at the machine, and by the token
//! itself at its server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use support::{EMAIL, Place};

/// A proxy that writes down what it is sent, and carries nothing.
struct Recorder {
    url: String,
    seen: Arc<Mutex<String>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(String::new()));
        let writes = Arc::clone(&seen);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&connection).lines().map_while(Result::ok);
                for line in lines.by_ref().take_while(|line| !line.is_empty()) {
                    writes.lock().expect("no panic").push_str(&format!("{line}\n"));
                }
                let _ = (&connection).write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }
}

/// A proxy reads a plain request whole, with the token in it; of https it sees a tunnel alone.
#[tokio::test]
async fn no_proxy_is_given_a_token_in_clear() {
    let (place, proxy) = (Place::with_account(), Recorder::start());
    let server = place.serve(&[]);
    let made = place.token("api:read tokens rotate");
    let check = ["token", "check", "--server", &server.base];
    let rotate = ["token", "rotate", "--server", &server.base];
    let delegate = ["token", "delegate", "--server", &server.base, "--name", "job", "--scope", "api:read"];
    let delegate = [&delegate[..], &["--expires-in", "1h"]].concat();
    for command in [&check[..], &delegate, &rotate] {
        let run = place.bare(command).env("http_proxy", &proxy.url).env("all_proxy", &proxy.url);
        run.stdin(&made.token).done().good();
        assert_eq!(proxy.seen(), "", "{command:?}");
    }
    let elsewhere = ["token", "check", "--server", "https://relay.invalid"];
    let run = place.bare(&elsewhere).env("https_proxy", &proxy.url).stdin(&made.token);
    run.done().refused();
    let seen = proxy.seen();
    assert!(seen.starts_with("CONNECT relay.invalid:443 "), "{seen}");
    assert!(!seen.contains(&made.token[7..]) && !seen.to_lowercase().contains("authorization"), "{seen}");
}

#[tokio::test]
async fn the_operator_rotates_a_token_and_a_running_server_honours_it() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    let made = place.token("api");
    assert_eq!(server.api(&made.token).whoami().await.0, 200);
    let rotated = place.run(&["token", "rotate", &made.id, "--overlap", "0s"]).done().good();
    let new = rotated.trim_end();
    assert_eq!(rotated.len(), 46, "45 characters and the end of the line");
    let (status, body) = server.api(&made.token).whoami().await;
    assert_eq!(status, 401);
    assert!(body["error"]["message"].as_str().expect("says why").contains("rotated"), "{body}");
    let (status, body) = server.api(new).whoami().await;
    assert_eq!((status, &body["value"]["credential"]["pat_id"]), (200, &made.id.clone().into()));
}

#[tokio::test]
async fn a_token_rotates_itself_for_cron_and_ci() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    let made = place.token("api rotate");
    let rotate = ["token", "rotate", "--server", &server.base];
    let new = place.bare(&rotate).stdin(&made.token).done().good();
    for token in [made.token.as_str(), new.trim_end()] {
        assert_eq!(server.api(token).whoami().await.0, 200, "both are good during the overlap");
    }
    let at_once = [&rotate[..], &["--overlap", "0s"]].concat();
    let says = place.bare(&at_once).stdin(&new).done().refused();
    assert!(says.contains("at least 60"), "{says}");
    let until = [&rotate[..], &["--until-first-use"]].concat();
    let newer = place.bare(&until).env("TRUSTRELAY_TOKEN", new.trim_end()).done().good();
    assert_eq!(server.api(newer.trim_end()).whoami().await.0, 200);
    assert_eq!(server.api(new.trim_end()).whoami().await.0, 401);

    let without = place.token("api");
    let says = place.bare(&rotate).stdin(&without.token).done().refused();
    assert!(
        says.contains("403") && says.contains("`rotate`") && !says.contains(&without.token[7..]),
        "{says}"
    );
}

#[tokio::test]
async fn a_token_is_delegated_narrower_and_ends_with_its_parent() {
    let place = Place::with_account();
    let server = place.serve(&[]);
    let parent = place.token("api tokens");
    let delegate = ["token", "delegate", "--server", &server.base, "--name", "nightly-job", "--scope"];
    let child = [&delegate[..], &["api:read", "--expires-in", "1h"]].concat();
    let child = place.bare(&child).stdin(&parent.token).done().good();
    assert_eq!(server.api(child.trim_end()).whoami().await.0, 200);
    let wider = [&delegate[..], &["mcp"]].concat();
    let says = place.bare(&wider).stdin(&parent.token).done().refused();
    assert!(says.contains("403") && says.contains("`mcp`"), "{says}");
    place.run(&["token", "revoke", &parent.id]).done().good();
    assert_eq!(server.api(child.trim_end()).whoami().await.0, 401);
}

#[test]
fn what_cannot_be_rotated_is_said_with_what_to_do() {
    let place = Place::with_account();
    let made = place.token("mcp");
    let says = place.run(&["token", "rotate"]).done().refused();
    assert!(says.contains("PAT_ID") && says.contains("--server"), "{says}");
    let says = place.run(&["token", "rotate", &made.token]).done().refused();
    assert!(says.contains("not the id of a token") && !says.contains(&made.token[7..]), "{says}");
    let says = place.run(&["token", "rotate", &made.id, "--overlap", "8d"]).done().refused();
    assert!(says.contains("7 days"), "{says}");
    place.run(&["token", "revoke", &made.id]).done().good();
    let says = place.run(&["token", "rotate", &made.id]).done().refused();
    assert!(says.contains("revoked") && says.contains("create a new token"), "{says}");
    assert_eq!(place.run(&["token", "list", "--user", EMAIL]).done().good(), "");
}
