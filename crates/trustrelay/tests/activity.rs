//! The record of use, from an agent's call to what its owner sees, also after a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use reqwest::Method;
use reqwest::header::ACCEPT;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Api, Place};

/// What no record may hold.
const ARGUMENT: &str = "an-argument-of-the-agent";

/// Opens a session and calls a tool in it.
async fn call(api: &Api, path: &str, tool: &str) -> Value {
    let send = |session: String, body: Value| {
        let request = api.request(Method::POST, path).header(ACCEPT, "application/json, text/event-stream");
        let request = if session.is_empty() { request } else { request.header("mcp-session-id", session) };
        request.json(&body).send()
    };
    let client = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let opened = send(String::new(), hello).await.expect("answers");
    let session = opened.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    send(session.clone(), ready).await.expect("answers");
    let params = json!({ "name": tool, "arguments": { "q": ARGUMENT } });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
    send(session, call).await.expect("answers").json().await.expect("JSON")
}

async fn activity(api: &Api) -> Value {
    let answer = api.get("/api/user/personal-access-tokens/self/activity").await;
    assert_eq!(answer.status(), 200);
    let mut body: Value = answer.json().await.expect("JSON");
    body["value"].take()
}

#[tokio::test]
async fn what_an_agent_called_is_shown_without_its_arguments_and_outlives_a_restart() {
    let place = Place::with_account();
    let (token, other) = (place.token("mcp:elsewhere api"), place.token("mcp"));
    let server = place.serve(&["--upstream", "github=http://127.0.0.1:1/mcp"]);
    let (api, idle) = (server.api(&token.token), server.api(&other.token));
    let answer = call(&api, "/mcp", "trustrelay__whoami").await;
    assert!(answer["result"].is_object(), "{answer}");
    let refused = call(&api, "/mcp", "github__search").await;
    assert!(refused["error"].is_object(), "{refused}");

    let seen = activity(&api).await;
    let latest = seen["latest"].as_array().expect("calls");
    let told: Vec<_> = latest
        .iter()
        .map(|call| ["upstream", "tool", "outcome"].map(|key| call[key].as_str().expect("text")))
        .collect();
    assert_eq!(told, [["github", "search", "forbidden"], ["trustrelay", "whoami", "ok"]]);
    assert!(
        latest[1]["bytes_in"].as_u64() > Some(100) && latest[1]["bytes_out"].as_u64() > Some(100),
        "{seen}"
    );
    assert_eq!(seen["days"][0]["tools"].as_array().expect("tools").len(), 2, "{seen}");
    assert!(!seen.to_string().contains(ARGUMENT) && !seen.to_string().contains(&token.token));
    assert_eq!(activity(&idle).await["latest"], json!([]), "another token has called nothing");

    server.signal(Signal::TERM);
    let (code, _, log) = server.end();
    assert_eq!(code, Some(0));
    assert!(!log.concat().contains(ARGUMENT));
    let again = place.serve(&[]);
    let (mut before, mut after) = (seen, activity(&again.api(&token.token)).await);
    let (known, still) = (before["networks"].take(), after["networks"].take());
    assert_eq!(after, before);
    // Who asks uses the token: only when it was used first stays.
    assert_eq!(known[0]["network"], "127.0.0.0/24");
    for member in ["network", "first_used_at"] {
        assert_eq!(still[0][member], known[0][member], "{known} {still}");
    }
}
