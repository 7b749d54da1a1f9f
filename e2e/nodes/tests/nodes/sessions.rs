//! A session of the session era, begun on one node and used on all.

use anyhow::Result;
use serde_json::json;
use trustrelay_e2e_nodes::client::{Client, Era};

use crate::{World, places};

const WATCHED: &str = "test://watched-resource";

#[tokio::test]
async fn a_session_that_began_at_one_node_is_good_at_all_of_them_until_it_is_ended_at_any() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    for (upstream, path) in places() {
        let client = Client::begin(&nodes[0], &token, &path).await?;
        let tool = client.tool(upstream, "test_simple_text");
        for node in nodes.iter().chain([&world.balancer.base]) {
            let said = client.call(node, &tool, json!({})).await?;
            assert_eq!(said, "This is a simple text response for testing.", "{path}");
        }
        assert_eq!(client.end(&nodes[1]).await?, 204, "{path}");
        for node in &nodes {
            assert_eq!(client.ask(node, "ping", json!({})).await?.0, 404, "{path}: it has ended everywhere");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_an_upstream_keeps_for_a_session_is_the_same_from_every_node() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    // A command of the session era has its state in the process: there is one for the token, and
    // not one on each node.
    for path in ["/mcp", "/mcp/old-pipe"] {
        let client = Client::begin(&nodes[0], &token, path).await?;
        let before =
            client.call(&nodes[0], &client.tool("old-pipe", "test_cancellations"), json!({})).await?;
        for node in &nodes {
            let wait =
                json!({ "name": client.tool("old-pipe", "test_wait"), "_meta": { "progressToken": 1 } });
            let (id, mut waiting) = client.open(node, "tools/call", wait).await?;
            waiting.until("notifications/progress").await?;
            assert_eq!(client.note(node, "notifications/cancelled", json!({ "requestId": id })).await?, 202);
            waiting.end().await?;
        }
        let counted = async |node| -> Result<u64> {
            Ok(client.call(node, &client.tool("old-pipe", "test_cancellations"), json!({})).await?.parse()?)
        };
        let expected = before.parse::<u64>()? + 3;
        trustrelay_e2e::until("all three to be counted", || async {
            (counted(&nodes[0]).await.ok()? == expected).then_some(())
        })
        .await?;
        for node in &nodes {
            assert_eq!(counted(node).await?, expected, "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_token_of_someone_else_and_an_altered_id_are_refused_at_every_node() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    let (_, other) = world.fleet.token("mcp").await?;
    let mine = Client::begin(&nodes[0], &token, "/mcp").await?;
    let mut theirs = Client::new(Era::Session, &other, "/mcp")?;
    theirs.session.clone_from(&mine.session);
    let mut altered = Client::new(Era::Session, &token, "/mcp")?;
    altered.session = mine.session.as_ref().map(|id| id.chars().rev().collect());
    let mut at_another = Client::new(Era::Session, &token, "/mcp/old")?;
    at_another.session.clone_from(&mine.session);
    for node in &nodes {
        for client in [&theirs, &altered, &at_another] {
            assert_eq!(client.ask(node, "ping", json!({})).await?.0, 404);
        }
        assert_eq!(mine.ask(node, "ping", json!({})).await?.0, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_client_without_sessions_needs_no_node_in_particular() -> Result<()> {
    let world = World::start().await?;
    let (nodes, (_, token)) = (world.nodes(), world.fleet.token("mcp").await?);
    for (upstream, path) in places() {
        let client = Client::new(Era::Stateless, &token, &path)?;
        for node in nodes.iter().chain([&world.balancer.base]) {
            let said = client.call(node, &client.tool(upstream, "test_simple_text"), json!({})).await?;
            assert_eq!(said, "This is a simple text response for testing.", "{path}");
        }
    }
    // What the upstream itself keeps over HTTP is everybody's, whichever node asks.
    let client = Client::new(Era::Stateless, &token, "/mcp/old")?;
    let revision = async |node| client.ask(node, "resources/read", json!({ "uri": WATCHED })).await;
    let before = revision(&nodes[0]).await?.1["result"]["contents"].clone();
    client.call(&nodes[1], "test_trigger_resource_update", json!({})).await?;
    let after = revision(&nodes[2]).await?.1["result"]["contents"].clone();
    assert!(
        before != after && after == revision(&nodes[0]).await?.1["result"]["contents"],
        "{before} {after}"
    );
    Ok(())
}
