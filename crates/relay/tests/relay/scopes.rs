//! The reach of the scopes, judged from the body: the same for lists and calls, on both endpoints
//! and in both eras.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Client, Era, Eras, Fake, HOUR, Live, http, principal, principal_of, relay, relay_with};

const BUILT_IN: [&str; 2] = ["trustrelay__whoami", "trustrelay__upstreams"];
const ERAS: [Era; 2] = [Era::Session, Era::Stateless];

async fn clients(relay: &trustrelay_relay::Relay, scopes: &str) -> Vec<Client> {
    let mut all = Vec::new();
    for at in [None, Some("up")] {
        for era in ERAS {
            all.push(Client::of(relay, &principal(scopes), at, era).await);
        }
    }
    all
}

fn challenge(answer: &crate::kit::client::Whole) -> &str {
    answer.headers["www-authenticate"].to_str().unwrap()
}

#[tokio::test]
async fn a_token_for_one_tool_sees_and_calls_that_tool_alone() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake), http("other", &fake)]);
        for client in clients(&relay, "mcp:up/echo").await {
            let tools = client.names("tools/list").await;
            let own: Vec<_> = tools.iter().filter(|name| !BUILT_IN.contains(&name.as_str())).collect();
            assert_eq!(own, [&client.tool("echo")], "{eras:?}");
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
            let refused = client.call("progress", json!({"never-arrives": 1})).await;
            assert_eq!(refused.status, 403);
            assert!(challenge(&refused).contains("scope=\"mcp:up/progress\""), "{}", challenge(&refused));
            assert!(refused.text.contains("mcp:up/progress"));
            for (method, params) in [
                ("prompts/get", json!({"name": client.tool("greet")})),
                (
                    "completion/complete",
                    json!({"ref": {"type": "ref/prompt", "name": client.tool("greet")}, "argument": {}}),
                ),
                ("resources/read", json!({"uri": "test://one"})),
            ] {
                let refused = client.ask(method, params).await;
                assert!(refused.status == 403 || refused.last().get("error").is_some(), "{}", refused.text);
            }
        }
        for never in ["never-arrives", "prompts/get", "completion/complete", "resources/read"] {
            assert!(!fake.log.has(never), "{never}");
        }
    }
}

#[tokio::test]
async fn a_token_that_only_reads_calls_what_declares_to_only_read() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay_with(vec![http("up", &fake)], |config| config.limits.list_fresh = Duration::ZERO);
        for client in clients(&relay, "mcp:read").await {
            fake.peer.pokes_read_only.store(false, Ordering::SeqCst);
            // The list shows no other tools. For a single upstream it has the upstream's pages.
            let (shown, page) = match client.at {
                None => ([&BUILT_IN[..], &["up__peek"]].concat(), json!({})),
                Some(_) => (vec!["peek"], json!({"cursor": "2"})),
            };
            assert_eq!(client.names_on("tools/list", page).await, shown, "{eras:?}");
            if client.at.is_some() {
                assert!(client.names("tools/list").await.is_empty(), "{eras:?}");
            }
            assert_eq!(client.call("peek", json!({})).await.done(), "done {}");
            for tool in ["poke", "echo", "nothing"] {
                let refused = client.call(tool, json!({"never-arrives": 1})).await;
                assert_eq!(refused.status, 403, "{eras:?} {tool}");
                assert!(challenge(&refused).contains(&format!("scope=\"mcp:up/{tool}\"")));
            }
            let read = client.ask("resources/read", json!({"uri": "test://one"})).await.last();
            assert_eq!(read["result"]["contents"][0]["text"], "read");
            let prompt = client.ask("prompts/get", json!({"name": client.tool("greet")})).await;
            assert!(prompt.last().get("result").is_some(), "{}", prompt.text);
            // The tool's current declaration counts, in both directions.
            fake.peer.pokes_read_only.store(true, Ordering::SeqCst);
            assert_eq!(client.call("poke", json!({"now": 1})).await.done(), r#"done {"now":1}"#);
            fake.peer.pokes_read_only.store(false, Ordering::SeqCst);
            assert_eq!(client.call("poke", json!({"never-arrives": 1})).await.status, 403, "{eras:?}");
        }
        assert!(!fake.log.has("never-arrives"));
    }
}

