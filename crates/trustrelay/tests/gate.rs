//! Stories of streams on a node that has lost its lease: nothing comes until it can be vouched for,
//! and nothing at all of what was revoked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../../store/tests/support/cluster.rs"]
mod cluster;
#[path = "database/mcp.rs"]
#[allow(dead_code, reason = "other stories need more of it")]
mod mcp;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster::Cluster;
use mcp::Clock;
use support::{EMAIL, Made, PASSWORD, PATIENCE, Place, Run, Server};

/// So long that many events would come.
const A_WHILE: Duration = Duration::from_millis(500);

struct Shared {
    place: Place,
    database: String,
    secret: String,
}

impl Shared {
    fn with_account() -> Self {
        let place = Place::new();
        let secret = place.bare(&["secret", "generate"]).done().good().trim().to_owned();
        let shared = Self { place, database: Cluster::shared().database(), secret };
        shared.run(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
        shared
    }

    fn run(&self, args: &[&str]) -> Run {
        self.place
            .bare(args)
            .env("TRUSTRELAY_DATABASE_URL", &Cluster::shared().url(&self.database))
            .env("TRUSTRELAY_SECRET_KEY", &self.secret)
    }

    fn serve(&self, clock: &Clock) -> Server {
        let upstream = format!("clock={}", clock.url);
        let args = ["serve", "--listen", "127.0.0.1:0", "--log", "info", "--lease", "1s", "--upstream"];
        Server::start(self.run(&[&args[..], &[&upstream]].concat()))
    }

    fn token(&self) -> Made {
        let create = ["token", "create", "--user", EMAIL, "--name", "n", "--scope", "mcp"];
        let token = self.run(&create).done().good();
        let list = self.run(&["token", "list", "--user", EMAIL, "--json"]).done().good();
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let id = list[0]["pat_id"].as_str().expect("the newest first").to_owned();
        Made { id, token: token.trim_end().to_owned() }
    }
}

/// The nodes' rows, locked as a revocation locks them: it gets along with others, and no lease is
/// renewed.
struct Rows(Child);

impl Rows {
    fn locked(database: &str) -> Self {
        let cluster = Cluster::shared();
        let mut psql = cluster
            .program("psql")
            .args(["-qAt", "-d", &cluster.url(database)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let sql = "BEGIN; SELECT 'locked' FROM nodes FOR SHARE;\n";
        psql.stdin.as_mut().expect("piped").write_all(sql.as_bytes()).expect("asks");
        let mut said = String::new();
        BufReader::new(psql.stdout.as_mut().expect("piped")).read_line(&mut said).expect("answers");
        assert_eq!(said, "locked\n");
        Self(psql)
    }

    /// Lets go of them.
    fn release(self) {}
}

impl Drop for Rows {
    fn drop(&mut self) {
        // Its end is the transaction's.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What has come on a stream.
#[derive(Default)]
struct Seen {
    /// When each event was made, and when it came.
    events: Vec<(Instant, Instant)>,
    last: String,
    ended: bool,
}

/// Opens a stream and listens to it.
async fn open(server: &Server, clock: &Arc<Clock>, made: &Made, path: &str, tool: &str) -> Arc<Mutex<Seen>> {
    let api = server.api(&made.token);
    let mut answer = mcp::call(&api, path, tool).send().await.expect("answers");
    assert_eq!(answer.status(), 200);
    let (seen, clock) = (Arc::new(Mutex::new(Seen::default())), Arc::clone(clock));
    let heard = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut text = String::new();
        while let Ok(Some(piece)) = answer.chunk().await {
            text.push_str(&String::from_utf8_lossy(&piece));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let mut seen = heard.lock().expect("whole");
                seen.events.extend(clock.made(event).map(|made| (made, Instant::now())));
                event.clone_into(&mut seen.last);
                text = rest.to_owned();
            }
        }
        heard.lock().expect("whole").ended = true;
    });
    let begun = Arc::clone(&seen);
    until("it has begun", async || begun.lock().expect("whole").events.len() > 2).await;
    seen
}

fn count(seen: &Mutex<Seen>) -> usize {
    seen.lock().expect("whole").events.len()
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let waited = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "waited in vain: {what}");
}

async fn until_lease(server: &Server, held: &str) {
    until(held, async || {
        let metrics = server.api("").get("/metrics").await.text().await.expect("text");
        metrics.lines().any(|line| line == format!("trustrelay_lease_held {held}"))
    })
    .await;
}

#[tokio::test]
async fn without_a_lease_nothing_comes_and_when_it_is_held_again_all_of_it_but_what_was_revoked() {
    let clock = Arc::new(Clock::start().await);
    let shared = Shared::with_account();
    let server = shared.serve(&clock);
    let (kept, gone) = (shared.token(), shared.token());
    let mut streams = Vec::new();
    for (path, tool) in [("/mcp", "clock__tick"), ("/mcp/clock", "tick")] {
        let kept = open(&server, &clock, &kept, path, tool).await;
        let gone = open(&server, &clock, &gone, path, tool).await;
        streams.push((kept, gone));
    }

    let rows = Rows::locked(&shared.database);
    until_lease(&server, "0").await;
    // What had passed the gate by then may still be on its way to this client.
    tokio::time::sleep(A_WHILE).await;
    let before: Vec<_> = streams.iter().map(|(kept, gone)| (count(kept), count(gone))).collect();
    tokio::time::sleep(A_WHILE).await;
    shared.run(&["token", "revoke", &gone.id]).done().good();
    let answered = Instant::now();
    tokio::time::sleep(A_WHILE).await;
    let after: Vec<_> = streams.iter().map(|(kept, gone)| (count(kept), count(gone))).collect();
    assert_eq!(before, after, "something came without a lease");
    assert!(streams.iter().all(|(_, gone)| !gone.lock().expect("whole").ended), "nobody could tell it yet");

    rows.release();
    until_lease(&server, "1").await;
    for (kept, gone) in &streams {
        until("what was revoked ends", async || gone.lock().expect("whole").ended).await;
        let count_before = count(kept);
        until("what stands goes on", async || count(kept) > count_before + 20).await;
        let gone = gone.lock().expect("whole");
        assert!(gone.events.iter().all(|(_, came)| *came < answered), "something came after the answer");
        assert!(gone.last.contains("revoked"), "it is told why: {}", gone.last);
        // The upstream had to wait meanwhile; what it had said until then is all there.
        let kept = kept.lock().expect("whole");
        assert!(kept.events.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, and each once");
        assert!(!kept.ended);
    }
}

/// Its answer is there, and waits; when the lease is held again, who is revoked is refused.
#[tokio::test]
async fn an_answer_that_is_made_without_a_lease_waits_at_its_head() {
    let clock = Arc::new(Clock::start().await);
    let shared = Shared::with_account();
    let server = shared.serve(&clock);
    let (kept, gone) = (shared.token(), shared.token());
    let ask = async |made: &Made| {
        let api = server.api(&made.token);
        let answer = mcp::initialize(&api, "/mcp").send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("whole"))
    };
    for made in [&kept, &gone] {
        assert_eq!(ask(made).await.0, 200);
    }
    let rows = Rows::locked(&shared.database);
    until_lease(&server, "0").await;
    let (asked_of_kept, asked_of_gone) = (ask(&kept), ask(&gone));
    tokio::pin!(asked_of_kept, asked_of_gone);
    let asked = async { tokio::join!(&mut asked_of_kept, &mut asked_of_gone) };
    assert!(tokio::time::timeout(A_WHILE, asked).await.is_err(), "answered without a lease");
    let revoke = shared.run(&["token", "revoke", &gone.id]);
    tokio::task::spawn_blocking(move || revoke.done().good()).await.expect("revoked");
    rows.release();
    let (kept, gone) = tokio::join!(asked_of_kept, asked_of_gone);
    assert!(kept.0 == 200 && kept.1.contains("serverInfo"), "{kept:?}");
    assert!(gone.0 == 401 && gone.1.contains("revoked"), "{gone:?}");
}
