//! The Inspector's command line, as its users type it.

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::everything::Everything;
use trustrelay_e2e::process::raw_output;
use trustrelay_e2e::server::Server;
use trustrelay_e2e::tools;

/// What the Inspector says, and whether it ended well.
async fn inspect(server: &Server, token: &str, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(tools::node()?);
    command
        .arg(tools::node_modules()?.join(".bin/mcp-inspector"))
        .arg("--cli")
        .arg(server.at("/mcp")?.as_str());
    command
        .args(["--transport", "http", "--header", &format!("Authorization: Bearer {token}")])
        .args(arguments);
    // It keeps files of its own in the home directory.
    let home = TempDir::new()?;
    command.env("HOME", home.path());
    let output = raw_output("the Inspector", &mut command).await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
async fn the_inspector_lists_and_calls_tools_until_the_token_is_revoked() -> Result<()> {
    let everything = Everything::start().await?;
    let server = Server::start(&[("everything", &everything.url)]).await?;
    let api = Api::sign_in(&server).await?;
    let made = api.create("inspector", "mcp:everything").await?;

    let (worked, said) = inspect(&server, &made.token, &["--method", "tools/list"]).await?;
    assert!(worked, "{said}");
    let listed: Value = serde_json::from_str(&said)?;
    let names: Vec<_> = listed["tools"].as_array().into_iter().flatten().map(|tool| &tool["name"]).collect();
    assert!(names.iter().any(|name| *name == "everything__echo"), "{names:?}");

    let call = ["--method", "tools/call", "--tool-name", "everything__echo", "--tool-arg", "message=hello"];
    let (worked, said) = inspect(&server, &made.token, &call).await?;
    assert!(worked && said.contains("Echo: hello"), "{said}");

    api.revoke(&made.id).await?;
    let (worked, said) = inspect(&server, &made.token, &["--method", "tools/list"]).await?;
    assert!(!worked && said.contains("auth_required"), "{said}");
    assert!(!said.contains("everything__echo"), "{said}");
    Ok(())
}
