//! Every client with every upstream: both eras, both transports, both endpoints.

use axum::response::IntoResponse as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::kit::fake::as_json;
use crate::kit::{Client, Era, Eras, Fake, Place, http, principal, relay};

#[tokio::test]
async fn lists_calls_prompts_resources_and_completion_are_the_same_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        let client = &world.client;
        let tools = client.names("tools/list").await;
        for name in ["echo", "peek", "grow"] {
            // On `/mcp/NAME` the client receives the pages as the upstream divides them.
            let first_page = name == "echo" || place.at.is_none();
            assert_eq!(tools.contains(&client.tool(name)), first_page, "{place:?}: {tools:?}");
        }
        let echoed = client.call("echo", json!({"n": 1})).await;
        assert_eq!((echoed.status.as_u16(), echoed.done().as_str()), (200, r#"done {"n":1}"#), "{place:?}");
        assert_eq!(client.call("nothing", json!({})).await.last()["result"]["isError"], true, "{place:?}");

        assert_eq!(client.names("prompts/list").await, [client.tool("greet")], "{place:?}");
        let prompt =
            client.ask("prompts/get", json!({"name": client.tool("greet"), "arguments": {"a": "b"}})).await;
        assert_eq!(prompt.last()["result"]["messages"][0]["content"]["text"]["a"], "b", "{place:?}");
        let reference = json!({"type": "ref/prompt", "name": client.tool("greet")});
        let argument = json!({"name": "a", "value": "v"});
        let complete =
            client.ask("completion/complete", json!({"ref": reference, "argument": argument})).await;
        assert_eq!(complete.last()["result"]["completion"]["values"], json!(["v", "greet"]), "{place:?}");

        assert_eq!(client.names("resources/list").await, ["one"], "{place:?}");
        assert_eq!(client.names("resources/templates/list").await, ["each"], "{place:?}");
        for uri in ["test://one", "test://each/7"] {
            let read = client.ask("resources/read", json!({ "uri": uri })).await.last();
            assert_eq!(read["result"]["contents"][0]["uri"], uri, "{place:?}: {read}");
        }
        let missing = client.ask("resources/read", json!({"uri": "test://none"})).await.code();
        let code = if place.client == Era::Session { -32002 } else { -32602 };
        // On `/mcp/NAME` the error of an upstream of the other era is passed on unchanged.
        let own = place.client == Era::Session && place.asks_statelessly() && place.at.is_some();
        assert_eq!(missing, if own { -32602 } else { code }, "{place:?}");
        world.relay.shutdown().await;
    }
}

/// The version that the relay passed on must be one that it accepts afterwards.
#[tokio::test]
async fn every_version_of_the_session_era_is_spoken_in_front_and_behind() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let fake = Fake::gated(Eras::Session, move |seen| async move {
            let message: Value = serde_json::from_str(&seen.body).unwrap_or_default();
            let asked =
                seen.headers.get("mcp-protocol-version").map(|asked| asked.to_str().unwrap().to_owned());
            if message["method"] != "initialize" {
                // Once it is agreed, no other version is used.
                let other = message["method"].is_string() && asked.is_some_and(|asked| asked != version);
                let is_probe = message["method"] == "server/discover";
                return (other && !is_probe).then(|| StatusCode::BAD_REQUEST.into_response());
            }
            let result = json!({
                "protocolVersion": version, "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"},
            });
            Some(as_json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()))
        })
        .await;
        let relay = relay(vec![http("up", &fake)]);
        for at in [None, Some("up")] {
            let mut client = Client::silent(&relay, &principal("mcp"), at, Era::Session);
            let init = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
            let begun = client.post(&client.message(&json!(1), "initialize", &init)).await;
            client.session = Some(begun.headers()["mcp-session-id"].to_str().unwrap().to_owned());
            let begun = crate::kit::Live::of(begun).whole().await;
            assert_eq!(begun.last()["result"]["protocolVersion"], version, "{at:?}");
            let spoken = [("mcp-protocol-version", version)];
            let call = json!({"name": client.tool("echo"), "arguments": {}});
            let answer = client.post_with(&client.message(&json!(2), "tools/call", &call), &spoken).await;
            let answer = crate::kit::Live::of(answer).whole().await;
            assert_eq!(answer.done(), "done {}", "{version} {at:?}: {}", answer.text);
        }
    }
}
