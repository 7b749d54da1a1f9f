//! Stories of nodes that share a PostgreSQL, as their operator has them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../../store/tests/support/cluster.rs"]
mod cluster;
#[path = "database/dice.rs"]
mod dice;
#[path = "database/faults.rs"]
mod faults;
#[path = "database/history.rs"]
mod history;
#[path = "database/judge.rs"]
mod judge;
#[path = "database/load.rs"]
mod load;
#[path = "database/losses.rs"]
mod losses;
#[path = "database/mcp.rs"]
mod mcp;
#[path = "database/namesakes.rs"]
mod namesakes;
#[path = "database/network.rs"]
mod network;
#[path = "database/nodes.rs"]
mod nodes;
#[path = "database/refused.rs"]
mod refused;
#[path = "database/rights.rs"]
mod rights;
#[path = "database/secrets.rs"]
mod secrets;
#[path = "database/stopped.rs"]
mod stopped;
#[path = "database/streams.rs"]
mod streams;
mod support;
#[path = "database/without_lease.rs"]
mod without_lease;

use cluster::Cluster;
use rustix::process::Signal;
use support::{EMAIL, Made, PASSWORD, Place, Run, Server};

/// A database, a place to run in, and the secret that the nodes share.
struct Shared {
    place: Place,
    url: String,
    secret: String,
}

impl Shared {
    fn new() -> Self {
        let place = Place::new();
        let secret = place.bare(&["secret", "generate"]).done().good().trim().to_owned();
        Self { place, url: Cluster::shared().url(&Cluster::shared().database()), secret }
    }

    fn with_account() -> Self {
        let shared = Self::new();
        shared.run(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
        shared
    }

    fn run(&self, args: &[&str]) -> Run {
        self.place
            .bare(args)
            .env("TRUSTRELAY_DATABASE_URL", &self.url)
            .env("TRUSTRELAY_SECRET_KEY", &self.secret)
    }

    fn serve(&self, args: &[&str]) -> Server {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--log", "info"], args].concat();
        Server::start(self.run(&args))
    }

    fn token(&self, scope: &str) -> Made {
        made(|args| self.run(args), scope)
    }
}

fn made(run: impl Fn(&[&str]) -> Run, scope: &str) -> Made {
    made_for(run, EMAIL, scope)
}

fn made_for(run: impl Fn(&[&str]) -> Run, email: &str, scope: &str) -> Made {
    let token = run(&["token", "create", "--user", email, "--name", "n", "--scope", scope]).done().good();
    let list = run(&["token", "list", "--user", email, "--json"]).done().good();
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    Made {
        id: list[0]["pat_id"].as_str().expect("the newest first").to_owned(),
        token: token.trim_end().to_owned(),
    }
}

#[tokio::test]
async fn what_is_revoked_on_one_node_is_refused_by_the_other_before_the_answer() {
    let shared = Shared::with_account();
    let (a, b) = (shared.serve(&[]), shared.serve(&[]));
    let (keeper, by_rest, by_command) =
        (shared.token("tokens api"), shared.token("api"), shared.token("api"));
    for made in [&keeper, &by_rest, &by_command] {
        for node in [&a, &b] {
            assert_eq!(node.api(&made.token).whoami().await.0, 200);
        }
    }
    a.api(&keeper.token).revoke(&by_rest.id).await.expect("revoked");
    assert_eq!(b.api(&by_rest.token).whoami().await.0, 401);
    shared.run(&["token", "revoke", &by_command.id]).done().good();
    assert_eq!(
        (a.api(&by_command.token).whoami().await.0, b.api(&by_command.token).whoami().await.0),
        (401, 401)
    );
    let nodes = shared.run(&["nodes"]).done().good();
    assert_eq!(nodes.matches("applied 2").count(), 2, "{nodes}");
    shared.run(&["user", "disable", EMAIL]).done().good();
    assert_eq!((a.api(&keeper.token).whoami().await.0, b.api(&keeper.token).whoami().await.0), (401, 401));
    a.signal(Signal::TERM);
    let (code, _, err) = a.end();
    assert_eq!(code, Some(0), "{err:?}");
    assert!(!shared.place.path("trustrelay-data").exists(), "nothing is kept beside the database");
}

#[test]
fn the_url_comes_from_the_file_too_and_its_password_is_shown_nowhere() {
    let shared = Shared::new();
    let key = shared.place.write("key", &shared.secret);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let database = shared.url.rsplit_once('/').expect("a path").1.to_owned();
    let url = Cluster::shared().network_url(&database);
    shared
        .place
        .write("trustrelay.toml", &format!("database-url = \"{url}\"\nsecret-key-file = \"{key}\"\n"));
    shared.place.bare(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
    let args = ["serve", "--listen", "127.0.0.1:0", "--log", "debug"];
    let server = Server::start(shared.place.bare(&args));
    server.signal(Signal::TERM);
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0), "{err:?}");
    let said = format!("{out:?}{err:?}");
    assert!(said.contains(&format!("/{database}")) && !said.contains(cluster::PASSWORD), "{said}");
    let help = shared.place.bare(&["serve", "--help"]).env("TRUSTRELAY_DATABASE_URL", &url).done().good();
    assert!(help.contains("--database-url") && !help.contains(cluster::PASSWORD), "{help}");
}

