//! Upstreams that are down, slow, broken or hostile. Each affects only its own tools, and every
//! failure is bounded and clearly reported.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::kit::fake::{as_json, endless, stream};
use crate::kit::{
    Client, Era, Eras, Fake, Place, at, eventually, http, is_quiet, principal, relay, relay_with,
};

const ERAS: [Era; 2] = [Era::Session, Era::Stateless];

/// Builds the answer to the request of this id.
type Answer = dyn Fn(&Value) -> Response + Send + Sync;

/// Starts an upstream that answers the calls of `echo` with `answer`.
async fn answering(eras: Eras, answer: impl Fn(&Value) -> Response + Send + Sync + 'static) -> Fake {
    Fake::gated(eras, move |seen| {
        let message: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        let answer = (message["params"]["name"] == "echo").then(|| answer(&message["id"]));
        async move { answer }
    })
    .await
}

#[tokio::test]
async fn an_upstream_that_hangs_delays_nobody_elses_list() {
    let (open, held) = tokio::sync::watch::channel(false);
    let hung = Fake::gated(Eras::Both, move |_| {
        let mut held = held.clone();
        async move {
            let _ = held.wait_for(|open| *open).await;
            None
        }
    })
    .await;
    let fake = Fake::start(Eras::Both).await;
    let relay = relay_with(vec![http("hung", &hung), http("up", &fake)], |config| {
        config.limits.list_patience = Duration::from_millis(50);
    });
    for era in ERAS {
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        let tools = client.names("tools/list").await;
        assert!(tools.contains(&"up__echo".into()) && !tools.contains(&"hung__echo".into()), "{tools:?}");
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
    }
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let mut heard = client.listen(&[]).await;
    open.send(true).unwrap();
    // The upstream is up now: its list arrives and the change is announced.
    while heard.message().await["method"] != "notifications/tools/list_changed" {}
    let there = client.names("tools/list").await;
    assert!(there.contains(&"hung__echo".into()), "{there:?}");
}

#[tokio::test]
async fn an_upstream_that_is_down_costs_its_own_tools_alone_and_shows_no_address() {
    let fake = Fake::start(Eras::Both).await;
    let closed = "http://user:secret-word@127.0.0.1:1/secret-path?key=secret-key".parse().unwrap();
    let relay = relay(vec![at("down", closed), http("up", &fake)]);
    for era in ERAS {
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        assert!(client.names("tools/list").await.contains(&"up__echo".to_owned()));
        let answer = client.ask("tools/call", json!({"name": "down__x"})).await;
        assert!(answer.text.contains("`down` is down"), "{}", answer.text);
        let row = client.ask("tools/call", json!({"name": "trustrelay__upstreams"})).await;
        for text in [answer.text, row.text] {
            assert!(!text.contains("secret") && !text.contains("127.0.0.1"), "{text}");
        }
    }
    assert_eq!(relay.upstreams()[0].state, "down");
}

