//! Interaction during a call, in every combination: progress, logging, questions, cancellation.
//! Also unsolicited messages.

use std::sync::Arc;

use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use crate::kit::child::is_gone;
use crate::kit::client::subscription_of;
use crate::kit::fake::{as_json, stream};
use crate::kit::{
    Children, Client, Era, Eras, Fake, HOUR, Kept, Live, Place, Transport, http, is_quiet, principal,
    relay_with,
};

#[tokio::test]
async fn progress_comes_under_the_clients_own_token_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        for token in [json!("mine"), json!(41)] {
            let params = json!({"name": world.client.tool("progress"), "arguments": {"tag": "t"}, "_meta": {"progressToken": token}});
            let answer = world.client.ask("tools/call", params).await;
            assert_eq!(answer.done(), r#"done "t""#, "{place:?}");
            let steps: Vec<_> =
                answer.messages.iter().filter(|m| m["method"] == "notifications/progress").collect();
            assert_eq!(steps.len(), 2, "{place:?}: {}", answer.text);
            assert!(
                steps.iter().all(|step| step["params"]["progressToken"] == token),
                "{place:?}: {}",
                answer.text
            );
        }
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn log_messages_come_to_a_client_that_asks_for_them_and_to_no_stateless_one_that_does_not() {
    for place in Place::all() {
        let mut world = place.begin().await;
        if place.client == Era::Stateless {
            let silent = world.client.call("log", json!({"tag": "unasked"})).await;
            assert!(
                !silent.text.contains("unasked") && silent.text.contains("logged"),
                "{place:?}: {}",
                silent.text
            );
            world.client.log_level = Some("info");
        } else {
            let set = world.client.ask("logging/setLevel", json!({"level": "info"})).await.last();
            assert_eq!(set["result"], json!({}), "{place:?}");
        }
        let logged = world.client.call("log", json!({"tag": "asked"})).await;
        let note = logged.messages.iter().find(|m| m["method"] == "notifications/message");
        assert_eq!(note.unwrap_or_else(|| panic!("{place:?}: {}", logged.text))["params"]["data"], "asked");
        world.relay.shutdown().await;
    }
}

/// Lets the upstream ask a question, and answers it in the manner of the client's era.
async fn answered(client: &Client, method: &str, answer: &Value) -> String {
    let arguments = json!({"method": method, "params": {"message": "why?"}, "tag": "q"});
    let mut live = client.open_call("ask", arguments.clone()).await;
    let asked = live.message().await;
    if client.era == Era::Session {
        assert_eq!(
            (&asked["method"], &asked["params"]["message"]),
            (&json!(method), &json!("why?")),
            "{asked}"
        );
        assert_eq!(client.respond(&asked["id"], "result", answer.clone()).await, 202);
        return live.whole().await.done();
    }
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required", "{asked}");
    let (key, request) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((&request["method"], &request["params"]["message"]), (&json!(method), &json!("why?")));
    let retry = json!({"name": client.tool("ask"), "arguments": arguments, "requestState": result["requestState"],
        "inputResponses": {key: answer}});
    client.ask("tools/call", retry).await.done()
}

#[tokio::test]
async fn an_upstreams_questions_reach_the_client_and_its_answers_the_upstream_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        for (method, answer) in [
            (
                "sampling/createMessage",
                json!({"role": "assistant", "content": {"type": "text", "text": "42"}, "model": "m"}),
            ),
            ("elicitation/create", json!({"action": "accept", "content": {"n": 1}})),
            ("roots/list", json!({"roots": [{"uri": "file:///r"}]})),
        ] {
            let done = answered(&world.client, method, &answer).await;
            // A stateless upstream gets its own state back with the answer.
            let state = if place.asks_statelessly() { r#" "of-the-peer""# } else { "" };
            assert_eq!(done, format!("answered {answer}{state}"), "{place:?}");
        }
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn a_session_client_that_refuses_is_heard_as_far_as_the_upstreams_era_can_say_it() {
    for place in Place::all().into_iter().filter(|place| place.client == Era::Session) {
        let world = place.begin().await;
        for (method, word) in [("elicitation/create", "cancel"), ("sampling/createMessage", "")] {
            let mut live =
                world.client.open_call("ask", json!({"method": method, "params": {}, "tag": "q"})).await;
            let asked = live.message().await;
            let no = json!({"code": -1, "message": "no"});
            assert_eq!(world.client.respond(&asked["id"], "error", no).await, 202);
            let answer = live.whole().await;
            match (place.asks_statelessly(), word) {
                (false, _) => assert_eq!(answer.done(), "refused -1", "{place:?}"),
                (true, "") => assert_eq!(answer.code(), -32603, "{place:?}"),
                (true, word) => assert!(answer.done().contains(word), "{place:?}: {}", answer.text),
            }
        }
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn a_client_that_cancels_is_heard_upstream_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        let live = world.client.waiting("w").await;
        world.log.saw(r#"WAITS "w""#).await;
        match (place.client, live) {
            (Era::Stateless, live) => drop(live),
            (Era::Session, live) => {
                let other = world.client.note("notifications/cancelled", json!({"requestId": 99})).await;
                assert!(other.is_success(), "{place:?}");
                assert!(!world.log.has(r#"GONE "w""#), "{place:?}");
                world.client.note("notifications/cancelled", json!({"requestId": 7})).await;
                drop(live);
            }
        }
        world.log.saw(r#"GONE "w""#).await;
        let calls = crate::kit::eventually(|| (world.relay.open().calls == 0).then_some(())).await;
        assert!(calls.is_some(), "{place:?}: {:?}", world.relay.open());
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn on_a_pipe_that_all_share_a_log_message_that_may_be_anothers_is_nobodys() {
    let children = Children::new(Eras::Stateless).await;
    let relay = relay_with(vec![children.config("up")], |_| {});
    let [mut one, mut two] = [(); 2].map(|()| Client::stateless(&relay, &principal("mcp"), None));
    (one.log_level, two.log_level) = (Some("info"), Some("info"));
    let logs = async |client: &Client, tag: &str| {
        let answer = client.call("log", json!({ "tag": tag })).await;
        assert_eq!(answer.done(), "logged");
        answer.messages.len() - 1
    };
    assert_eq!(logs(&two, "alone").await, 1);
    let waiting = one.waiting("w").await;
    assert_eq!(logs(&two, "not for one").await, 0);
    one.revoke();
    let heard = waiting.whole().await;
    assert!(!heard.text.contains("not for one"), "{}", heard.text);
    children.log.saw(r#"GONE "w""#).await;
    assert_eq!(logs(&two, "alone again").await, 1);
}

#[tokio::test]
async fn calls_that_share_a_session_of_the_upstream_are_not_taken_for_each_other() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay_with(vec![http("up", &fake)], |_| {});
    let token = principal("mcp");
    // Both clients use the same ids and the same progress token.
    let [one, two] = [None, Some("up")].map(|at| Client::stateless(&relay, &token, at));
    let (first, second) = (one.waiting("one").await, two.waiting("two").await);
    assert_eq!(fake.sessions(), 2, "the token's, and the catalogue's");
    drop(first);
    fake.log.saw(r#"GONE "one""#).await;
    assert!(!fake.log.has(r#"GONE "two""#));
    drop(second);
    fake.log.saw(r#"GONE "two""#).await;
}

#[tokio::test]
async fn a_cancelled_call_of_one_upstream_alone_ends_though_the_upstream_says_nothing_to_it() {
    // An upstream that never learns of the cancellation.
    let fake = Fake::gated(Eras::Session, |seen| async move {
        seen.body.contains("notifications/cancelled").then(|| ::http::StatusCode::ACCEPTED.into_response())
    })
    .await;
    let kept = Arc::new(Kept::default());
    let recorder: Arc<dyn trustrelay_relay::Recorder> = kept.clone();
    let relay = relay_with(vec![http("up", &fake)], |config| config.recorder = Some(recorder));
    let client = Client::new(&relay, &principal("mcp"), Some("up")).await;
    let (cancelled, goes_on) = (client.waiting("one").await, client.waiting("two").await);
    client.note("notifications/cancelled", json!({"requestId": 7, "reason": "enough"})).await;
    assert!(cancelled.whole().await.messages.is_empty(), "there is no answer");
    assert_eq!(kept.outcome("wait").await, "cancelled");
    assert_eq!(fake.log.times(r#""reason":"enough""#), 1);
    assert_eq!(fake.log.times("notifications/cancelled"), 1, "the client's own word is all");
    assert_eq!(relay.open().calls, 1, "the other call goes on");
    drop(goes_on);
}

#[tokio::test]
async fn what_one_upstream_alone_still_answers_to_a_cancelled_call_passes() {
    for answers in [true, false] {
        let heard = Arc::new(tokio::sync::Notify::new());
        let fake = Fake::gated(Eras::Session, move |seen| {
            let heard = Arc::clone(&heard);
            async move {
                if seen.body.contains("notifications/cancelled") {
                    heard.notify_one();
                    return Some(::http::StatusCode::ACCEPTED.into_response());
                }
                if !seen.body.contains("\"slow\"") {
                    return None;
                }
                heard.notified().await;
                let answer =
                    r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"too late"}]}}"#;
                Some(if answers { as_json(answer) } else { stream("") })
            }
        })
        .await;
        let kept = Arc::new(Kept::default());
        let recorder: Arc<dyn trustrelay_relay::Recorder> = kept.clone();
        let relay = relay_with(vec![http("up", &fake)], |config| {
            config.recorder = Some(recorder);
            // The answer must never be late.
            config.limits.farewell = HOUR;
        });
        let client = Client::new(&relay, &principal("mcp"), Some("up")).await;
        let cancel = async {
            fake.log.saw("\"slow\"").await;
            client.note("notifications/cancelled", json!({"requestId": 7})).await;
        };
        let (answer, ()) = tokio::join!(client.call("slow", json!({})), cancel);
        match answers {
            true => assert_eq!(answer.done(), "too late"),
            false => assert!(answer.messages.is_empty(), "{answer:?}"),
        }
        assert_eq!(kept.outcome("slow").await, if answers { "ok" } else { "cancelled" });
    }
}

#[tokio::test]
async fn a_session_client_that_only_goes_away_has_not_cancelled() {
    for place in Place::all().into_iter().filter(|place| place.client == Era::Session) {
        let world = place.begin().await;
        drop(world.client.waiting("w").await);
        // A later request is answered, and nothing was cancelled.
        assert_eq!(world.client.call("echo", json!({})).await.done(), "done {}", "{place:?}");
        assert!(!world.log.has(r#"GONE "w""#) && !world.log.has("notifications/cancelled"), "{place:?}");
        assert_eq!(world.relay.open().calls, 1, "{place:?}");
        world.client.revoke();
        if place.transport == Transport::Stdio && !place.asks_statelessly() {
            // The token's own process ends with the token, and the call with the process.
            is_gone(world.log.started()[0]).await;
        } else {
            world.log.saw(r#"GONE "w""#).await;
        }
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn list_changes_come_to_those_who_listen_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        world.client.names("tools/list").await;
        world.client.call("echo", json!({})).await;
        let mut heard = world.client.listen(&[]).await;
        listening(&place, &world.log).await;
        world.client.call("grow", json!({})).await;
        assert_eq!(heard.message().await["method"], "notifications/tools/list_changed", "{place:?}");
        // A session-era process knows only of its own growth, and the list comes from another
        // process.
        let same = place.transport == Transport::Http || place.asks_statelessly();
        if place.at.is_none() && same {
            assert!(world.client.names("tools/list").await.contains(&"up__grown0".to_owned()), "{place:?}");
        }
        world.relay.shutdown().await;
    }
}

/// Waits until the relay listens to the upstream.
async fn listening(place: &Place, log: &crate::kit::Log) {
    let raw = place.client == Era::Session && place.at.is_some() && place.upstream != Eras::Stateless;
    match (place.transport, place.upstream) {
        (Transport::Stdio, Eras::Both) if place.asks_statelessly() => log.saw("LISTENS").await,
        (Transport::Http, Eras::Session) => log.saw("HEARS").await,
        (Transport::Http, _) if raw => log.saw("HEARS").await,
        (Transport::Http, _) | (_, Eras::Stateless) => log.saw("LISTENS").await,
        (Transport::Stdio, _) => {}
    }
}

#[tokio::test]
async fn a_stateless_listener_hears_nothing_that_it_did_not_ask_for() {
    for place in Place::all().into_iter().filter(|place| place.client == Era::Stateless) {
        let world = place.begin().await;
        let filter = json!({"resourceSubscriptions": ["test://one"]});
        let mut heard = world.client.open("subscriptions/listen", json!({ "notifications": filter })).await;
        let acknowledged = heard.message().await;
        assert_eq!(acknowledged["params"]["notifications"], filter, "{place:?}");
        world.client.names("tools/list").await;
        world.client.call("grow", json!({})).await;
        world.client.call("touch", json!({"uri": "test://each/9"})).await;
        world.client.call("touch", json!({"uri": "test://one"})).await;
        let first = heard.message().await;
        assert_eq!(
            (&first["method"], &first["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!("test://one")),
            "{place:?}"
        );
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn a_resources_updates_come_to_its_subscribers_and_stop_when_asked_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        let client = &world.client;
        let other = Client::of(&world.relay, &world.principal, place.at, place.client).await;
        let mut heard = client.listen(&["test://one"]).await;
        let mut other_heard = other.listen(&["test://each/2"]).await;
        if place.client == Era::Session {
            for (client, uri) in [(client, "test://one"), (&other, "test://each/2")] {
                let subscribed = client.ask("resources/subscribe", json!({ "uri": uri })).await.last();
                assert_eq!(subscribed["result"], json!({}), "{place:?}: {subscribed}");
            }
            if place.transport == Transport::Http && !place.asks_statelessly() {
                world.log.saw_times("HEARS", 2).await;
            }
        }
        let mut uris = vec!["test://one", "test://each/2"];
        for uri in &uris {
            client.call("touch", json!({ "uri": uri })).await;
        }
        for (heard, uri) in [(&mut heard, uris[0]), (&mut other_heard, uris[1])] {
            let mut update = heard.message().await;
            while update["method"] == "notifications/tools/list_changed" {
                update = heard.message().await;
            }
            // The notification carries the client's own subscription, if there is one. Its first
            // request opened it.
            let subscription = if place.client == Era::Stateless { json!(7) } else { json!(null) };
            assert_eq!(subscription_of(&update), subscription, "{place:?}: {update}");
            assert_eq!(
                (&update["method"], &update["params"]["uri"]),
                (&json!("notifications/resources/updated"), &json!(uri)),
                "{place:?}"
            );
        }
        if place.client == Era::Session {
            uris.push("test://each/3");
            for (method, uri) in [("resources/unsubscribe", uris[0]), ("resources/subscribe", uris[2])] {
                assert_eq!(
                    client.ask(method, json!({ "uri": uri })).await.last()["result"],
                    json!({}),
                    "{place:?}"
                );
            }
            for uri in [uris[0], uris[2]] {
                client.call("touch", json!({ "uri": uri })).await;
            }
            assert_eq!(heard.message().await["params"]["uri"], uris[2], "{place:?}");
        }
        drop((heard, other_heard));
        world.client.revoke();
        is_quiet(&world.relay).await;
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn two_clients_with_the_same_ids_at_the_same_time_get_each_their_own() {
    for place in Place::all() {
        let world = place.begin().await;
        let (one, two) =
            (&world.client, Client::of(&world.relay, &world.principal, place.at, place.client).await);
        let waiting = one.waiting("w").await;
        let calls = (0..20).map(|n| {
            let (client, tag) = (if n % 2 == 0 { one } else { &two }, format!("t{n}"));
            async move {
                let params = json!({"name": client.tool("progress"), "arguments": {"tag": tag}, "_meta": {"progressToken": 1}});
                let live = Live::of(client.post(&client.message(&json!("same"), "tools/call", &params)).await);
                (live.whole().await, tag)
            }
        });
        // In the session era an id may be used once per session, so only the two clients share one.
        let answers = match place.client {
            Era::Stateless => futures_util::future::join_all(calls).await,
            Era::Session => {
                let mut calls: Vec<_> = calls.collect();
                let last = calls.pop().unwrap();
                let (a, b) = tokio::join!(calls.pop().unwrap(), last);
                vec![a, b]
            }
        };
        for (answer, tag) in answers {
            assert_eq!(answer.done(), format!("done {:?}", tag), "{place:?}");
            assert_eq!(answer.last()["id"], "same", "{place:?}");
            let steps = &answer.messages[..answer.messages.len() - 1];
            assert_eq!(steps.len(), 2, "{place:?}: {}", answer.text);
            assert!(
                steps
                    .iter()
                    .all(|step| step["params"]["message"] == *tag && step["params"]["progressToken"] == 1),
                "{place:?}: {}",
                answer.text
            );
        }
        drop(waiting);
        world.relay.shutdown().await;
    }
}
