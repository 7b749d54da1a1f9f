//! The relay's stories, each with its negative beside it.

#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kit::{Client, Fake, http, principal, relay, text};
use serde_json::json;
use trustrelay_relay::Cut;

const HOUR: Duration = Duration::from_secs(3600);
const BUILT_IN: [&str; 2] = ["trustrelay__whoami", "trustrelay__upstreams"];

#[tokio::test]
async fn scopes_decide_what_is_listed_and_what_is_called() {
    let fake = Fake::start().await;
    let relay = relay(vec![http("up", fake.url.clone())]);
    let all = Client::new(&relay, principal("mcp", HOUR), None).await;
    assert_eq!(all.tools().await, [BUILT_IN[0], BUILT_IN[1], "up__echo", "up__slow"]);
    assert!(all.call("tools/call", json!({"name": "up__echo"})).await.1.contains("done"));
    assert!(all.call("tools/call", json!({"name": "trustrelay__whoami"})).await.1.contains("a@example.com"));
    assert!(all.call("tools/call", json!({"name": "nobody__echo"})).await.1.contains("-32602"));

    let one = Client::new(&relay, principal("mcp:up/echo", HOUR), None).await;
    assert_eq!(one.tools().await, [BUILT_IN[0], BUILT_IN[1], "up__echo"]);
    assert_eq!(one.call("tools/call", json!({"name": "up__echo"})).await.0, 200);
    let (status, body) = one.call("tools/call", json!({"name": "up__forbidden"})).await;
    assert_eq!(status, 403);
    assert!(body.contains("mcp:up/forbidden"), "{body}");
    assert!(!fake.has_seen("forbidden"));

    let alone = Client::new(&relay, principal("mcp:up/echo", HOUR), Some("up")).await;
    assert_eq!(alone.tools().await, ["echo"]);
    assert_eq!(alone.call("tools/call", json!({"name": "slow"})).await.0, 403);

    let none = Client { relay, principal: principal("api", HOUR), at: None, session: None };
    let answer = none.post("{}").await;
    assert_eq!(answer.status(), 403);
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("insufficient_scope"));
}

