//! An administrator lets somebody in, and ends that person's tokens: two people, two browsers.

use anyhow::Result;
use reqwest::StatusCode;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::browser::{Look, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};

const EVE: &str = "eve@example.org";
const EVES_PASSWORD: &str = "a long password of eve's";

#[tokio::test]
async fn who_is_invited_by_a_link_makes_a_token_and_the_administrator_finds_and_ends_it() -> Result<()> {
    let server = Server::start(&[]).await?;
    let another = server.token("agent-of-ada", "api:read", "1d").await?;
    browse(Look::default(), async |ada| {
        browse(Look::default(), async |eve| {
            ada.sign_in(&server, EMAIL, PASSWORD).await?;
            ada.see(".tokens").await?;
            ada.open(&server.at("/admin/people")?).await?;
            ada.fill("form[action='/admin/people'].stack [name=email]", EVE).await?;
            ada.click("form[action='/admin/people'].stack button").await?;
            let link = ada.text("#invite-link").await?;
            ada.reload().await?;
            ada.wait_for_text("[aria-labelledby=invites]", EVE).await?;
            assert!(!ada.html().await?.contains(&link), "the link is shown this once");

            // The link makes one account, and then nothing more.
            let link = link.parse()?;
            eve.open(&link).await?;
            let address = eve.see("[type=email]").await?.prop("value").await?;
            assert_eq!(address.as_deref(), Some(EVE), "the link says whose it is");
            eve.fill("[name=password]", EVES_PASSWORD).await?;
            eve.click("main button").await?;
            eve.wait_for_text(".empty", "No tokens yet").await?;
            eve.click("header button").await?;
            eve.wait_for_text("h1", "Sign in").await?;
            eve.open(&link).await?;
            eve.wait_for_text("h1", "This link no longer works").await?;
            eve.wait_for_text("main", "Ask the person who sent it for a new link").await?;
            assert_eq!(eve.count("[name=password]").await?, 0, "nothing is left to fill in");
            assert_eq!(reqwest::get(link).await?.status(), StatusCode::NOT_FOUND);

            // The person signs in as anybody does.
            eve.click("main a").await?;
            eve.fill("[name=email]", EVE).await?;
            eve.fill("[name=password]", EVES_PASSWORD).await?;
            eve.click("main button").await?;
            eve.fill("[name=pat_name]", "agent-of-eve").await?;
            eve.click("main form button").await?;
            let token = eve.text("#new-token").await?;
            assert_eq!(server.status(&token).await?, 200);
            eve.open(&server.at("/admin/tokens")?).await?;
            assert!(!eve.all_text().await?.contains("agent-of-ada"), "who is invited administers nothing");

            // Of all the tokens, the administrator finds that one.
            ada.open(&server.at("/admin/tokens")?).await?;
            ada.see("a[aria-label='Revoke agent-of-ada of ada@example.org']").await?;
            ada.fill("[name=owner]", "eve@").await?;
            ada.fill("[name=name]", "agent-").await?;
            ada.click("form.filters button").await?;
            ada.wait_for_text("#tokens", "1").await?;
            assert_eq!(ada.count(".tokens tbody tr").await?, 1);
            ada.click("a[aria-label='Revoke agent-of-eve of eve@example.org']").await?;
            ada.wait_for_text("h1", "Revoke “agent-of-eve” of eve@example.org?").await?;
            ada.click("main a.quiet").await?;
            ada.see("form.filters").await?;
            assert_eq!(server.status(&token).await?, 200, "who keeps it keeps it");
            ada.click("a[aria-label='Revoke agent-of-eve of eve@example.org']").await?;
            ada.click("button.danger").await?;
            ada.wait_for_text("[role=status]", "The token is revoked").await?;
            assert_eq!(server.status(&token).await?, 401, "as soon as that is said");
            assert_eq!(server.status(&another).await?, 200, "and nobody else's");
            ada.wait_for_text(".empty", "No results.").await?;

            // To its owner it is gone, and who did it is written down.
            eve.open(&server.at("/settings/developer")?).await?;
            eve.wait_for_text(".empty", "No tokens yet").await?;
            eve.open(&server.at("/settings/audit")?).await?;
            let log = eve.text("main").await?;
            assert!(log.contains("agent-of-eve") && log.contains(EMAIL), "{log}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn all_tokens_of_a_person_end_once_their_number_is_typed_right() -> Result<()> {
    let server = Server::start(&[]).await?;
    let own = server.token("of-ada", "api:read", "1d").await?;
    let api = Api::sign_in(&server).await?;
    api.let_in(EVE, EVES_PASSWORD).await?;
    let mut tokens = Vec::new();
    for name in ["one", "two", "three"] {
        tokens.push(server.token_of(EVE, name, "api:read", "1d").await?);
    }
    browse(Look::default(), async |ada| {
        ada.sign_in(&server, EMAIL, PASSWORD).await?;
        ada.see(".tokens").await?;
        ada.open(&server.at("/admin/people")?).await?;
        ada.fill("[type=search]", "eve").await?;
        ada.click("form.filters button").await?;
        ada.click("th a.name").await?;
        ada.wait_for_text("h1", EVE).await?;
        ada.wait_for_text("a.danger[href^='/admin/tokens']", "Revoke all 3 tokens").await?;
        ada.click("a.danger[href^='/admin/tokens']").await?;
        ada.wait_for_text("h1", "Revoke all active tokens of eve@example.org?").await?;
        let named = ada.text(".consequences").await?;
        for name in ["one", "two", "three"] {
            assert!(named.contains(name), "{name} is not in {named}");
        }

        // A slip ends nothing, and neither does a number that was right a moment ago.
        for (typed, says) in
            [("2", "matches 3 tokens, not 2"), ("all", "must be a number"), ("0", "matches 3 tokens, not 0")]
        {
            ada.fill("[name=expected]", typed).await?;
            ada.click("button.danger").await?;
            ada.wait_for_text("[role=alert]", says).await?;
        }
        tokens.push(server.token_of(EVE, "four", "api:read", "1d").await?);
        ada.fill("[name=expected]", "3").await?;
        ada.click("button.danger").await?;
        ada.wait_for_text("[role=alert]", "matches 4 tokens, not 3. Nothing was revoked").await?;
        for token in &tokens {
            assert_eq!(server.status(token).await?, 200, "nothing is revoked");
        }

        ada.fill("[name=expected]", "4").await?;
        ada.click("button.danger").await?;
        ada.wait_for_text("[role=status]", "4 tokens are revoked").await?;
        for token in &tokens {
            assert_eq!(server.status(token).await?, 401);
        }
        assert_eq!(server.status(&own).await?, 200, "the administrator's own is not touched");
        ada.open(&server.at("/admin/people?email=eve")?).await?;
        ada.click("th a.name").await?;
        ada.wait_for_text("h1", EVE).await?;
        assert_eq!(ada.count("a.danger[href^='/admin/tokens']").await?, 0, "there is nothing left to revoke");
        Ok(())
    })
    .await
}
