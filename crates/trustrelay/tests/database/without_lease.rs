//! Stories of a node without a lease: where it has the database it asks that, and where it has not
//! it accepts nobody.

use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;
use tokio::task::JoinSet;

use crate::Shared;
use crate::cluster::Cluster;
use crate::mcp::{self, Clock};
use crate::network::{Network, Way};
use crate::nodes::until;
use crate::support::{Api, EMAIL, PASSWORD, PATIENCE, Place, Server};

const TOKENS: &str = "/api/user/personal-access-tokens";
/// The endpoints of MCP: of all servers under two names, and of one.
const ENDPOINTS: [&str; 3] = ["/mcp", "/api/mcp", "/mcp/clock"];

/// A node that reaches the database through a network that can fail.
struct Apart {
    shared: Shared,
    network: Network,
    node: Server,
    _clock: Clock,
}

impl Apart {
    async fn new(lease: &str) -> Self {
        let shared = Shared::with_account();
        let network = Network::to(Cluster::shared().port).await;
        let database = shared.url.rsplit_once('/').expect("a path").1;
        let url = Cluster::shared().network_url(database);
        let url = url.replace(&Cluster::shared().port.to_string(), &network.port.to_string());
        let clock = Clock::start().await;
        let upstream = format!("clock={}", clock.url);
        let args = ["serve", "--listen", "127.0.0.1:0", "--lease", lease, "--upstream", &upstream];
        let run = shared.run(&args).env("TRUSTRELAY_DATABASE_URL", &url);
        Self { node: tokio::task::block_in_place(|| Server::start(run)), shared, network, _clock: clock }
    }

    /// Whether the node verifies from its index.
    async fn holds_lease(&self) -> bool {
        self.metric("trustrelay_lease_held").await == 1
    }

