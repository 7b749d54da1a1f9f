//! Lists of real-world upstreams: with errors, flaws, repeated cursors, and after restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Value, json};
use trustrelay_relay::Relay;

use crate::kit::fake::{Seen, as_json};
use crate::kit::{Client, Era, Eras, Fake, at, http, principal, relay_with};

const ERAS: [Era; 2] = [Era::Session, Era::Stateless];

/// Starts a relay that fetches a list again for every request.
fn forgetful(fake: &Fake) -> Relay {
    relay_with(vec![http("up", fake)], |config| config.limits.list_fresh = Duration::ZERO)
}

fn message(seen: &Seen) -> Value {
    serde_json::from_str(&seen.body).unwrap_or_default()
}

fn answer(message: &Value, result: &Value) -> Response {
    let mut result = result.clone();
    result["resultType"] = json!("complete");
    as_json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
}

fn error(message: &Value, code: i64, text: &str) -> String {
    json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}).to_string()
}

fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

/// Returns the entry of `up` in the result of `trustrelay__upstreams`.
async fn row(client: &Client) -> Value {
    let said = client.ask("tools/call", json!({"name": "trustrelay__upstreams"})).await.last();
    said["result"]["structuredContent"]["upstreams"][0].clone()
}

/// Repeats the question until there is an answer.
async fn found<T>(look: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("waited in vain");
}

/// Starts an upstream that, once switched on, answers requests for lists with a function of the
/// request.
async fn switched(lists: impl Fn(&Value) -> Response + Send + Sync + 'static) -> (Fake, Arc<AtomicBool>) {
    let is_on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_on);
    let fake = Fake::gated(Eras::Both, move |seen| {
        let message = message(&seen);
        let is_list = message["method"] == "tools/list" && switch.load(Ordering::SeqCst);
        let answer = is_list.then(|| lists(&message));
        async move { answer }
    })
    .await;
    (fake, is_on)
}

