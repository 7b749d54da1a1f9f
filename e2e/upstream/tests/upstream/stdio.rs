//! Over standard input and output.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use trustrelay_e2e::PATIENCE;
use trustrelay_e2e::process::Process;

use crate::{command, initialize, stateless};

/// A server, and the conversation with it.
struct Conversation(Process);

impl Conversation {
    fn start(era: &str) -> Result<Self> {
        Ok(Self(Process::start("upstream", &mut command(&["stdio", "--era", era]))?))
    }

    async fn say(&mut self, message: &Value) -> Result<()> {
        let input = self.0.input()?;
        input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    async fn hear(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.0.line().await?)?)
    }

    async fn ask(&mut self, message: &Value) -> Result<Value> {
        self.say(message).await?;
        self.hear().await
    }
}

#[tokio::test]
async fn a_server_of_the_session_era_has_never_heard_of_discovery_and_goes_on() -> Result<()> {
    let mut server = Conversation::start("session")?;
    let answer = server.ask(&stateless(1, "server/discover", "2026-07-28")).await?;
    assert_eq!(answer["error"]["code"], -32601);
    let answer = server.ask(&stateless(2, "tools/list", "2026-07-28")).await?;
    assert!(answer["error"]["code"].is_number() && answer["error"]["code"] != -32022, "{answer}");

    assert_eq!(server.ask(&initialize(3)).await?["result"]["protocolVersion"], "2025-11-25");
    // What it does not know in a request, it ignores.
    let answer = server.ask(&stateless(4, "tools/list", "2026-07-28")).await?;
    assert!(answer["result"]["tools"].is_array(), "{answer}");
    assert!(answer["result"].get("resultType").is_none());
    Ok(())
}

#[tokio::test]
async fn a_server_of_the_stateless_era_refuses_initialize_names_what_it_speaks_and_goes_on() -> Result<()> {
    let mut server = Conversation::start("stateless")?;
    let answer = server.ask(&initialize(1)).await?;
    assert_eq!(answer["error"]["code"], -32022);
    assert_eq!(answer["error"]["data"], json!({ "supported": ["2026-07-28"], "requested": "2025-11-25" }));
    server.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;

    let answer = server.ask(&stateless(2, "server/discover", "2026-07-28")).await?;
    assert_eq!(answer["result"]["supportedVersions"], json!(["2026-07-28"]));
    let answer = server.ask(&stateless(3, "tools/list", "2026-07-28")).await?;
    assert_eq!(answer["result"]["resultType"], "complete");
    let answer = server.ask(&stateless(4, "tools/list", "2025-11-25")).await?;
    assert_eq!(answer["error"]["code"], -32022);
    Ok(())
}

#[tokio::test]
async fn a_server_of_both_eras_answers_in_the_era_in_which_it_is_asked() -> Result<()> {
    let mut server = Conversation::start("both")?;
    let answer = server.ask(&stateless(1, "server/discover", "2026-07-28")).await?;
    let versions = answer["result"]["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!("2025-11-25")) && versions.contains(&json!("2026-07-28")));
    assert_eq!(server.ask(&initialize(2)).await?["result"]["protocolVersion"], "2025-11-25");

    let mut server = Conversation::start("both")?;
    let answer = server.ask(&stateless(1, "tools/list", "2026-07-28")).await?;
    assert_eq!(answer["result"]["resultType"], "complete");
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_never_answered_and_ends() -> Result<()> {
    let mut server = Conversation::start("session")?;
    server.ask(&initialize(1)).await?;
    let wait = json!({ "name": "test_wait", "_meta": { "progressToken": "begun" } });
    let begun =
        server.ask(&json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": wait })).await?;
    assert_eq!(begun["params"]["progressToken"], "begun");
    server
        .say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } }))
        .await?;
    // The count says that the call has ended; its answer would have come before.
    let counted = async {
        for id in 3.. {
            let count = json!({ "name": "test_cancellations" });
            let answer = server
                .ask(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": count }))
                .await?;
            assert_eq!(answer["id"], id, "the cancelled call was answered: {answer}");
            if answer["result"]["content"][0]["text"] == "1" {
                break;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, counted).await??;
    Ok(())
}

#[tokio::test]
async fn a_subscription_hears_of_what_it_asked_for_and_of_nothing_else() -> Result<()> {
    let mut server = Conversation::start("stateless")?;
    let mut listen = stateless(1, "subscriptions/listen", "2026-07-28");
    listen["params"]["notifications"] = json!({ "resourceSubscriptions": ["test://watched-resource"] });
    let acknowledged = server.ask(&listen).await?;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    for (id, tool) in [(2, "test_trigger_tool_change"), (3, "test_trigger_resource_update")] {
        let mut call = stateless(id, "tools/call", "2026-07-28");
        call["params"]["name"] = json!(tool);
        server.say(&call).await?;
    }
    let mut heard = vec![server.hear().await?, server.hear().await?, server.hear().await?];
    heard.retain(|message| message.get("id").is_none());
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["method"], "notifications/resources/updated");
    assert_eq!(heard[0]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    Ok(())
}