#[tokio::test]
async fn what_is_no_answer_becomes_a_clear_error_without_the_upstreams_words() {
    let long = "x".repeat(300_000);
    let bodies: Vec<Box<Answer>> = vec![
        Box::new(|_| as_json("secret-words, and no JSON")),
        Box::new(|_| as_json("")),
        Box::new(|_| as_json("[]")),
        Box::new(|_| as_json(&b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"secret-words \xff\"}"[..])),
        Box::new(|_| as_json(r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"secret-words":1}}"#)),
        Box::new(|_| as_json(r#"{"jsonrpc":"2.0","id":"another-s","result":{"content":"secret-words"}}"#)),
        Box::new(move |id| {
            as_json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"secret-words":"{long}"}}}}"#))
        }),
        Box::new(|_| "<html>secret-words</html>".into_response()),
        Box::new(|_| stream("data: secret-words\n\n")),
        Box::new(|_| stream("")),
        Box::new(|_| StatusCode::ACCEPTED.into_response()),
        Box::new(|_| (StatusCode::INTERNAL_SERVER_ERROR, "secret-words").into_response()),
        Box::new(|_| (StatusCode::TOO_MANY_REQUESTS, "secret-words").into_response()),
        Box::new(|id| {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"key secret-words is bad"}}}}"#
            );
            (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer secret-words")], as_json(body))
                .into_response()
        }),
        Box::new(|_| (StatusCode::FORBIDDEN, "secret-words").into_response()),
    ];
    for (number, body) in bodies.into_iter().enumerate() {
        let fake = answering(Eras::Both, body).await;
        let relay = relay_with(vec![http("up", &fake)], |config| config.limits.answer = 100_000);
        for at in [None, Some("up")] {
            for era in ERAS {
                let client = Client::of(&relay, &principal("mcp"), at, era).await;
                let answer = client.call("echo", json!({})).await;
                assert!(
                    !answer.text.contains("secret-words") || (at.is_some() && number == 8),
                    "{number} {at:?} {era:?}: {}",
                    answer.text
                );
                assert!(answer.status != 401 && answer.status != 403, "{number} {at:?} {era:?}");
                assert!(!answer.headers.contains_key("www-authenticate"));
                if answer.messages.is_empty() {
                    // On `/mcp/NAME` too, a stream that the upstream ended without an answer ends
                    // without one.
                    assert!(at.is_some() && matches!(number, 8 | 9), "{number} {at:?} {era:?}");
                } else {
                    assert_eq!(answer.last()["id"], 7, "{number} {at:?} {era:?}: {}", answer.text);
                    assert!(answer.last().get("error").is_some(), "{number} {at:?} {era:?}: {}", answer.text);
                }
                // The upstream remains usable.
                let tool = client.call("peek", json!({})).await;
                assert_eq!(tool.done(), "done {}", "{number}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_somebody_else_in_the_stream_is_nobodys_here() {
    for eras in Eras::ALL {
        let fake = answering(eras, |id| {
            let event = |id: &Value, text: &str| {
                format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}))
            };
            stream(event(&json!("another"), "secret-words") + &event(&json!(987_654), "secret-words") + &event(id, "mine"))
        })
        .await;
        let relay = relay(vec![http("up", &fake)]);
        for era in ERAS {
            let client = Client::of(&relay, &principal("mcp"), None, era).await;
            let answer = client.call("echo", json!({})).await;
            assert_eq!(answer.done(), "mine", "{eras:?} {era:?}");
            assert!(!answer.text.contains("secret-words"), "{eras:?} {era:?}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn progress_of_somebody_else_in_the_stream_is_nobodys_here() {
    let progress = |token: &Value, text: &str| {
        let params = json!({"progressToken": token, "progress": 1, "message": text});
        format!(
            "data: {}\n\n",
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        )
    };
    let fake = answering(Eras::Session, move |id| {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
        // A stateless client's call has the same id and progress token at the upstream.
        let own = progress(&json!(id.to_string()), "half way");
        stream(progress(&json!("987654"), "secret-words") + &own + &format!("data: {answer}\n\n"))
    })
    .await;
    let relay = relay(vec![http("up", &fake)]);
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let params = json!({"name": "up__echo", "_meta": {"progressToken": "mine"}});
    let answer = client.ask("tools/call", params).await;
    let heard: Vec<_> = answer.messages.iter().filter(|message| message["id"].is_null()).collect();
    let [heard] = heard[..] else { panic!("{}", answer.text) };
    assert_eq!(heard["params"]["progressToken"], "mine");
    assert_eq!(heard["params"]["message"], "half way");
}

#[tokio::test]
async fn an_answer_whose_body_takes_long_arrives_and_is_kept_alive_meanwhile() {
    for at in [None, Some("up")] {
        for era in ERAS {
            let (open, held) = tokio::sync::watch::channel(0);
            let fake = Fake::gated(Eras::Both, move |seen| {
                let (mut head, mut body) = (held.clone(), held.clone());
                async move {
                    let message: Value = serde_json::from_str(&seen.body).unwrap_or_default();
                    if message["params"]["name"] != "echo" {
                        return None;
                    }
                    let text = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"content": [{"type": "text", "text": "late"}]}});
                    let (first, second) = text.to_string().split_at(20).pipe();
                    let _ = head.wait_for(|open| *open > 0).await;
                    let late = futures_util::stream::once(async move {
                        let _ = body.wait_for(|open| *open > 1).await;
                        Ok::<_, std::io::Error>(second)
                    });
                    let parts = futures_util::StreamExt::chain(futures_util::stream::iter([Ok(first)]), late);
                    Some(as_json(axum::body::Body::from_stream(parts)))
                }
            })
            .await;
            let relay = relay_with(vec![http("up", &fake)], |config| {
                config.limits.quiet = Duration::from_millis(20);
                config.limits.keep_alive = Duration::from_millis(20);
            });
            let client = Client::of(&relay, &principal("mcp"), at, era).await;
            let mut live = client.open_call("echo", json!({})).await;
            assert_eq!(live.headers["content-type"], "text/event-stream", "{at:?} {era:?}");
            for step in [1, 2] {
                live.keep_alives(2).await;
                open.send(step).unwrap();
            }
            assert_eq!(live.whole().await.done(), "late", "{at:?} {era:?}");
        }
    }
}

trait Pipe {
    fn pipe(self) -> (String, String);
}