#[tokio::test]
async fn a_list_that_fails_leaves_the_last_good_one_in_its_place() {
    type Lists = dyn Fn(&Value) -> Response + Send + Sync;
    let failures: Vec<(&str, Box<Lists>)> = vec![
        ("an error", Box::new(|message| as_json(error(message, -32603, "secret-words")))),
        (
            "an error on the second page",
            Box::new(|message| match &message["params"]["cursor"] {
                Value::Null => answer(message, &json!({"tools": [tool("first")], "nextCursor": "2"})),
                _ => as_json(error(message, -32601, "secret-words")),
            }),
        ),
        ("no list", Box::new(|message| answer(message, &json!({"tools": {}})))),
        ("a page", Box::new(|_| "<html>secret-words</html>".into_response())),
        ("500", Box::new(|_| (StatusCode::INTERNAL_SERVER_ERROR, "secret-words").into_response())),
        (
            "400",
            Box::new(|message| {
                (StatusCode::BAD_REQUEST, as_json(error(message, -32000, "secret-words"))).into_response()
            }),
        ),
    ];
    for (what, lists) in failures {
        let (fake, fails) = switched(lists).await;
        let relay = forgetful(&fake);
        for era in ERAS {
            fails.store(false, Ordering::SeqCst);
            let client = Client::of(&relay, &principal("mcp"), None, era).await;
            let good = found(async || {
                let names = client.names("tools/list").await;
                (names.contains(&"up__echo".to_owned()) && relay.upstreams()[0].failures.is_empty())
                    .then_some(names)
            })
            .await;
            assert_eq!(row(&client).await["problems"], json!([]), "{what} {era:?}");

            fails.store(true, Ordering::SeqCst);
            for _ in 0..3 {
                assert_eq!(client.names("tools/list").await, good, "{what} {era:?}");
            }
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{what} {era:?}");
            let status = &relay.upstreams()[0];
            assert_eq!(status.failures.len(), 1, "{what} {era:?}: {status:?}");
            assert!(status.failures[0].served_from.is_some(), "{what} {era:?}");
            let said = row(&client).await["problems"].to_string();
            assert!(said.contains("tools/list since") && said.contains("is served"), "{what}: {said}");
            assert!(!said.contains("secret-words"), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_has_no_prompts_after_all_has_an_empty_list() {
    let fake = Fake::gated(Eras::Both, |seen| async move {
        let message = message(&seen);
        (message["method"] == "prompts/list").then(|| as_json(error(&message, -32601, "unknown method")))
    })
    .await;
    let relay = forgetful(&fake);
    for era in ERAS {
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        assert_eq!(client.names("prompts/list").await, [""; 0]);
        assert_eq!(relay.upstreams()[0].failures, []);
    }
}

#[tokio::test]
async fn a_list_of_a_hundred_pages_is_whole_and_a_repeated_cursor_ends_one() {
    let pages = |last: usize| {
        move |message: &Value| {
            let cursor = message["params"]["cursor"].as_str().unwrap_or("0");
            let page: usize = cursor.parse().unwrap();
            let tools: Vec<_> = (0..10).map(|number| tool(&format!("t{page}-{number}"))).collect();
            let next = if page < 99 { page + 1 } else { last };
            let mut result = json!({"tools": tools});
            if next > 0 {
                result["nextCursor"] = json!(next.to_string());
            }
            answer(message, &result)
        }
    };
    // After the last page there is no cursor, or that of page 42 again.
    for last in [0, 42] {
        let (fake, is_on) = switched(pages(last)).await;
        is_on.store(true, Ordering::SeqCst);
        let relay = relay_with(vec![http("up", &fake)], |config| config.limits.page = 5_000);
        let client = Client::stateless(&relay, &principal("mcp"), None);
        let tools = found(async || {
            let names = client.names("tools/list").await;
            (names.len() > 2).then_some(names)
        })
        .await;
        assert!(tools.contains(&"up__t0-0".into()) && tools.contains(&"up__t99-9".into()));
        assert_eq!(tools.len(), 2 + 1000, "no tool comes twice");
        assert!(fake.log.times("tools/list") <= 101);
    }
}

/// Servers on the official TypeScript SDK keep their sessions in memory, and answer 400 to an
/// unknown one.
#[tokio::test]
async fn a_server_that_was_restarted_is_taken_up_again() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND] {
        let known = Arc::new(AtomicUsize::new(0));
        let starts = Arc::clone(&known);
        let fake = Fake::gated(Eras::Session, move |seen| {
            let forgotten = starts.load(Ordering::SeqCst) == 1;
            let is_begun = message(&seen)["method"] == "initialize";
            let refused = seen.headers.contains_key("mcp-session-id") && forgotten;
            if is_begun && forgotten {
                // After the first new session it behaves normally again.
                starts.store(2, Ordering::SeqCst);
            }
            async move {
                let text = "Bad Request: No valid session ID provided";
                let body = json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": text}, "id": null});
                (refused && !is_begun).then(|| (status, as_json(body.to_string())).into_response())
            }
        })
        .await;
        for place in [None, Some("up")] {
            let relay = forgetful(&fake);
            known.store(0, Ordering::SeqCst);
            let client = Client::new(&relay, &principal("mcp"), place).await;
            let before = client.names("tools/list").await;
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}");

            // The sessions are lost twice: before the client's call, and before its list.
            fake.forget_sessions();
            known.store(1, Ordering::SeqCst);
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{status} {place:?}");
            fake.forget_sessions();
            known.store(1, Ordering::SeqCst);
            assert_eq!(client.names("tools/list").await, before, "{status} {place:?}");
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{status} {place:?}");
            let failures = relay.upstreams()[0].failures.clone();
            assert_eq!(failures, [], "{status} {place:?}");
        }
    }
}

/// A request that is refused for another reason is passed on with that reason.
#[tokio::test]
async fn a_400_about_anything_else_is_passed_on_and_begins_no_session() {
    let fake = Fake::gated(Eras::Session, |seen| async move {
        let message = message(&seen);
        (message["params"]["name"] == "echo").then(|| {
            (StatusCode::BAD_REQUEST, as_json(error(&message, -32602, "the session of parliament")))
                .into_response()
        })
    })
    .await;
    let relay = relay_with(vec![http("up", &fake)], |_| {});
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let begun = fake.log.times("\"initialize\"");
    let said = client.call("echo", json!({})).await;
    assert_eq!(said.last()["error"]["message"], "the session of parliament");
    // The 400 could concern the session, so one attempt with a new session is allowed.
    assert!(fake.log.times("\"initialize\"") <= begun + 2);
    assert_eq!(client.call("peek", json!({})).await.done(), "done {}");
}

#[tokio::test]
async fn a_flawed_element_costs_itself_alone_and_is_named() {
    let fake = Fake::gated(Eras::Both, |seen| async move {
        let message = message(&seen);
        let result = match message["method"].as_str()? {
            "tools/list" => json!({"tools": [
                tool("good"), {"name": "bare"}, {"name": 7}, {"name": "odd", "inputSchema": {"type": "array"}},
                {"name": "null", "description": null, "inputSchema": {"type": "object"}},
            ]}),
            "prompts/list" => json!({"prompts": [{"name": "p", "arguments": [{}]}, {"name": "q"}]}),
            "resources/list" => json!({"resources": [{"uri": "a://b"}, {"name": "c"}]}),
            _ => return None,
        };
        Some(answer(&message, &result))
    })
    .await;
    let other = Fake::start(Eras::Both).await;
    let relay = relay_with(vec![http("up", &fake), at("zz", other.url.clone())], |_| {});
    for era in ERAS {
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        let listed = client.ask("tools/list", json!({})).await.last();
        let listed: Vec<_> = listed["result"]["tools"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|tool| tool["name"].as_str().unwrap().starts_with("up__"))
            .cloned()
            .collect();
        let whole = |name: &str| tool(&format!("up__{name}"));
        assert_eq!(listed, [whole("good"), whole("bare"), whole("null")], "{era:?}");
        assert!(client.names("tools/list").await.contains(&"zz__echo".into()), "others keep theirs");
        assert_eq!(
            client.names("prompts/list").await.iter().filter(|name| name.starts_with("up__")).count(),
            1
        );
        let resources = client.ask("resources/list", json!({})).await.last();
        assert_eq!(resources["result"]["resources"][0], json!({"uri": "a://b", "name": "a://b"}));
        let said = row(&client).await["problems"].to_string();
        for (what, done) in
            [("`bare`", "corrected"), ("`odd`", "left out"), ("`null`", "corrected"), ("`p`", "left out")]
        {
            assert!(said.contains(&format!("{what} was {done}")), "{what}: {said}");
        }
    }
    // A token for a single tool sees only that tool's flaws.
    let narrow = Client::stateless(&relay, &principal("mcp:up/bare"), None);
    narrow.names("tools/list").await;
    let said = row(&narrow).await["problems"].to_string();
    assert!(said.contains("`bare`") && !said.contains("`odd`") && !said.contains("`p`"), "{said}");
}
