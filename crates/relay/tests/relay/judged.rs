//! The relay judges exactly what it forwards: no request reaches an upstream that another parser
//! would read differently.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::kit::{Client, Era, Eras, Fake, Live, META, Place, Transport, http, principal, relay};

/// Counts the messages to the upstream that contain this text.
fn sent(bodies: &[String], what: &str) -> usize {
    bodies.iter().filter(|body| body.contains(what)).count()
}

#[tokio::test]
async fn a_request_without_an_id_is_refused_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        let client = &world.client;
        for method in [
            "tools/call",
            "vendor/exec",
            "resources/subscribe",
            "initialize",
            "notifications/message",
            "",
            "x",
        ] {
            let params =
                json!({"name": client.tool("echo"), "uri": "test://one", "arguments": {"tag": "idless"}});
            let full: serde_json::Value =
                serde_json::from_str(&client.message(&json!(1), method, &params)).unwrap();
            let mut without = full.clone();
            without.as_object_mut().unwrap().remove("id");
            let mut null = full;
            null["id"] = json!(null);
            for body in [without, null] {
                assert_eq!(client.post(&body.to_string()).await.status(), 400, "{place:?} {body}");
            }
        }
        // The upstream answers this call last, so everything before it has already arrived.
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
        assert_eq!(sent(&world.log.bodies(), "idless"), 0, "{place:?}");
    }
}

#[tokio::test]
async fn a_narrow_scope_does_not_call_by_leaving_the_id_out() {
    for transport in [Transport::Http, Transport::Stdio] {
        for at in [None, Some("up")] {
            let place = Place { client: Era::Session, upstream: Eras::Session, transport, at };
            let world = place.begin().await;
            for scope in ["mcp:up/echo", "mcp:read"] {
                let client = Client::new(&world.relay, &principal(scope), at).await;
                let params = json!({"name": client.tool("poke"), "arguments": {"tag": "idless"}});
                assert_eq!(client.note("tools/call", params).await, 400, "{scope}");
            }
            assert_eq!(world.client.call("echo", json!({})).await.done(), "done {}");
            assert_eq!(sent(&world.log.bodies(), "idless"), 0);
            assert_eq!(world.kept.all().iter().filter(|call| call.tool == "poke").count(), 0);
        }
    }
}

#[tokio::test]
async fn notifications_that_a_client_may_send_are_accepted() {
    for place in Place::all() {
        let world = place.begin().await;
        for method in ["initialized", "cancelled", "progress", "roots/list_changed", "tasks/status"] {
            let params = json!({"requestId": "none", "progressToken": "none", "progress": 1});
            let status = world.client.note(&format!("notifications/{method}"), params).await;
            assert_eq!(status, 202, "{place:?} {method}");
        }
    }
}

