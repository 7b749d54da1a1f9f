//! The record of use contains every call and its outcome, but never its contents.

use std::sync::Arc;

use serde_json::json;

use crate::kit::{Client, Era, Eras, Fake, Kept, Place, at, http, principal, relay_with};

#[tokio::test]
async fn every_call_is_recorded_with_how_it_ended_and_nothing_that_was_in_it() {
    for place in Place::all() {
        let world = place.begin().await;
        let client = &world.client;
        client.call("echo", json!({"a": "secret-argument"})).await;
        assert_eq!(world.kept.outcome("echo").await, "ok", "{place:?}");
        client.call("nothing", json!({})).await;
        assert_eq!(world.kept.outcome("nothing").await, "error", "{place:?}: what a tool says of itself");
        client.ask("resources/read", json!({"uri": "test://one"})).await;
        assert_eq!(world.kept.outcome("resources/read").await, "ok");
        client.ask("resources/read", json!({"uri": "test://each/7/none"})).await;
        let live = client.waiting("secret-argument").await;
        world.log.saw("WAITS").await;
        client.revoke();
        live.whole().await;
        assert_eq!(world.kept.outcome("wait").await, "cut", "{place:?}");
        for call in world.kept.all() {
            assert_eq!((call.upstream.as_str(), call.pat_id), ("up", client.pat_id()));
            assert!(call.bytes_in > 0 && !format!("{call:?}").contains("secret"), "{call:?}");
            assert!(call.bytes_out > 0 || call.outcome != "ok", "{place:?} {call:?}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_or_fails_is_recorded_as_well() {
    let fake = Fake::gated(Eras::Both, |seen| async move {
        seen.body.contains("break-it").then(|| crate::kit::fake::as_json("nonsense"))
    })
    .await;
    for endpoint in [None, Some("up")] {
        for era in [Era::Session, Era::Stateless] {
            let kept = Arc::new(Kept::default());
            let recorder: Arc<dyn trustrelay_relay::Recorder> = kept.clone();
            let closed = "http://127.0.0.1:1/".parse().unwrap();
            let relay = relay_with(vec![http("up", &fake), at("down", closed)], |config| {
                config.recorder = Some(recorder)
            });
            let client =
                Client::of(&relay, &principal("mcp:up/echo mcp:up/progress mcp:down"), endpoint, era).await;
            client.call("forbidden", json!({})).await;
            assert_eq!(kept.outcome("forbidden").await, "forbidden");
            client.call("echo", json!({"break-it": 1})).await;
            assert_eq!(kept.outcome("echo").await, "upstream_garbage", "{endpoint:?} {era:?}");
            for (method, name) in
                [("prompts/get", "greet"), ("completion/complete", "greet"), ("resources/read", "-")]
            {
                let reference = json!({"type": "ref/prompt", "name": client.tool(name)});
                let params = match method {
                    "prompts/get" => json!({"name": client.tool(name)}),
                    "resources/read" => json!({"uri": "test://one"}),
                    _ => json!({ "ref": reference }),
                };
                client.ask(method, params).await;
                if endpoint.is_some() || method == "prompts/get" {
                    assert_eq!(kept.outcome(method).await, "forbidden", "{endpoint:?} {era:?} {method}");
                }
            }
            if endpoint.is_none() {
                client.ask("tools/call", json!({"name": "down__any"})).await;
                assert_eq!(kept.outcome("any").await, "upstream_down", "{era:?}");
                client.ask("tools/call", json!({"name": "trustrelay__whoami"})).await;
                assert_eq!(kept.outcome("whoami").await, "ok");
            }
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_is_recorded_as_cancelled() {
    for place in Place::all() {
        let world = place.begin().await;
        let live = world.client.waiting("w").await;
        world.log.saw("WAITS").await;
        world.client.note("notifications/cancelled", json!({"requestId": 7})).await;
        drop(live);
        assert_eq!(world.kept.outcome("wait").await, "cancelled", "{place:?}");
        world.relay.shutdown().await;
    }
}
