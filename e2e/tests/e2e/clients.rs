//! Agents on the official client libraries, with a token, through the relay, at a real MCP server.

use anyhow::{Context, Result};
use serde_json::json;
use trustrelay_e2e::agent::{Agent, Library, refusal};
use trustrelay_e2e::api::Api;
use trustrelay_e2e::everything::Everything;
use trustrelay_e2e::server::Server;

#[tokio::test]
async fn an_agent_on_the_python_sdk_works_until_its_token_is_revoked() -> Result<()> {
    works_until_its_token_is_revoked(Library::Python).await
}

#[tokio::test]
async fn an_agent_on_the_python_sdk_with_sessions_works_until_its_token_is_revoked() -> Result<()> {
    works_until_its_token_is_revoked(Library::PythonWithSessions).await
}

#[tokio::test]
async fn an_agent_on_the_typescript_sdk_v1_works_until_its_token_is_revoked() -> Result<()> {
    works_until_its_token_is_revoked(Library::TypeScriptV1).await
}

#[tokio::test]
async fn an_agent_on_the_typescript_sdk_v2_works_until_its_token_is_revoked() -> Result<()> {
    works_until_its_token_is_revoked(Library::TypeScriptV2).await
}

async fn works_until_its_token_is_revoked(library: Library) -> Result<()> {
    let everything = Everything::start().await?;
    let server = Server::start(&[("everything", &everything.url)]).await?;
    let api = Api::sign_in(&server).await?;
    let (agents, other) = (api.create("agent", "mcp").await?, api.create("other", "mcp").await?);
    let mcp = server.at("/mcp")?;

    // Both connect, see the upstream's tools by their names and the relay's own, and can call them.
    let mut agent = Agent::connect(library, &mcp, &agents.token).await?;
    let mut neighbour = Agent::connect(library, &mcp, &other.token).await?;
    let tools = agent.tools().await?;
    for tool in ["everything__echo", "everything__get-sum", "trustrelay__whoami", "trustrelay__upstreams"] {
        assert!(tools.iter().any(|name| name == tool), "{tool} is not in {tools:?}");
    }
    assert_eq!(agent.call("everything__echo", json!({ "message": "hello" })).await?, "Echo: hello");
    assert!(agent.call("everything__get-sum", json!({ "a": 2, "b": 40 })).await?.contains("42"));
    assert!(agent.call("trustrelay__whoami", json!({})).await?.contains("ada@example.org"));

    // A call is under way in the upstream when the token is revoked: it is cut, long before its
    // minute is over.
    let long = json!({ "duration": 60, "steps": 600 });
    agent.begin("everything__trigger-long-running-operation", long).await?;
    agent.progress().await?;
    assert_eq!(
        api.revoke(&agents.id).await?,
        library.sessions(),
        "the agent's sessions are ended, and counted"
    );
    refusal(agent.end().await).context("the call in flight")?;

    // The open session is refused, and so is a new connection; nothing else has changed for the
    // neighbour. (Its list of tools a client may keep for a while, without asking; a call asks.)
    let open = refusal(agent.call("everything__echo", json!({ "message": "x" })).await)
        .context("the open session")?;
    let new = refusal(Agent::connect(library, &mcp, &agents.token).await).context("a new connection")?;
    for refused in [open, new] {
        assert!(refused.contains("401") || refused.contains("revoked"), "{refused}");
    }
    assert_eq!(
        neighbour.call("everything__echo", json!({ "message": "still here" })).await?,
        "Echo: still here"
    );
    Ok(())
}

#[tokio::test]
async fn an_agent_whose_token_opens_one_tool_sees_and_calls_that_tool_alone() -> Result<()> {
    let everything = Everything::start().await?;
    let server = Server::start(&[("everything", &everything.url)]).await?;
    let token = server.token("narrow", "mcp:everything/echo", "1d").await?;
    for library in [Library::Python, Library::TypeScriptV1, Library::TypeScriptV2] {
        let mut agent = Agent::connect(library, &server.at("/mcp")?, &token).await?;
        let tools = agent.tools().await?;
        let upstreams: Vec<_> = tools.iter().filter(|name| name.starts_with("everything__")).collect();
        assert_eq!(upstreams, ["everything__echo"], "{library:?}");
        assert_eq!(agent.call("everything__echo", json!({ "message": "x" })).await?, "Echo: x");
        refusal(agent.call("everything__get-sum", json!({ "a": 1, "b": 2 })).await)?;
    }
    Ok(())
}