/// Returns the values of a header of the only request to the upstream whose body contains this
/// text.
fn header_of(fake: &Fake, tag: &str, name: &str) -> Vec<String> {
    let all = fake.log.all();
    let mut seen = all.iter().filter(|seen| seen.body.contains(tag));
    let headers: HeaderMap = seen.next().unwrap_or_else(|| panic!("{tag} was not sent")).headers.clone();
    assert!(seen.next().is_none(), "{tag} was sent twice");
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn call(client: &Client, tool: &str, arguments: &Value) -> String {
    client.message(&json!(5), "tools/call", &json!({"name": client.tool(tool), "arguments": arguments}))
}

#[tokio::test]
async fn the_upstream_is_told_that_the_body_is_what_the_relay_read_it_as() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake)]);
        for at in [None, Some("up")] {
            for era in [Era::Session, Era::Stateless] {
                let client = Client::of(&relay, &principal("mcp"), at, era).await;
                for bad in [
                    "application/json; charset=utf-7",
                    "application/json;charset=\"UTF-16\"",
                    "application/json; charset=iso-8859-1",
                    "application/json; charset=utf-8; charset=utf-7",
                    "application/json; Charset = utf-7",
                    "application/json; charset=",
                    "application/json; charset",
                    "application/json, application/json; charset=utf-7",
                ] {
                    // In UTF-7 the name would end here and another member would follow.
                    let body = call(&client, "echo", &json!({"tag": "+ACI-,+ACI-name+ACI-:+ACI-poke"}));
                    let answer = client.post_with(&body, &[("content-type", bad)]).await;
                    assert_eq!(answer.status(), 415, "{bad}");
                }
                let body = call(&client, "echo", &json!({"tag": "+ACI-"}));
                let mut doubled = client.request(Method::POST, &body);
                let other = HeaderValue::from_static("application/json; charset=utf-7");
                doubled.headers_mut().append("content-type", other);
                assert_eq!(client.send(doubled).await.status(), 415);
                for coding in ["gzip", "deflate", "x"] {
                    let answer = client.post_with(&body, &[("content-encoding", coding)]).await;
                    assert_eq!(answer.status(), 415, "{coding}");
                }
                assert!(!fake.log.has("+ACI-"), "{eras:?} {at:?} {era:?}");

                for (number, good) in
                    ["application/json", "Application/JSON; charset=\"UTF-8\"", "application/json; v=1;"]
                        .into_iter()
                        .enumerate()
                {
                    let tag = format!("good-{at:?}-{era:?}-{number}").replace('"', "");
                    let body = call(&client, "echo", &json!({ "tag": tag }));
                    let headers = [("content-type", good), ("content-encoding", "identity")];
                    assert_eq!(client.post_with(&body, &headers).await.status(), 200, "{good}");
                    assert_eq!(header_of(&fake, &tag, "content-type"), ["application/json"]);
                    for dropped in ["content-encoding", "last-event-id"] {
                        assert!(header_of(&fake, &tag, dropped).is_empty());
                    }
                }
            }
        }
        let kinds = fake.log.all().into_iter().filter(|seen| seen.method == "POST");
        let kinds: Vec<_> = kinds.map(|seen| seen.headers["content-type"].clone()).collect();
        assert!(
            kinds.iter().all(|kind| kind == "application/json"),
            "the relay's own requests too: {kinds:?}"
        );
    }
}

#[tokio::test]
async fn in_a_session_no_header_repeats_the_body() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    let misleading = [
        ("mcp-method", "tools/list"),
        ("mcp-name", "poke"),
        ("mcp-param-region", "us"),
        ("mcp-param-other", "us"),
        ("last-event-id", "7"),
        ("mcp-protocol-version", "2025-06-18"),
    ];
    for scope in ["mcp", "mcp:up/regional"] {
        let client = Client::new(&relay, &principal(scope), Some("up")).await;
        let body = call(&client, "regional", &json!({"region": "eu", "tag": scope}));
        let answer = Live::of(client.post_with(&body, &misleading).await).whole().await;
        assert_eq!(answer.status, 200);
        let tag = format!("\"tag\":\"{scope}\"");
        for (name, _) in &misleading[..5] {
            assert!(header_of(&fake, &tag, name).is_empty(), "{name}");
        }
        assert_eq!(header_of(&fake, &tag, "mcp-protocol-version"), ["2025-06-18"]);
        assert!(fake.log.all().iter().any(|seen| seen.body == body), "every byte of the body passes");

        let mut doubled = client.request(Method::POST, &body.replace(scope, "never"));
        for version in ["2025-06-18", "2026-07-28"] {
            doubled.headers_mut().append("mcp-protocol-version", HeaderValue::from_static(version));
        }
        assert_eq!(client.send(doubled).await.status(), 400);
        assert!(!fake.log.has("never"));
    }
    // The same holds for the beginning of a session, because an upstream of both eras may act on
    // the header.
    let client = Client::silent(&relay, &principal("mcp"), Some("up"), Era::Session);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "tag": "begins"});
    let body = client.message(&json!(0), "initialize", &params);
    assert_eq!(client.post_with(&body, &misleading).await.status(), 200);
    for (name, _) in misleading {
        assert!(header_of(&fake, "begins", name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn in_the_stateless_era_headers_that_repeat_the_body_are_made_of_it() {
    for scope in ["mcp", "mcp:up/regional"] {
        let fake = Fake::start(Eras::Both).await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Client::stateless(&relay, &principal(scope), Some("up"));
        let body = call(&client, "regional", &json!({"region": "eu", "tag": "never"}));
        let region = ("mcp-param-region", "eu");
        for headers in [
            [("mcp-method", "tools/list"), region],
            [("mcp-name", "poke"), region],
            [("mcp-protocol-version", "2025-11-25"), region],
            [("mcp-name", "regional"), ("mcp-param-region", "us")],
        ] {
            let answer = Live::of(client.post_with(&body, &headers).await).whole().await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, -32020), "{headers:?}");
        }
        for name in ["mcp-method", "mcp-name", "mcp-protocol-version", "mcp-param-region"] {
            let mut doubled = client.request(Method::POST, &body);
            doubled.headers_mut().append("mcp-param-region", HeaderValue::from_static("eu"));
            let value = doubled.headers()[name].clone();
            doubled.headers_mut().append(HeaderName::from_static(name), value);
            let answer = Live::of(client.send(doubled).await).whole().await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, -32020), "two {name}");
        }
        assert!(!fake.log.has("never"));

        let body = call(&client, "regional", &json!({"region": "eu", "tag": "made"}));
        let encoded = [
            ("mcp-name", "=?base64?cmVnaW9uYWw=?="),
            ("mcp-method", "=?base64?dG9vbHMvY2FsbA==?="),
            ("mcp-param-region", "=?base64?ZXU=?="),
            ("mcp-param-other", "of-nothing"),
        ];
        assert_eq!(client.post_with(&body, &encoded).await.status(), 200);
        for (name, value) in [
            ("mcp-method", "tools/call"),
            ("mcp-name", "regional"),
            ("mcp-param-region", "eu"),
            ("mcp-protocol-version", "2026-07-28"),
        ] {
            assert_eq!(header_of(&fake, "\"made\"", name), [value]);
        }
        assert!(header_of(&fake, "\"made\"", "mcp-param-other").is_empty());
        assert!(fake.log.all().iter().any(|seen| seen.body == body), "every byte of the body passes");
    }
}

