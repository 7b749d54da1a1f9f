//! Stories of nodes that were given the same address by mistake.

use reqwest::Method;
use serde_json::json;

use crate::Shared;
use crate::mcp::{in_session, initialize};
use crate::nodes::until;
use crate::support::{PATIENCE, Server};

const NODE_URL: &str = "http://127.0.0.1:9/";

/// Whether a node says in its log that the other one has its address.
fn names(node: &Server, other: &Server) -> bool {
    let host_and_port = other.base.strip_prefix("http://127.0.0.1").expect("an address");
    node.err().iter().any(|line| {
        line.contains("\"level\":\"ERROR\"")
            && [NODE_URL, "--node-url", host_and_port].iter().all(|said| line.contains(said))
    })
}

#[tokio::test]
async fn two_nodes_with_one_node_url_say_so_and_a_session_on_both_is_ended_once() {
    let shared = Shared::with_account();
    let (a, b) = (shared.serve(&["--node-url", NODE_URL]), shared.serve(&["--node-url", NODE_URL]));
    let (keeper, mine) = (shared.token("tokens api"), shared.token("mcp"));
    let (at_a, at_b) = (a.api(&mine.token), b.api(&mine.token));
    let begun = initialize(&at_a, "/mcp").send().await.expect("answers");
    let session = begun.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    // By its id it is a session of either node, so both serve it.
    for node in [&at_a, &at_b] {
        let ping = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
        let asked = in_session(node, Method::POST, "/mcp", &session);
        let asked = asked.header("accept", "application/json, text/event-stream").json(&ping);
        assert_eq!(asked.send().await.expect("answers").status(), 200);
    }
    let value = a.api(&keeper.token).revoke(&mine.id).await.expect("revoked");
    assert_eq!(value["sessions_terminated"], 1, "{value}");

    until(PATIENCE, "each names the other", async || names(&a, &b) && names(&b, &a)).await;
    let listed = shared.run(&["nodes"]).done().good();
    assert_eq!(listed.matches(NODE_URL).count(), 2, "{listed}");
}