#[tokio::test]
async fn a_method_that_nobody_here_knows_needs_all_of_the_upstream() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake)]);
        for scopes in ["mcp:read", "mcp:up/echo"] {
            for era in ERAS {
                let client = Client::of(&relay, &principal(scopes), Some("up"), era).await;
                let refused = client.ask("vendor/exec", json!({})).await;
                assert_eq!(refused.status, 403, "{scopes} {eras:?} {era:?}: {}", refused.text);
                assert!(challenge(&refused).contains("scope=\"mcp:up\""));
            }
        }
        assert!(!fake.log.has("vendor/exec"));
        let all = Client::of(&relay, &principal("mcp:up"), Some("up"), Era::Session).await;
        assert_eq!(all.ask("vendor/exec", json!({})).await.last()["result"]["executed"], true);
    }
}

#[tokio::test]
async fn a_name_that_hides_in_escapes_is_judged_as_it_is_read() {
    let fake = Fake::start(Eras::Both).await;
    let relay = relay(vec![http("up", &fake)]);
    for client in clients(&relay, "mcp:up/echo").await {
        let odd = ["progress", "Echo", "echo ", "ech\u{2060}o", "echo\u{0}"];
        // Headers encode the odd names differently.
        let names = if client.era == Era::Session { &odd[..] } else { &odd[..2] };
        for name in names {
            let params = json!({"name": client.tool(name), "arguments": {"never-arrives": 1}});
            let refused = client.ask("tools/call", params).await;
            assert_eq!(refused.status, 403, "{name}");
        }
        // An escaped name is still the same name, and all other bytes are passed on.
        let plain = client.message(&json!(5), "tools/call", &json!({"name": client.tool("echo")}));
        let escaped = plain.replace("echo", r"\u0065cho");
        let answer = Live::of(client.post_with(&escaped, &name_header(&client, "echo")).await).whole().await;
        assert!(answer.text.contains("done"), "{}", answer.text);
        let escaped = plain.replace("echo", r"\u0070rogress");
        let answer =
            Live::of(client.post_with(&escaped, &name_header(&client, "progress")).await).whole().await;
        assert_eq!(answer.status, 403);
        let doubled =
            plain.replace("\"name\":", &format!("\"name\":\"{}\",\"name\":", client.tool("progress")));
        assert_eq!(client.post(&doubled).await.status(), 400);
        let lookalike =
            plain.replace("\"name\":", &format!("\"Name\":\"{}\",\"name\":", client.tool("progress")));
        assert_eq!(client.post(&lookalike).await.status(), 400);
    }
    assert!(!fake.log.has("never-arrives") && !fake.log.has("progress\",\"arguments"));
}

fn name_header(client: &Client, name: &str) -> Vec<(&'static str, &'static str)> {
    let name: &'static str = client.tool(name).leak();
    if client.era == Era::Stateless { vec![("mcp-name", name)] } else { vec![] }
}

#[tokio::test]
async fn headers_that_differ_from_the_body_reach_no_upstream_from_a_token_with_less_than_all() {
    let fake = Fake::start(Eras::Stateless).await;
    let relay = relay(vec![http("up", &fake)]);
    let client = Client::stateless(&relay, &principal("mcp:up/echo"), Some("up"));
    let body =
        client.message(&json!(5), "tools/call", &json!({"name": "echo", "arguments": {"never-arrives": 1}}));
    for header in
        [("mcp-name", "progress"), ("mcp-method", "vendor/exec"), ("mcp-protocol-version", "2025-11-25")]
    {
        let answer = Live::of(client.post_with(&body, &[header]).await).whole().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, -32020), "{header:?}");
    }
    assert!(!fake.log.has("never-arrives"));
}

