//! People and programs that know one address alone.

use anyhow::{Context, Result};
use serde_json::json;
use trustrelay_e2e::agent::{Agent, Library, refusal};
use trustrelay_e2e::api::Api;
use trustrelay_e2e::everything::Everything;
use trustrelay_e2e_nodes::balancer::{Affinity, Balancer};
use trustrelay_e2e_nodes::fleet::{Fleet, Setup};
use url::Url;

use crate::World;

#[tokio::test]
async fn whoever_signs_in_at_one_node_is_signed_in_at_all_and_so_are_the_tokens() -> Result<()> {
    let world = World::start().await?;
    let nodes = world.nodes();
    let everywhere = Api::sign_in_at(&world.balancer.base).await?;
    let made = everywhere.at(&nodes[0]).create("agent", "api").await?;
    let who = async |node: &Url| -> Result<u16> {
        let asked = reqwest::Client::new().get(node.join("/api/user")?).bearer_auth(&made.token);
        Ok(asked.send().await?.status().as_u16())
    };
    for node in &nodes {
        assert_eq!(everywhere.at(node).ids().await?, [&*made.id]);
        assert_eq!(who(node).await?, 200);
    }
    everywhere.at(&nodes[1]).revoke(&made.id).await?;
    for node in &nodes {
        assert_eq!(who(node).await?, 401, "the revocation has been answered");
        assert!(everywhere.at(node).ids().await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn agents_on_the_official_libraries_work_through_the_balancer_until_their_tokens_are_revoked()
-> Result<()> {
    let everything = Everything::start().await?;
    let fleet = Fleet::start(Setup::with(&[("everything", everything.url.to_string())])).await?;
    let balancer = Balancer::start(&fleet.bases(), Affinity::None).await?;
    let api = Api::sign_in_at(&balancer.base).await?;
    let works = async |library: Library| -> Result<()> {
        let (made, mcp) = (api.create("agent", "mcp").await?, balancer.base.join("/mcp")?);
        let mut agent = Agent::connect(library, &mcp, &made.token).await?;
        let tools = agent.tools().await?;
        assert!(tools.iter().any(|name| name == "everything__echo"), "{library:?}: {tools:?}");
        // More calls than there are nodes.
        for number in 0..5 {
            let said = agent.call("everything__echo", json!({ "message": number.to_string() })).await?;
            assert_eq!(said, format!("Echo: {number}"), "{library:?}");
        }
        let long = json!({ "duration": 60, "steps": 600 });
        agent.begin("everything__trigger-long-running-operation", long).await?;
        agent.progress().await?;
        // A session lives on one node, however many have seen requests of it.
        assert_eq!(api.revoke(&made.id).await?, library.sessions(), "{library:?}");
        refusal(agent.end().await).context("the call in flight")?;
        refusal(agent.call("everything__echo", json!({ "message": "x" })).await).context("the next one")?;
        refusal(Agent::connect(library, &mcp, &made.token).await).context("a new connection")?;
        Ok(())
    };
    tokio::try_join!(works(Library::Python), works(Library::TypeScriptV1))?;
    tokio::try_join!(works(Library::PythonWithSessions), works(Library::TypeScriptV2))?;
    Ok(())
}