#[tokio::test]
async fn names_that_another_reader_takes_for_the_judged_ones_reach_no_upstream() {
    for place in Place::all() {
        let world = place.begin().await;
        let client = &world.client;
        let version = format!("{META}protocolVersion");
        for (method, params) in [
            ("tools/call", json!({"name": client.tool("echo"), "Name": client.tool("poke")})),
            ("tools/call", json!({"name": client.tool("echo"), "_Meta": {}})),
            ("tools/call", json!({"name": client.tool("echo"), "meta": {"progressToken": 1}})),
            ("tools/call", json!({"name": client.tool("echo"), "RequestState": "x"})),
            ("tools/call", json!({"name": client.tool("echo"), "request_state": "x"})),
            (
                "tools/call",
                json!({"name": client.tool("echo"), "_meta": {version.to_uppercase(): "2026-07-28"}}),
            ),
            ("resources/read", json!({"uri": "test://one", "URI": "test://two"})),
            (
                "subscriptions/listen",
                json!({"notifications": {}, "Notifications": {"toolsListChanged": true}}),
            ),
            ("subscriptions/listen", json!({"notifications": {"ResourceSubscriptions": ["test://one"]}})),
            ("subscriptions/listen", json!({"notifications": {"resource_subscriptions": ["test://one"]}})),
            ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "a", "Name": "b"}})),
            ("completion/complete", json!({"ref": {}, "Ref": {"type": "ref/prompt", "name": "b"}})),
            ("logging/setLevel", json!({"level": "debug", "Level": "error"})),
            ("tools/list", json!({"cursor": "a", "Cursor": "b"})),
        ] {
            let mut params = params;
            params["tag"] = json!("disguised");
            let body = client.message(&json!(5), method, &params);
            assert_eq!(client.post(&body).await.status(), 400, "{place:?} {body}");
        }
        for member in ["Method", "Id", "Params", "Jsonrpc", "Result", "ERROR", "paramſ"] {
            let body = call(client, "echo", &json!({"tag": "disguised"}));
            let body = body.replacen('{', &format!("{{\"{member}\":null,"), 1);
            assert_eq!(client.post(&body).await.status(), 400, "{place:?} {body}");
        }
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
        assert_eq!(sent(&world.log.bodies(), "disguised"), 0, "{place:?}");
    }
}
