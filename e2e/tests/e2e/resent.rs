//! A page is loaded again after a form, where no script keeps the form from being sent again.

use anyhow::Result;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::browser::{Look, Page, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};
use url::Url;

const WITHOUT_SCRIPTS: Look = Look { scripts: false, width: 1280, dark: false };

/// Loads the page again; it is still about the same, and what was shown once is not there.
async fn reload(page: &Page, secret: &str) -> Result<()> {
    page.reload().await?;
    page.see("nav").await?;
    assert_eq!(page.count(".fresh").await?, 0);
    assert!(!page.all_text().await?.contains(secret), "it is shown twice");
    Ok(())
}

#[tokio::test]
async fn a_token_is_made_once() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(WITHOUT_SCRIPTS, async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.fill("[name=pat_name]", "agent").await?;
        page.click("main form button").await?;
        let token = page.text("#new-token").await?;
        reload(page, &token).await?;
        assert_eq!(page.count(".tokens tbody tr").await?, 1);
        assert_eq!(server.status(&token).await?, 200);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_token_is_rotated_once_and_its_page_is_what_is_loaded_again() -> Result<()> {
    let server = Server::start(&[]).await?;
    let old = server.token("agent", "api:read", "90d").await?;
    browse(WITHOUT_SCRIPTS, async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.click(".tokens a.name").await?;
        page.click("a[href$='/rotate']").await?;
        page.click("main form button").await?;
        let new = page.text("#new-token").await?;
        reload(page, &new).await?;
        page.wait_for_text("h1", "agent").await?;
        page.wait_for_text("main .lead", &new[41..]).await?;
        // A second rotation would have ended the old secret at once.
        for secret in [&old, &new] {
            assert_eq!(server.status(secret).await?, 200);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn somebody_is_invited_once_and_the_link_that_was_sent_stays_good() -> Result<()> {
    let server = Server::start(&[]).await?;
    let api = Api::sign_in(&server).await?;
    browse(WITHOUT_SCRIPTS, async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see("nav").await?;
        page.open(&server.at("/admin/people")?).await?;
        page.fill("form.stack [name=email]", "eve@example.org").await?;
        page.click("form.stack button").await?;
        let link = page.text("#invite-link").await?;
        let invites = api.get("/api/admin/invites").await?;
        reload(page, &link).await?;
        assert_eq!(api.get("/api/admin/invites").await?, invites, "no second one takes its place");
        assert_eq!(reqwest::get(Url::parse(&link)?).await?.status(), 200);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_webhook_is_added_once() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(WITHOUT_SCRIPTS, async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see("nav").await?;
        page.open(&server.at("/settings/notices")?).await?;
        page.fill("[name=url]", "https://hooks.invalid/notices").await?;
        page.click("form.stack button").await?;
        let secret = page.text("#webhook-secret").await?;
        reload(page, &secret).await?;
        assert_eq!(page.count(".places li").await?, 1);
        Ok(())
    })
    .await
}
