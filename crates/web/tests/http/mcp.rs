//! The door of `/mcp`. What is behind it is told by the relay's own tests.

use http::StatusCode;
use serde_json::{Value, json};
use trustrelay_authority::Issued;

use crate::limits::held;
use crate::support::{Answer, Call, Logs, World, path_of};

/// The four ways in, and what the first two are to the last two.
const DOORS: [&str; 4] = ["/mcp", "/api/mcp", "/mcp/github", "/api/mcp/github"];

pub(crate) fn initialize(call: Call<'_>) -> Call<'_> {
    call.header("accept", "application/json, text/event-stream").json(json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } },
    }))
}

/// Opens a session; its id.
pub(crate) async fn open_session(world: &World, path: &str, token: &Issued) -> String {
    let answer = initialize(world.post(path).bearer(token)).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{answer}");
    answer.header("mcp-session-id").to_owned()
}

async fn list_tools(world: &World, path: &str, token: &Issued, session: &str) -> Answer {
    call_in_session(world, path, &format!("Bearer {}", token.token.expose()), session).await
}

/// A call in a session, with whatever credential.
pub(crate) async fn call_in_session(world: &World, path: &str, authorization: &str, session: &str) -> Answer {
    let call = world.post(path).authorization(authorization).header("mcp-session-id", session);
    let call = call.header("accept", "application/json, text/event-stream");
    call.json(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).send().await
}

#[tokio::test]
async fn both_paths_are_the_same_endpoint() {
    let world = World::new().await;
    let token = world.token("mcp:elsewhere").await;
    let session = open_session(&world, "/mcp", &token).await;
    let here = list_tools(&world, "/mcp", &token, &session).await;
    let there = list_tools(&world, "/api/mcp", &token, &session).await;
    assert_eq!(here.status, StatusCode::OK, "{here}");
    assert!(here.text.contains("trustrelay__whoami"), "{here}");
    assert_eq!(here.text, there.text, "a session that was opened at one is good at the other");
}

#[tokio::test]
async fn an_answer_to_a_token_says_when_it_expires_and_which_request_it_was() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let answer =
        initialize(world.post("/mcp").bearer(&token).header("x-request-id", "agent-7.1")).send().await;
    assert_eq!(answer.header("trustrelay-token-expiration"), "2127-04-07T00:00:00Z");
    assert_eq!(answer.header("x-request-id"), "agent-7.1");
    let answer = initialize(world.post("/mcp").bearer(&token)).send().await;
    assert_eq!(answer.header("x-request-id").len(), 36, "a new one, if it brought none");
}

#[tokio::test]
async fn what_is_logged_on_the_way_of_a_request_carries_its_id() {
    let logs = Logs::keep();
    let world = World::new().await;
    let token = world.token("mcp").await;
    initialize(world.post("/mcp/github").bearer(&token).header("x-request-id", "agent-7.2")).send().await;
    let text = logs.text();
    assert!(text.contains("mcp{id=\"agent-7.2\"}"), "{text}");
    assert!(!text.contains(token.token.expose()));
}

