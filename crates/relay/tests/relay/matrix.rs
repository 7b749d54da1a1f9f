//! Every client with every upstream: both eras, both transports, both endpoints.

use serde_json::json;

use crate::kit::{Era, Place};

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
