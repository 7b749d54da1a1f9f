//! What belongs to a call or to a session and comes by a request of its own, at whichever node.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trustrelay_e2e::until;
use trustrelay_e2e_nodes::balancer::Affinity;
use trustrelay_e2e_nodes::client::{Client, Era, text};

use crate::{World, places};

const WATCHED: &str = "test://watched-resource";

fn asking(client: &Client, upstream: &str) -> Value {
    json!({ "name": client.tool(upstream, "test_elicitation"), "arguments": { "message": "Who?" } })
}

fn answer() -> Value {
    json!({ "action": "accept", "content": { "username": "ada", "email": "ada@example.org" } })
}

#[tokio::test]
async fn an_answer_to_a_servers_question_reaches_the_call_from_any_node() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    for (upstream, path) in places() {
        let client = Client::begin(&nodes[0], &token, &path).await?;
        let (_, mut call) = client.open(&nodes[1], "tools/call", asking(&client, upstream)).await?;
        let question = call.until("elicitation/create").await?;
        assert_eq!(client.respond(&nodes[2], &question, answer()).await?, 202, "{path} {upstream}");
        let said = text(&call.last().await?)?;
        assert!(
            said.contains("action=accept") && said.contains("ada@example.org"),
            "{path} {upstream}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_to_no_question_is_refused_by_every_node() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    let client = Client::begin(&nodes[0], &token, "/mcp").await?;
    for node in &nodes {
        for id in [json!("trustrelay/0"), json!("old/1"), json!(7)] {
            assert_eq!(client.respond(node, &json!({ "id": id }), answer()).await?, 400, "{id}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_with_the_answers_goes_on_with_the_call_from_any_node_and_once() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    for (upstream, path) in places() {
        let client = Client::new(Era::Stateless, &token, &path)?;
        let mut params = asking(&client, upstream);
        let asked = client.ask(&nodes[0], "tools/call", params.clone()).await?.1;
        let requests = asked["result"]["inputRequests"].as_object().context(asked.to_string())?;
        let responses = requests.keys().map(|key| (key.clone(), answer())).collect::<serde_json::Map<_, _>>();
        params["inputResponses"] = json!(responses);
        if let Some(state) = asked["result"].get("requestState") {
            params["requestState"] = state.clone();
        }
        let done = client.ask(&nodes[1], "tools/call", params.clone()).await?.1;
        assert!(text(&done)?.contains("ada@example.org"), "{path} {upstream}: {done}");
        if upstream.starts_with("old") {
            let again = client.ask(&nodes[2], "tools/call", params).await?.1;
            assert_eq!(again["error"]["code"], -32602, "{path} {upstream}: the call is over: {again}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cancellation_reaches_the_call_from_any_node() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    for (upstream, path) in places() {
        let client = Client::begin(&nodes[0], &token, &path).await?;
        let counted =
            async || client.call(&nodes[1], &client.tool(upstream, "test_cancellations"), json!({})).await;
        let before: u64 = counted().await?.parse()?;
        let wait = json!({ "name": client.tool(upstream, "test_wait"), "_meta": { "progressToken": "p" } });
        let (id, mut waiting) = client.open(&nodes[1], "tools/call", wait).await?;
        assert_eq!(waiting.until("notifications/progress").await?["params"]["progressToken"], "p");
        assert_eq!(client.note(&nodes[2], "notifications/cancelled", json!({ "requestId": id })).await?, 202);
        until("the upstream to hear of it", || async {
            (counted().await.ok()?.parse() == Ok(before + 1)).then_some(())
        })
        .await?;
        waiting.end().await.with_context(|| format!("{path} {upstream}: the answer ends"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_sessions_stream_tells_at_one_node_what_was_subscribed_to_at_another_and_changed_by_a_third()
-> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    // On `/mcp` a URI is the first upstream's that has it; alone, each has its own.
    for (upstream, path) in places().filter(|(upstream, path)| *upstream == "new" || path != "/mcp") {
        let client = Client::begin(&nodes[0], &token, &path).await?;
        let mut heard = client.listen(&nodes[2], None).await?;
        assert_eq!(heard.status, 200, "{path}");
        let (status, subscribed) =
            client.ask(&nodes[1], "resources/subscribe", json!({ "uri": WATCHED })).await?;
        assert!(status == 200 && subscribed.get("result").is_some(), "{path}: {subscribed}");
        client.call(&nodes[0], &client.tool(upstream, "test_trigger_resource_update"), json!({})).await?;
        let update = heard.until("notifications/resources/updated").await?;
        assert_eq!(update["params"]["uri"], WATCHED, "{path}");
        client.call(&nodes[1], &client.tool(upstream, "test_trigger_tool_change"), json!({})).await?;
        heard.until("notifications/tools/list_changed").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_broke_off_is_taken_up_at_another_node() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    let client = Client::begin(&nodes[0], &token, "/mcp/old").await?;
    let (id, mut call) = client.open(&nodes[1], "tools/call", json!({ "name": "test_reconnection" })).await?;
    assert_eq!(call.end().await?, None, "the upstream breaks it off before the answer");
    let last = call.last_event.context("an event's id")?;
    let answer = client.listen(&nodes[2], Some(&last)).await?.last().await?;
    assert_eq!((answer["id"].as_u64(), &*text(&answer)?), (Some(id), "This answer came on another stream."));
    Ok(())
}

#[tokio::test]
async fn nodes_that_cannot_reach_each_other_refuse_what_is_at_home_elsewhere_unless_the_balancer_knows_its_home()
-> Result<()> {
    tokio::try_join!(answers_apart(Affinity::None), answers_apart(Affinity::BySession))?;
    Ok(())
}

/// A question is answered three times in a row, through the balancer, where nodes do not reach each
/// other.
async fn answers_apart(affinity: Affinity) -> Result<()> {
    let world = World::set_up(|setup| setup.with_node_urls = false, affinity).await?;
    let ((_, token), base) = (world.fleet.token("mcp").await?, world.balancer.base.clone());
    let client = Client::begin(&base, &token, "/mcp").await?;
    let (_, mut call) = client.open(&base, "tools/call", asking(&client, "old-pipe")).await?;
    let question = call.until("elicitation/create").await?;
    // One of three requests in a row comes to the node that asks; the others are told that it is
    // not there.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.respond(&base, &question, answer()).await?);
    }
    match affinity {
        Affinity::None => {
            statuses.sort_unstable();
            assert_eq!(statuses[1..], [400, 400]);
        }
        Affinity::BySession => {
            assert_eq!(statuses[0], 202);
            assert!(text(&call.last().await?)?.contains("ada@example.org"));
        }
    }
    Ok(())
}
