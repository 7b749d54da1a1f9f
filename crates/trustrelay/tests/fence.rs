//! Stories of the fence between processes: a revocation is answered when no server accepts the
//! token any more, whatever state the servers are in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_server_that_sleeps_delays_a_revocation_by_a_lease_and_wakes_up_to_it() {
    let place = Place::with_account();
    let (made, other) = (place.token("api"), place.token("api"));
    let server = place.serve(&["--lease", "1s"]);
    assert_eq!(server.api(&made.token).whoami().await.0, 200);
    assert_eq!(server.api(&other.token).whoami().await.0, 200);
    let address = server.base.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    server.signal(Signal::STOP);
    let begun = Instant::now();
    place.run(&["token", "revoke", &made.id]).done().good();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100), "it was not waited for: {took:?}");
    // This request starts after the revocation was answered; the server finds it when it wakes up,
    // before all else.
    let request = format!(
        "GET /api/user HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        made.token
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    server.signal(Signal::CONT);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("revoked"), "{answer}");
    assert_eq!(server.api(&other.token).whoami().await.0, 200, "and it goes on");
}

#[tokio::test]
async fn a_server_that_died_delays_a_revocation_by_a_lease_and_one_that_ended_by_nothing() {
    let place = Place::with_account();
    let (one, two) = (place.token("api"), place.token("api"));
    let server = place.serve(&["--lease", "60s"]);
    assert_eq!(server.api(&one.token).whoami().await.0, 200);
    server.signal(Signal::TERM);
    server.end();
    let begun = Instant::now();
    place.run(&["token", "revoke", &one.id]).done().good();
    assert!(begun.elapsed() < Duration::from_secs(30), "it gave its lease of a minute up");

    let server = place.serve(&["--lease", "1s"]);
    assert_eq!(server.api(&two.token).whoami().await.0, 200);
    server.signal(Signal::KILL);
    server.end();
    place.run(&["token", "revoke", &two.id]).done().good();
    let again = place.serve(&[]);
    for made in [one, two] {
        assert_eq!(again.api(&made.token).whoami().await.0, 401);
    }
}

#[tokio::test]
async fn a_long_lease_costs_a_revocation_nothing_while_the_server_lives() {
    let place = Place::with_account();
    let made = place.token("api");
    let server = place.serve(&["--lease", "60s"]);
    assert_eq!(server.api(&made.token).whoami().await.0, 200);
    let begun = Instant::now();
    place.run(&["token", "revoke", &made.id]).done().good();
    assert!(begun.elapsed() < Duration::from_secs(15), "a quarter of the lease would be too long");
    assert_eq!(server.api(&made.token).whoami().await.0, 401);
}

#[tokio::test]
async fn those_who_run_it_see_the_nodes_and_how_far_they_are() {
    let place = Place::with_account();
    let server = place.serve(&["--lease", "30s"]);
    let port = server.base.rsplit(':').next().expect("a port").to_owned();
    let made = place.token("api");
    place.run(&["token", "revoke", &made.id]).done().good();
    let listed = place.run(&["nodes"]).done().good();
    assert!(listed.starts_with("log\t1 entries\n"), "{listed}");
    assert!(listed.contains(&format!(":{port}\tapplied 1\tlease ")), "{listed}");
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["nodes", "--json"]).done().good()).expect("JSON");
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(1), "{json}");
    server.signal(Signal::TERM);
    server.end();
    assert_eq!(place.run(&["nodes"]).done().good(), "log\t1 entries\n");
}

#[tokio::test]
async fn those_who_watch_it_see_by_which_way_tokens_are_verified_and_how_long_a_revocation_takes() {
    let place = Place::with_account();
    let server = place.serve(&["--lease", "30s"]);
    let keeper = server.api(&place.token("api tokens").token);
    let seen = async || {
        let metrics = keeper.get("/metrics").await.text().await.expect("text");
        move |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok())
                .unwrap_or_else(|| panic!("no {name} in {metrics}"))
        }
    };
    let by_path = |path: &str| format!("trustrelay_verifications_by_path_total{{path=\"{path}\"}}");
    for _ in 0..3 {
        assert_eq!(keeper.whoami().await.0, 200);
    }
    let before = seen().await;
    assert_eq!((before(&by_path("store")), before(&by_path("index"))), (1.0, 2.0), "asked once");
    assert_eq!((before("trustrelay_log_applied"), before("trustrelay_revocation_seconds_count")), (0.0, 0.0));
    let made = keeper.create("api").await.expect("made");
    keeper.revoke(&made.id).await.expect("revoked");
    let after = seen().await;
    assert_eq!((after("trustrelay_log_applied"), after("trustrelay_revocation_seconds_count")), (1.0, 1.0));
    assert_eq!(after("trustrelay_revocation_seconds_bucket{le=\"60\"}"), 1.0, "a histogram");
    assert_eq!(after("trustrelay_leases_lost_total"), 0.0);
}
