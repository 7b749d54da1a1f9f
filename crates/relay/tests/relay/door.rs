//! The entry point: requests that are valid in neither era, and the parts of a request that are
//! forwarded.

use http::Method;
use serde_json::{Value, json};
use trustrelay_relay::{UpstreamConfig, UpstreamTransport};

use crate::kit::{Client, Era, Eras, Fake, Live, META, at, http, principal, relay, relay_with};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn the_door_refuses_what_is_not_mcp() {
    let relay = relay_with(vec![], |config| config.public_origin = Some("https://mcp.example".into()));
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(5 << 20));
    let batch = format!("[{PING}]");
    for (header, value, body, status) in [
        ("accept", "application/json", PING, 406),
        ("accept", "text/event-stream", PING, 406),
        ("accept", "application/jsonp, text/event-streams", PING, 406),
        ("content-type", "text/plain", PING, 415),
        ("content-type", "application/json-seq", PING, 415),
        ("content-type", "", PING, 415),
        ("origin", "https://evil.example", PING, 403),
        ("origin", "null", PING, 403),
        ("origin", "http://localhost.evil.example", PING, 403),
        ("origin", "https://mcp.example.evil", PING, 403),
        ("mcp-protocol-version", "1999-01-01", PING, 400),
        ("x-none", "", "{", 400),
        ("x-none", "", "", 400),
        ("x-none", "", &batch, 400),
        ("x-none", "", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} trailing", 400),
        ("x-none", "", &big, 413),
        ("accept", "text/*;q=0.5, APPLICATION/JSON", PING, 200),
        ("accept", "*/*", PING, 200),
        ("content-type", "application/json; charset=utf-8", PING, 200),
        ("origin", "http://localhost:3000", PING, 200),
        ("origin", "https://mcp.example", PING, 200),
        ("mcp-protocol-version", "2025-06-18", PING, 200),
    ] {
        let answer = client.post_with(body, &[(header, value)]).await;
        assert_eq!(answer.status(), status, "{header}: {value}, {}", &body[..body.len().min(80)]);
    }
    let not_text =
        client.request(Method::POST, PING).map(|_| http_body_util::Full::from(&b"{\"\xff\":1}"[..]));
    assert_eq!(client.send(not_text).await.status(), 400);
    let put = client.send(client.request(Method::PUT, "")).await;
    assert_eq!(
        (put.status().as_u16(), &put.headers()["allow"]),
        (405, &"GET, POST, DELETE".parse().unwrap())
    );
}

fn call(client: &Client, name: &str, arguments: Value) -> String {
    client.message(&json!(5), "tools/call", &json!({"name": client.tool(name), "arguments": arguments}))
}

#[tokio::test]
async fn a_stateless_request_whose_headers_are_not_its_bodys_is_refused() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Client::stateless(&relay, &principal("mcp"), None);
        let body = call(&client, "echo", json!({}));
        for (name, value) in [
            ("mcp-method", "tools/list"),
            ("mcp-method", "Tools/Call"),
            ("mcp-method", ""),
            ("mcp-name", "up__wait"),
            ("mcp-name", "echo"),
            ("mcp-name", "=?base64?!!?="),
            ("mcp-name", "=?base64?dXBfX3dhaXQ=?="),
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-protocol-version", ""),
        ] {
            let answer = Live::of(client.post_with(&body, &[(name, value)]).await).whole().await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, -32020), "{name}: {value}");
        }
        for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
            let mut without = client.request(Method::POST, &body);
            let value = without.headers_mut().remove(name).unwrap();
            assert_eq!(Live::of(client.send(without).await).whole().await.code(), -32020, "no {name}");
            let mut doubled = client.request(Method::POST, &body);
            doubled.headers_mut().append(name, value);
            assert_eq!(Live::of(client.send(doubled).await).whole().await.code(), -32020, "two {name}");
        }
        let base64 = client.post_with(&body, &[("mcp-name", "=?base64?dXBfX2VjaG8=?=")]).await;
        assert_eq!(Live::of(base64).whole().await.done(), "done {}");
        assert_eq!(fake.log.times("tools/call"), 1);
    }
}

#[tokio::test]
async fn a_version_that_nobody_speaks_is_refused_with_those_that_are() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    for at in [None, Some("up")] {
        let client = Client::stateless(&relay, &principal("mcp"), at);
        let body = call(&client, "echo", json!({})).replace("2026-07-28", "2031-01-01");
        let refused =
            Live::of(client.post_with(&body, &[("mcp-protocol-version", "2031-01-01")]).await).whole().await;
        assert_eq!((refused.status.as_u16(), refused.code()), (400, -32022), "{at:?}");
        let supported = &refused.last()["error"]["data"]["supported"];
        assert!(supported.as_array().unwrap().contains(&json!("2026-07-28")), "{supported}");
        assert_eq!(refused.last()["error"]["data"]["requested"], "2031-01-01");
        for key in ["protocolVersion", "clientCapabilities"] {
            let without = call(&client, "echo", json!({})).replace(&format!("{META}{key}"), "x/y");
            assert_eq!(client.post(&without).await.status(), 400, "{key}");
        }
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(client.send(client.request(method, "{}")).await.status(), 405);
        }
        let unknown = client.ask("initialize", json!({})).await;
        assert_eq!((unknown.status.as_u16(), unknown.code()), (404, -32601));
    }
    assert!(!fake.log.has("tools/call"));
}

