//! The OpenAPI document is held against the running program by a tool that makes up requests:
//! nothing is answered that the document does not say, and nothing fails on the server's side.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trustrelay_e2e::api::Api;
use trustrelay_e2e::schemathesis::{Credential, Operations, document, holds};
use trustrelay_e2e::server::Server;

const ALL_SCOPES: &str = "mcp api tokens rotate";

/// A token can end itself by these, and then all that follows is refused. See the story of what
/// ends a credential; an administrator's browser asks for the last two.
const ENDS_A_TOKEN: [&str; 4] = ["revokeToken", "rotateToken", "revokeAnyToken", "revokeMatchingTokens"];
/// The same of a session. `changeUser` can also make another administrator and then disable the one
/// who asks.
const ENDS_A_SESSION: [&str; 2] = ["logout", "changeUser"];
/// These send a request to wherever the webhook points. With a token they are refused before that.
const SENDS: [&str; 2] = ["testWebhook", "testSharedWebhook"];

/// A server where there is something to list: tokens, one of which has called a tool, a webhook, an
/// invitation.
async fn with_data() -> Result<(Server, Api)> {
    let server = Server::start(&[]).await?;
    let api = Api::sign_in(&server).await?;
    let used = api.create("used", "mcp api").await?;
    assert!(server.call(&used.token, "trustrelay__whoami").await?, "a token may always ask who it is");
    api.create("unused", "mcp").await?;
    // Nothing is sent there: the name has no address.
    let webhook = json!({ "url": "https://hooks.invalid/notices" });
    api.post("/api/user/webhooks", &webhook).await?;
    api.post("/api/admin/webhooks", &webhook).await?;
    api.post("/api/admin/users", &json!({ "email": "eve@example.org" })).await?;
    Ok((server, api))
}

/// How many operations the document has.
async fn operations(server: &Server) -> Result<usize> {
    let document: Value = serde_json::from_str(&document(server).await?)?;
    let paths = document["paths"].as_object().context("no paths")?;
    let ids = paths.values().filter_map(Value::as_object).flat_map(|path| path.values());
    Ok(ids.filter(|operation| operation["operationId"].is_string()).count())
}

#[tokio::test]
async fn every_answer_to_an_administrators_token_is_one_that_the_document_has() -> Result<()> {
    let (server, _) = with_data().await?;
    let token = server.token("all scopes", ALL_SCOPES, "1d").await?;
    let tested = holds(&server, Credential::Token(&token), Operations::AllBut(&ENDS_A_TOKEN)).await?;
    assert_eq!(tested, operations(&server).await? - ENDS_A_TOKEN.len());
    assert!(server.call(&token, "trustrelay__whoami").await?, "the token was good to the end");
    Ok(())
}

#[tokio::test]
async fn every_answer_to_an_administrators_browser_is_one_that_the_document_has() -> Result<()> {
    let (server, api) = with_data().await?;
    let without = [ENDS_A_SESSION, SENDS].concat();
    let browser = Credential::Session(api.session()?);
    let tested = holds(&server, browser, Operations::ChainedAllBut(&without)).await?;
    assert_eq!(tested, operations(&server).await? - without.len());
    assert!(api.is_signed_in().await?, "the session was good to the end");
    Ok(())
}

#[tokio::test]
async fn every_answer_where_a_credential_ends_itself_is_one_that_the_document_has() -> Result<()> {
    let (server, api) = with_data().await?;
    let token = server.token("to be ended", ALL_SCOPES, "1d").await?;
    let with_token = ["listTokens", "getToken", "rotateToken", "revokeToken"];
    let tested = holds(&server, Credential::Token(&token), Operations::Chained(&with_token)).await?;
    assert_eq!(tested, with_token.len());

    let in_a_browser = ["listUsers", "getUser", "changeUser"];
    let browser = Credential::Session(api.session()?);
    assert_eq!(holds(&server, browser, Operations::Chained(&in_a_browser)).await?, in_a_browser.len());

    let other = Api::sign_in(&server).await?;
    let browser = Credential::Session(other.session()?);
    assert_eq!(holds(&server, browser, Operations::Chained(&["logout"])).await?, 1);
    assert!(!other.is_signed_in().await?, "the session has ended");
    Ok(())
}