impl Pipe for (&str, &str) {
    fn pipe(self) -> (String, String) {
        (self.0.to_owned(), self.1.to_owned())
    }
}

#[tokio::test]
async fn a_stream_that_answers_and_never_ends_is_let_go_with_its_client() {
    for at in [None, Some("up")] {
        for era in ERAS {
            let fake = answering(Eras::Both, |id| {
                endless(format!(
                    "data: {}\n\n",
                    json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}})
                ))
            })
            .await;
            let relay = relay(vec![http("up", &fake)]);
            let client = Client::of(&relay, &principal("mcp"), at, era).await;
            let mut live = client.open_call("echo", json!({})).await;
            assert!(live.message().await.get("result").is_some());
            drop(live);
            let gone = eventually(|| (relay.open().calls == 0).then_some(())).await;
            assert!(gone.is_some(), "{at:?} {era:?}");
            assert!(!fake.log.has("notifications/cancelled"));
        }
    }
}

#[tokio::test]
async fn an_upstream_that_never_answers_to_a_log_level_holds_up_no_call() {
    let fake = Fake::gated(Eras::Session, |seen| async move {
        if seen.body.contains("logging/setLevel") { std::future::pending().await } else { None }
    })
    .await;
    let relay =
        relay_with(vec![http("up", &fake)], |config| config.limits.farewell = Duration::from_millis(50));
    let mut client = Client::stateless(&relay, &principal("mcp"), None);
    client.log_level = Some("info");
    assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
    let session = Client::new(&relay, &principal("mcp"), None).await;
    session.call("echo", json!({})).await;
    assert_eq!(session.ask("logging/setLevel", json!({"level": "info"})).await.last()["result"], json!({}));
}

/// A list that is too long is refused instead of truncated, because nobody could tell that elements
/// are missing.
#[tokio::test]
async fn a_list_without_end_is_bounded_in_pages_and_in_bytes() {
    let fake = Fake::gated(Eras::Both, |seen| async move {
        let message: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        (message["method"] == "tools/list").then(|| {
            let page: usize = message["params"]["cursor"].as_str().unwrap_or("0").parse().unwrap();
            let tool =
                json!({"name": format!("t{page}"), "inputSchema": {}, "description": "x".repeat(10_000)});
            let next = (page + 1).to_string();
            let result = json!({"tools": [tool], "nextCursor": next, "resultType": "complete"});
            as_json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
        })
    })
    .await;
    for (answer, pages, asked) in [(1 << 20, 5, 5), (32_000, 1000, 4)] {
        let before = fake.log.times("tools/list");
        let relay = relay_with(vec![http("up", &fake)], |config| {
            config.limits.answer = answer;
            config.limits.pages = pages;
        });
        let client = Client::stateless(&relay, &principal("mcp"), None);
        let tools = client.names("tools/list").await;
        assert!(!tools.iter().any(|name| name.starts_with("up__")), "{tools:?}");
        assert_eq!(fake.log.times("tools/list") - before, asked);
        let failure = relay.upstreams()[0].failures[0].clone();
        assert!(failure.reason.contains("too large"), "{failure:?}");
        assert_eq!(failure.served_from, None);
    }
}

#[tokio::test]
async fn merged_lists_come_in_pages_of_their_own() {
    let fake = Fake::start(Eras::Both).await;
    let relay = relay_with(vec![http("up", &fake), http("zz", &fake)], |config| config.limits.page = 5);
    for era in ERAS {
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let params = cursor.map_or(json!({}), |cursor: Value| json!({ "cursor": cursor }));
            let page = client.ask("tools/list", params).await.last();
            let tools = page["result"]["tools"].as_array().unwrap().clone();
            assert!(tools.len() <= 5);
            all.extend(tools.into_iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            cursor = page["result"].get("nextCursor").cloned();
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(all.len(), 2 + 2 * 11, "{all:?}");
        assert_eq!((all[2].as_str(), all.last().unwrap().as_str()), ("up__echo", "zz__verbatim"));
        for bad in ["", "x", "ZnJvbSA5OTk5", "ZnJvbSAtMQ"] {
            assert_eq!(client.ask("tools/list", json!({ "cursor": bad })).await.code(), -32602, "{bad}");
        }
    }
}

#[tokio::test]
async fn a_relay_that_shuts_down_leaves_nothing_open_anywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        let heard = world.client.listen(&["test://one"]).await;
        let waiting = world.client.waiting("w").await;
        world.relay.shutdown().await;
        heard.whole().await;
        waiting.whole().await;
        is_quiet(&world.relay).await;
        for pid in world.log.started() {
            crate::kit::child::is_gone(pid).await;
        }
    }
}