#[tokio::test]
async fn updates_of_resources_come_to_no_token_that_cannot_read_them_however_they_are_asked_for() {
    for eras in Eras::ALL {
        let fake = Fake::start(eras).await;
        let relay = relay(vec![http("up", &fake)]);
        for at in [None, Some("up")] {
            let client = Client::stateless(&relay, &principal("mcp:up/echo"), at);
            for key in ["resourceSubscriptions", r"resource\u0053ubscriptions", "ResourceSubscriptions"] {
                let filter = json!({"toolsListChanged": true, "KEY": ["test://one"]});
                let body =
                    client.message(&json!(5), "subscriptions/listen", &json!({ "notifications": filter }));
                let body = body.replace("KEY", key);
                let mut live =
                    Live::of(client.post_with(&body, &[("mcp-method", "subscriptions/listen")]).await);
                if live.status == 200 {
                    let acknowledged = live.message().await;
                    assert!(
                        !acknowledged.to_string().contains("test://one"),
                        "{eras:?} {at:?} {key}: {acknowledged}"
                    );
                } else {
                    // A name that is not the protocol's but looks like one is refused before the
                    // scopes are checked.
                    let refused = if key.starts_with('R') { 400 } else { 403 };
                    assert_eq!(live.status, refused, "{eras:?} {at:?} {key}");
                }
            }
        }
        assert!(!fake.log.has("test://one"), "{eras:?}: {:#?}", fake.log.bodies());
    }
}

#[tokio::test]
async fn a_token_that_was_narrowed_answers_no_question_of_what_it_reaches_no_more() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake), http("other", &fake)]);
    for (scopes, reaches) in [("mcp:other", false), ("mcp:up", true)] {
        let mut client = Client::new(&relay, &principal("mcp"), None).await;
        let asks = json!({"method": "roots/list", "params": {}, "tag": scopes});
        let mut call = client.open_call("ask", asks).await;
        let question = call.message().await;
        assert_eq!(question["method"], "roots/list");
        client.principal = principal_of(client.principal.user_id, client.pat_id(), scopes, HOUR);
        let answer = json!({"roots": [{"uri": format!("file:///{scopes}")}]});
        let status = client.respond(&question["id"], "result", answer).await;
        assert_eq!((status.is_success(), fake.log.has(&format!("file:///{scopes}"))), (reaches, reaches));
        if reaches {
            assert!(call.whole().await.done().starts_with("answered "));
        }
    }
}

#[tokio::test]
async fn a_token_for_one_upstream_knows_of_no_other() {
    let (fake, other) = (Fake::start(Eras::Both).await, Fake::start(Eras::Both).await);
    let relay = relay(vec![http("up", &fake), http("other", &other)]);
    for era in ERAS {
        let mine = principal("mcp:up");
        let client = Client::of(&relay, &mine, None, era).await;
        assert!(!client.names("tools/list").await.iter().any(|name| name.starts_with("other")));
        let row = client.ask("tools/call", json!({"name": "trustrelay__upstreams"})).await;
        assert!(row.text.contains("up") && !row.text.contains("other"), "{}", row.text);
        let refused = client.ask("tools/call", json!({"name": "other__echo"})).await;
        assert_eq!(refused.status, 403);
        let there = Client::silent(&relay, &mine, Some("other"), era);
        let refused = there.ask("tools/list", json!({})).await;
        assert!(refused.status == 403 && challenge(&refused).contains("mcp:other"));
        let nowhere = Client::silent(&relay, &mine, Some("nowhere"), era);
        assert_eq!(nowhere.ask("tools/list", json!({})).await.status, 404);
    }
    assert!(other.log.all().is_empty());
    let none = Client::silent(&relay, &principal("api"), None, Era::Stateless);
    let refused = none.ask("tools/list", json!({})).await;
    assert!(refused.status == 403 && challenge(&refused).contains("scope=\"mcp\""));
    let _: Value = refused.last();
}
