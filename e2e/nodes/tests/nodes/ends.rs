//! A token ends at one node, and with it everything of it at all of them.

use anyhow::Result;
use serde_json::json;
use trustrelay_e2e::api::Api;
use trustrelay_e2e_nodes::client::{Client, Era};

use crate::World;

#[tokio::test]
async fn a_revocation_at_any_node_ends_what_the_token_has_open_at_all() -> Result<()> {
    let world = World::start().await?;
    let nodes = world.nodes();
    let api = Api::sign_in_at(&world.balancer.base).await?;
    for revoked_at in &nodes {
        let ((id, token), (_, other)) = (world.fleet.token("mcp").await?, world.fleet.token("mcp").await?);
        let wait = |client: &Client| json!({ "name": client.tool("old", "test_wait"), "_meta": { "progressToken": 1 } });
        // A stream and a call of a session, and a call and a subscription without one: each at a
        // node of its own.
        let session = Client::begin(&nodes[0], &token, "/mcp").await?;
        let free = Client::new(Era::Stateless, &token, "/mcp")?;
        let others = Client::begin(&nodes[0], &other, "/mcp").await?;
        let listen = json!({ "notifications": { "toolsListChanged": true } });
        let mut open = vec![
            session.listen(&nodes[1], None).await?,
            session.open(&nodes[2], "tools/call", wait(&session)).await?.1,
            free.open(&nodes[1], "tools/call", wait(&free)).await?.1,
            free.open(&nodes[2], "subscriptions/listen", listen).await?.1,
        ];
        let mut neighbours = others.open(&nodes[1], "tools/call", wait(&others)).await?.1;
        for (at, live) in open.iter_mut().enumerate().skip(1) {
            assert!(live.next().await?.is_some(), "number {at} has begun");
        }
        neighbours.until("notifications/progress").await?;

        assert_eq!(api.at(revoked_at).revoke(&id).await?, 1, "the session, once");
        for live in &mut open {
            live.end().await?;
        }
        for node in &nodes {
            for client in [&session, &free] {
                assert_eq!(client.ask(node, "tools/list", json!({})).await?.0, 401);
            }
            assert_eq!(others.ask(node, "ping", json!({})).await?.0, 200, "nobody else's");
        }
    }
    Ok(())
}