#[tokio::test]
async fn parameters_that_a_tool_wants_as_headers_are_held_against_them_and_made_for_others() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Client::stateless(&relay, &principal("mcp"), None);
        client.names("tools/list").await;
        let body = call(&client, "regional", json!({"region": "eu"}));
        let good = Live::of(client.post_with(&body, &[("mcp-param-region", "eu")]).await).whole().await;
        assert_eq!(good.done(), r#"done {"region":"eu"}"#);
        for bad in ["us", "", "=?base64?!?="] {
            let refused = Live::of(client.post_with(&body, &[("mcp-param-region", bad)]).await).whole().await;
            assert_eq!((refused.status.as_u16(), refused.code()), (400, -32020), "{bad}");
        }
        let mut doubled = client.request(Method::POST, &body);
        doubled.headers_mut().append("mcp-param-region", "eu".parse().unwrap());
        doubled.headers_mut().append("mcp-param-region", "us".parse().unwrap());
        assert_eq!(Live::of(client.send(doubled).await).whole().await.code(), -32020);
        assert_eq!(Live::of(client.post(&body).await).whole().await.code(), -32020);
        let session = Client::new(&relay, &principal("mcp"), None).await;
        assert_eq!(session.call("regional", json!({"region": "eu\r\nx-evil: 1"})).await.status, 200);
        let calls: Vec<_> =
            fake.log.all().into_iter().filter(|seen| seen.body.contains("regional")).collect();
        assert_eq!(calls.len(), 2, "{eras:?}");
        assert!(calls.iter().all(|seen| !seen.headers.contains_key("x-evil")));
        assert_eq!(calls[1].headers.contains_key("mcp-param-region"), eras == Eras::Stateless);
    }
}

#[tokio::test]
async fn a_configured_header_takes_the_place_of_the_clients() {
    let fake = Fake::start(Eras::Both).await;
    let headers = vec![("Mcp-Param-Tenant".to_owned(), "its-own".to_owned())];
    let transport = UpstreamTransport::Http { url: fake.url.clone(), headers };
    let relay = relay(vec![UpstreamConfig { name: "up".parse().unwrap(), transport }]);
    for era in [Era::Session, Era::Stateless] {
        let client = Client::of(&relay, &principal("mcp"), Some("up"), era).await;
        let body = call(&client, "echo", json!({"era": format!("{era:?}")}));
        let sent = client.post_with(&body, &[("mcp-param-tenant", "another's")]).await;
        assert_eq!(sent.status(), 200);
        let seen = fake.log.all().into_iter().rfind(|seen| seen.body.contains("tools/call")).unwrap();
        let given: Vec<_> = seen.headers.get_all("mcp-param-tenant").iter().collect();
        assert_eq!(given, ["its-own"], "{era:?}");
    }
}

#[tokio::test]
async fn only_headers_of_the_protocol_travel_and_the_upstreams_credential_is_its_own() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake)]);
        for at in [None, Some("up")] {
            for era in [Era::Session, Era::Stateless] {
                let client = Client::of(&relay, &principal("mcp"), at, era).await;
                let headers = [
                    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                    ("x-upstream-key", "forged"),
                    ("authorization", "Bearer of-the-client"),
                    ("proxy-authorization", "of-the-client"),
                    ("forwarded", "for=of-the-client"),
                    ("te", "trailers"),
                    ("upgrade", "websocket"),
                    ("x-http-method-override", "DELETE"),
                    ("host", "evil.example"),
                ];
                let body = call(&client, "echo", json!({}));
                assert_eq!(Live::of(client.post_with(&body, &headers).await).whole().await.done(), "done {}");
                assert_eq!(client.ask("resources/read", json!({"uri": "test://one"})).await.status, 200);
                let ours = client.session.clone().unwrap_or_else(|| "none".into());
                for seen in fake.log.all().into_iter().filter(|seen| seen.method != "TOLD") {
                    for (name, value) in &seen.headers {
                        let value = value.to_str().unwrap();
                        assert!(
                            !value.contains("of-the-client") && value != ours && !value.contains("evil"),
                            "{name}: {value}"
                        );
                    }
                    for name in [
                        "cookie",
                        "x-forwarded-for",
                        "x-other",
                        "te",
                        "upgrade",
                        "x-http-method-override",
                        "origin",
                    ] {
                        assert!(!seen.headers.contains_key(name), "{name}");
                    }
                    assert_eq!(seen.headers["x-upstream-key"], "its-own");
                }
                let last = fake.log.all().into_iter().rev().find(|seen| seen.body.contains("echo")).unwrap();
                assert!(last.headers.contains_key("traceparent"), "{eras:?} {at:?} {era:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_upstreams_redirect_is_not_followed() {
    let elsewhere = Fake::start(Eras::Both).await;
    let target = elsewhere.url.to_string();
    let fake = Fake::gated(Eras::Both, move |_| {
        let target = target.clone();
        async move {
            Some(axum::response::IntoResponse::into_response(axum::response::Redirect::temporary(&target)))
        }
    })
    .await;
    let relay = relay(vec![at("up", fake.url.clone())]);
    for era in [Era::Session, Era::Stateless] {
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        let answer = client.call("echo", json!({})).await;
        assert_eq!(answer.code(), -32000, "{}", answer.text);
        assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
    assert!(elsewhere.log.all().is_empty());
}