#[tokio::test]
async fn a_refusal_is_a_json_rpc_error_beside_the_headers_of_rest() {
    let world = World::new().await;
    for path in DOORS {
        let missing = world.get(path).send().await;
        assert_eq!(missing.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"trustrelay\"");
        let bad = world.get(path).authorization("Bearer tr_pat_x").send().await;
        assert!(bad.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    insta::assert_snapshot!(world.post("/mcp").send().await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay"
    {
      "error": {
        "code": -32001,
        "data": {
          "code": "unauthenticated"
        },
        "message": "this needs a personal access token: send `Authorization: Bearer tr_pat_…`"
      },
      "id": null,
      "jsonrpc": "2.0"
    }
    "#);
}

/// Clients show the message of a JSON-RPC error; of any other body they say that it was an error.
#[tokio::test]
async fn clients_are_told_why_in_the_shape_that_they_show() {
    let world = World::new().await;
    let revoked = world.token("mcp").await;
    world.authority.revoke_any(revoked.record.pat_id).await.expect("revoked");
    let held = held(&world, &["192.0.2.0/24"], Some(1)).await;
    let from = |path, address| initialize(world.post(path)).bearer(&held).coming_from(address);
    for path in DOORS {
        let off_network = from(path, "198.51.100.7").send().await;
        from(path, "192.0.2.7").send().await;
        let off_rate = from(path, "192.0.2.7").send().await;
        let refused = initialize(world.post(path)).bearer(&revoked).send().await;
        let bad_host = initialize(world.post(path)).bearer(&held).header("host", "a b").send().await;
        for (answer, status, number, code) in [
            (refused, 401, -32001, "invalid_token"),
            (off_network, 403, -32003, "network_not_allowed"),
            (off_rate, 429, -32000, "rate_limited"),
            (bad_host, 400, -32600, "invalid_request"),
        ] {
            assert_eq!(answer.status, status, "{path}: {answer}");
            let body = answer.json();
            assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &Value::Null), "{path}: {answer}");
            let error = &body["error"];
            assert_eq!(
                (&error["code"], &error["data"]["code"]),
                (&json!(number), &json!(code)),
                "{path}: {answer}"
            );
            assert!(error["message"].as_str().is_some_and(|message| message.len() > 20), "{path}: {answer}");
        }
    }
}

/// Some clients try to register with OAuth after a 401, and show the description of what they are
/// answered.
#[tokio::test]
async fn clients_that_try_oauth_are_told_what_this_server_takes() {
    let world = World::new().await;
    for (path, code) in [
        ("/register", "invalid_client_metadata"),
        ("/authorize?response_type=code", "unsupported_response_type"),
        ("/token", "unsupported_grant_type"),
    ] {
        for request in [world.get(path), world.post(path).json(json!({ "client_name": "agent" }))] {
            let answer = request.send().await;
            assert_eq!(
                (answer.status, answer.header("cache-control")),
                (StatusCode::BAD_REQUEST, "no-store")
            );
            let body = answer.json();
            assert_eq!(body["error"], code);
            let description = body["error_description"].as_str().expect("a description");
            assert!(description.contains("personal access tokens, not OAuth"), "{description}");
        }
    }
    assert_eq!(world.post("/register/more").send().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cookie_is_never_a_credential_here() {
    let world = World::new().await;
    let session = world.browser().await;
    for path in DOORS {
        let answer = initialize(world.post(path).session(&session)).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"trustrelay\"");
    }
}

#[tokio::test]
async fn a_token_of_another_scope_is_told_which_is_missing() {
    let world = World::new().await;
    let token = world.token("api tokens").await;
    for path in DOORS {
        let answer = initialize(world.post(path).bearer(&token)).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""));
        assert!(answer.header("www-authenticate").contains("scope=\"mcp"), "{answer}");
        assert_eq!(answer.header("trustrelay-token-expiration"), "2127-04-07T00:00:00Z");
    }
}

#[tokio::test]
async fn a_session_is_cut_with_its_token() {
    let world = World::new().await;
    let (token, other) = (world.token("mcp:elsewhere").await, world.token("mcp:elsewhere").await);
    let session = open_session(&world, "/mcp", &token).await;
    let stolen = list_tools(&world, "/mcp", &other, &session).await;
    assert_eq!(stolen.status, StatusCode::NOT_FOUND, "another token, even of the same account");
    let browser = world.browser().await;
    let revoked = world.delete(&path_of(&token)).session(&browser).send().await;
    assert_eq!(revoked.value()["sessions_terminated"], 1);
    let refused = list_tools(&world, "/mcp", &token, &session).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn what_is_no_upstream_s_name_is_not_found() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    for name in ["nowhere", "%ff", "..%2fgithub", "GitHub", &"x".repeat(5000), "%20"] {
        let answer = initialize(world.post(&format!("/mcp/{name}")).bearer(&token)).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
        assert_eq!(answer.kind(), "application/json", "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_method_that_the_protocol_does_not_have_is_refused_with_those_that_it_has() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    for method in ["PUT", "PATCH", "OPTIONS", "HEAD"] {
        let answer = world.call(method, "/mcp").bearer(&token).send().await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        let mut allowed: Vec<_> = answer.header("allow").split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["DELETE", "GET", "POST"], "{method}");
    }
}

#[tokio::test]
async fn another_site_s_page_may_not_use_it() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let answer =
        initialize(world.post("/mcp").bearer(&token).header("origin", "https://evil.example")).send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn discovery_of_oauth_finds_nothing_plainly() {
    let world = World::new().await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/openid-configuration",
    ] {
        let answer = world.get(path).header("accept", "text/html").send().await;
        insta::allow_duplicates! { insta::assert_snapshot!(answer, @"404 Not Found") }
        assert_eq!(answer.text, "", "{path}");
    }
}