#[tokio::test]
async fn a_cut_ends_the_stream_and_the_call_and_tells_the_upstream() {
    let fake = Fake::start().await;
    let relay = relay(vec![http("up", fake.url.clone())]);
    let client = Arc::new(Client::new(&relay, principal("mcp", HOUR), None).await);
    let other = Client::new(&relay, principal("mcp", HOUR), None).await;
    let stream = client.send(client.request(Method::GET, "")).await;
    assert_eq!(stream.status(), 200);
    let caller = Arc::clone(&client);
    let call = tokio::spawn(async move { caller.call("tools/call", json!({"name": "up__slow"})).await });
    fake.saw(r#""name":"slow""#).await;

    let pat_id = client.principal.pat_id().unwrap();
    client.principal.life.token.end();
    assert_eq!(relay.cut_token(pat_id), Cut { sessions: 1, streams: 1, calls: 1 });
    assert_eq!(relay.cut_token(pat_id), Cut::default());
    assert_eq!(text(stream).await, "");
    assert_eq!(call.await.unwrap().0, 401);
    fake.saw("notifications/cancelled").await;
    fake.saw("DELETE").await;
    let again = client.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(again.status(), 401);
    assert_eq!(other.call("ping", json!({})).await.0, 200);
}

#[tokio::test]
async fn a_session_belongs_to_its_token() {
    let relay = relay(vec![]);
    let mine = Client::new(&relay, principal("mcp", HOUR), None).await;
    let mut theirs = Client::new(&relay, principal("mcp", HOUR), None).await;
    assert_eq!(mine.call("ping", json!({})).await.0, 200);
    theirs.session = mine.session.clone();
    assert_eq!(theirs.call("ping", json!({})).await.0, 404);
    theirs.session = None;
    assert_eq!(theirs.call("ping", json!({})).await.0, 400);
    assert_eq!(mine.send(mine.request(Method::DELETE, "")).await.status(), 204);
    assert_eq!(mine.call("ping", json!({})).await.0, 404);
}

#[tokio::test]
async fn an_upstream_that_is_down_or_talks_nonsense_costs_only_its_own_tools() {
    let fake = Fake::start().await;
    let closed = "http://127.0.0.1:1/secret-path".parse().unwrap();
    let relay = relay(vec![http("down", closed), http("up", fake.url.clone())]);
    let client = Client::new(&relay, principal("mcp", HOUR), None).await;
    assert!(client.tools().await.contains(&"up__echo".to_owned()));
    let (status, body) = client.call("tools/call", json!({"name": "down__x"})).await;
    assert_eq!(status, 200);
    assert!(body.contains("`down` is down") && !body.contains("secret-path"), "{body}");
    let (_, body) = client.call("tools/call", json!({"name": "up__garbage"})).await;
    assert!(body.contains("not MCP") && !body.contains("not json at all"), "{body}");
    assert!(
        client.call("tools/call", json!({"name": "up__progress"})).await.1.contains("notifications/progress")
    );
    assert_eq!(relay.upstreams()[0].state, "down");
}

#[tokio::test]
async fn one_upstream_alone_is_faithful_to_the_byte_and_learns_nothing_of_the_client() {
    let fake = Fake::start().await;
    let relay = relay(vec![http("up", fake.url.clone())]);
    let client = Client::new(&relay, principal("mcp", HOUR), Some("up")).await;
    let raw =
        r#"{"jsonrpc":"2.0", "id":7,"odd":[1.0,123456789012345678901234567890],"result":{"é\u0000":{ }}}"#;
    let (_, body) = client.call("tools/call", json!({"name": "verbatim", "arguments": {"raw": raw}})).await;
    assert_eq!(body, raw);
    for (_, headers, _) in fake.seen.borrow().iter() {
        assert!(!headers.contains_key("cookie") && !headers.contains_key("x-other"));
        assert_eq!(headers["x-upstream-key"], "its-own");
    }
}

#[tokio::test]
async fn expiry_cuts_what_is_open() {
    let relay = relay(vec![]);
    let client = Client::new(&relay, principal("mcp", Duration::from_secs(2)), None).await;
    let stream = client.send(client.request(Method::GET, "")).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(text(stream).await, "");
    assert_eq!(client.call("ping", json!({})).await.0, 401);
    assert_eq!(relay.open(), Cut::default());
}

#[tokio::test]
async fn the_door_refuses_what_is_not_mcp() {
    let relay = relay(vec![]);
    let client = Client::new(&relay, principal("mcp", HOUR), None).await;
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(5 << 20));
    for (header, value, body, status) in [
        ("accept", "application/json", "{}", 406),
        ("content-type", "text/plain", "{}", 415),
        ("origin", "https://evil.example", "{}", 403),
        ("mcp-protocol-version", "1999-01-01", "{}", 400),
        ("x-none", "", "{", 400),
        ("x-none", "", "[]", 400),
        ("x-none", "", &big, 413),
        ("origin", "http://localhost:3000", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, 200),
    ] {
        let mut request = client.request(Method::POST, body);
        request.headers_mut().insert(header, value.parse().unwrap());
        assert_eq!(client.send(request).await.status(), status, "{header}: {value}");
    }
    let put = client.send(client.request(Method::PUT, "")).await;
    assert_eq!(
        (put.status().as_u16(), &put.headers()["allow"]),
        (405, &"GET, POST, DELETE".parse().unwrap())
    );
}

#[tokio::test]
async fn a_token_revoked_between_the_door_and_the_registry_opens_nothing() {
    let fake = Fake::start().await;
    let relay = relay(vec![http("up", fake.url.clone())]);
    let client = Client::new(&relay, principal("mcp", HOUR), None).await;
    let pat_id = client.principal.pat_id().unwrap();
    let (cutter, life) = (relay.clone(), client.principal.life.clone());
    // The body is read after the door has judged: the revocation falls exactly there.
    let request = client.request(Method::POST, "").map(|_| {
        Box::pin(http_body_util::StreamBody::new(futures_util::stream::once(async move {
            life.token.end();
            cutter.cut_token(pat_id);
            let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
            Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(body)))
        })))
    });
    assert_eq!(relay.handle(Arc::clone(&client.principal), None, request).await.status(), 401);
    assert_eq!(relay.open(), Cut::default());
}

#[tokio::test]
async fn a_client_that_cancels_is_heard_upstream() {
    let fake = Fake::start().await;
    let relay = relay(vec![http("up", fake.url.clone())]);
    let client = Arc::new(Client::new(&relay, principal("mcp", HOUR), None).await);
    let caller = Arc::clone(&client);
    let call = tokio::spawn(async move { caller.call("tools/call", json!({"name": "up__slow"})).await });
    fake.saw(r#""name":"slow""#).await;
    let note = |id: u8| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
    };
    assert_eq!(client.post(&note(9)).await.status(), 202);
    assert!(!fake.has_seen("notifications/cancelled"));
    assert_eq!(client.post(&note(7)).await.status(), 202);
    fake.saw("notifications/cancelled").await;
    call.abort();
}