#[test]
fn what_cannot_be_served_is_said_in_one_line_without_a_password() {
    let shared = Shared::new();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let says = |run: Run, names: &[&str]| {
        let line = run.done().refused();
        for name in names {
            assert!(line.contains(name), "`{line}` does not name `{name}`");
        }
        assert!(!line.contains("s3cret"), "{line}");
    };
    let url = |url: &str| {
        shared
            .place
            .bare(&serve)
            .env("TRUSTRELAY_DATABASE_URL", url)
            .env("TRUSTRELAY_SECRET_KEY", &shared.secret)
    };
    says(
        shared.place.bare(&serve).env("TRUSTRELAY_DATABASE_URL", &shared.url),
        &["--secret-key-file", "TRUSTRELAY_SECRET_KEY", "secret generate"],
    );
    says(
        shared.run(&[&serve[..], &["--data-dir", "here"]].concat()),
        &["here", "--database-url", "not both"],
    );
    says(url("mysql://ada:s3cret@h/d"), &["--database-url", "postgres://"]);
    says(url("postgres://ada:s3cret@127.0.0.1:1/relay"), &["127.0.0.1:1/relay", "cannot be reached"]);
    says(url(&Cluster::shared().network_url("relay").replace(cluster::PASSWORD, "s3cret")), &["password"]);
    says(url(&Cluster::shared().url("nowhere")), &["does not exist", "/nowhere"]);
    says(shared.run(&["token", "list", "--user", EMAIL]), &["there is no TrustRelay data", "/db"]);

    shared.run(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
    let other = shared.place.bare(&["secret", "generate"]).done().good();
    says(
        shared
            .place
            .bare(&serve)
            .env("TRUSTRELAY_DATABASE_URL", &shared.url)
            .env("TRUSTRELAY_SECRET_KEY", other.trim()),
        &["server secret", "use the key file"],
    );
    assert!(!shared.place.path("here").exists(), "nothing half done");
}

/// The driver says at `trace` which parameters a statement has: among them are password hashes and
/// digests.
#[tokio::test]
async fn a_log_at_trace_holds_no_statement_and_no_hash() {
    let shared = Shared::new();
    let server = Server::start(shared.run(&["serve", "--listen", "127.0.0.1:0", "--dev", "--log", "trace"]));
    let said = server.out().join("\n");
    let token = said.split_whitespace().find_map(|word| word.find("tr_pat_").map(|at| &word[at..at + 45]));
    assert_eq!(server.api(token.expect("a token to try")).whoami().await.0, 200);
    server.signal(Signal::TERM);
    let (code, _, err) = server.end();
    assert_eq!(code, Some(0), "{err:?}");
    let log = err.join("\n");
    assert!(log.contains("\"level\":\"INFO\""), "something is logged: {log}");
    for secret in ["$argon2", "INSERT INTO", "SELECT ", "tr_pat_", "Bearer"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