    async fn metric(&self, name: &str) -> u64 {
        let metrics = self.node.api("").get("/metrics").await.text().await.expect("text");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    async fn verified(&self, path: &str) -> u64 {
        self.metric(&format!("trustrelay_verifications_by_path_total{{path=\"{path}\"}}")).await
    }
}

async fn sent(request: RequestBuilder) -> Response {
    request.timeout(PATIENCE).send().await.expect("answers")
}

async fn session(api: &Api, path: &str) -> String {
    let answer = sent(mcp::initialize(api, path)).await;
    assert_eq!(answer.status(), 200);
    answer.headers()["mcp-session-id"].to_str().expect("text").to_owned()
}

/// Every kind of request that an endpoint of MCP takes.
fn all_of_mcp(api: &Api, path: &str, session: &str) -> Vec<(&'static str, RequestBuilder)> {
    let tool = if path == "/mcp/clock" { "tick" } else { "trustrelay__whoami" };
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let accepts = "application/json, text/event-stream";
    vec![
        ("a beginning", mcp::initialize(api, path)),
        ("a call without a session", mcp::call(api, path, tool)),
        (
            "a request of a session",
            mcp::in_session(api, Method::POST, path, session).header("accept", accepts).json(&list),
        ),
        ("a stream", mcp::listen(api, path, session)),
        ("the end of a session", mcp::in_session(api, Method::DELETE, path, session)),
    ]
}

fn all_of_rest(api: &Api, id: &str) -> Vec<(&'static str, RequestBuilder)> {
    let new = json!({ "pat_name": "new", "pat_scope": "api" });
    vec![
        ("who", api.request(Method::GET, "/api/user")),
        ("a list", api.request(Method::GET, TOKENS)),
        ("a creation", api.request(Method::POST, TOKENS).json(&new)),
        ("a revocation", api.request(Method::DELETE, &format!("{TOKENS}/{id}"))),
    ]
}

fn assert_try_later(answer: &Response, what: &str) {
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{what}");
    let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
    assert!(after.is_some_and(|after| (1..60).contains(&after)), "{what}: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_nobody_is_accepted_by_any_door_and_nothing_is_done() {
    let apart = Apart::new("1s").await;
    let (made, spared) = (apart.shared.token("api mcp tokens"), apart.shared.token("api"));
    let api = apart.node.api(&made.token);
    let mut sessions = Vec::new();
    for path in ENDPOINTS {
        sessions.push((path, session(&api, path).await));
    }
    assert_eq!(api.whoami().await.0, 200);
    let good = || {
        let list = apart.shared.run(&["token", "list", "--user", EMAIL]).done().good();
        // Their ids: when they were last used is written down now and then.
        list.lines().map(|line| line.split('\t').next().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let before = good();

    apart.network.refuse(true);
    apart.network.cut();
    until(PATIENCE, "the lease runs out", async || !apart.holds_lease().await).await;
    // Nobody can tell whether a token that the node has never seen is good, either.
    let elsewhere = Place::with_account().token("api mcp");
    for token in [&made.token, &elsewhere.token] {
        let api = apart.node.api(token);
        for (what, request) in all_of_rest(&api, &spared.id) {
            assert_try_later(&sent(request).await, what);
        }
        for (path, session) in &sessions {
            for (what, request) in all_of_mcp(&api, path, session) {
                assert_try_later(&sent(request).await, &format!("{what} on {path}"));
            }
        }
    }
    let login = json!({ "email": EMAIL, "password": PASSWORD });
    let anyone = apart.node.api("");
    assert_try_later(&sent(anyone.request(Method::POST, "/api/auth/login").json(&login)).await, "a login");
    // What can be told without a store is told: this is no token, and that is none at all.
    for nobody in [apart.node.api(&made.token[..44]), anyone] {
        assert_eq!(nobody.whoami().await.0, 401);
        assert_eq!(sent(mcp::initialize(&nobody, "/mcp")).await.status(), 401);
    }

    apart.network.refuse(false);
    until(PATIENCE, "the lease is held again", async || apart.holds_lease().await).await;
    assert_eq!(good(), before, "nothing was done");
    for (path, session) in &sessions {
        for (what, request) in all_of_mcp(&api, path, session) {
            assert!(sent(request).await.status().is_success(), "{what} on {path}");
        }
    }
    assert_eq!(apart.node.api(&elsewhere.token).whoami().await.0, 401, "and now it can be told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lease_the_database_is_asked_each_time_and_mcp_answers_wait_for_the_lease() {
    let apart = Apart::new("200ms").await;
    let (made, gone) = (apart.shared.token("api mcp"), apart.shared.token("api mcp"));
    let (api, other) = (apart.node.api(&made.token), apart.node.api(&gone.token));
    let mut sessions = Vec::new();
    for path in ENDPOINTS {
        sessions.push((path, session(&api, path).await));
    }
    assert_eq!(other.whoami().await.0, 200);
    // Each answer of the database takes longer than a lease may be trusted.
    let late = Way::Delays(Duration::from_millis(100));
    apart.network.set(late, late);
    until(PATIENCE, "the lease runs out", async || !apart.holds_lease().await).await;

    let before = (apart.verified("index").await, apart.verified("store").await);
    let mut waiting = JoinSet::new();
    for (path, session) in &sessions {
        // All but the last, which ends the session.
        for (what, request) in all_of_mcp(&api, path, session).into_iter().take(4) {
            let what = format!("{what} on {path}");
            waiting.spawn(async move { (what, sent(request).await.status()) });
        }
    }
    let asked = waiting.len() as u64;
    // At least: what was read while a change was applied is read again, and counts again.
    until(PATIENCE, "all are verified", async || apart.verified("store").await >= before.1 + asked).await;
    assert_eq!(api.whoami().await.0, 200);
    // By the command, which reaches the database by another way.
    apart.shared.run(&["token", "revoke", &gone.id]).done().good();
    assert_eq!(other.whoami().await.0, 401);
    assert_eq!(sent(mcp::initialize(&other, "/mcp")).await.status(), 401);
    assert_eq!(apart.verified("index").await, before.0, "memory was not asked");
    let asked = asked + 3;
    let verified = apart.verified("store").await - before.1;
    assert!(verified >= asked, "the database was asked {verified} times for {asked} requests");
    assert!(waiting.try_join_next().is_none(), "nothing is handed on that the node cannot vouch for");
    assert!(!apart.holds_lease().await);

    apart.network.set(Way::Passes, Way::Passes);
    while let Some(answered) = waiting.join_next().await {
        let (what, status) = answered.expect("asks");
        assert!(status.is_success(), "{what}: {status}");
    }
}
