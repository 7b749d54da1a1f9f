//! A token gets a new secret in the browser.

use anyhow::Result;
use trustrelay_e2e::browser::{Look, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};

const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const UP: &str = "\u{E013}";

#[tokio::test]
async fn with_an_overlap_both_secrets_work_and_the_new_one_is_shown_once() -> Result<()> {
    let server = Server::start(&[]).await?;
    let old = server.token("agent", "api:read", "30d").await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.click(".tokens a.name").await?;
        page.click("a[href$='/rotate']").await?;
        page.wait_for_text("h1", "Rotate “agent”").await?;
        page.wait_for_text("main dl", &old[41..]).await?;
        page.click("[name=overlap][value=hour]").await?;
        page.click("main form button").await?;
        let new = page.text("#new-token").await?;
        assert!(new.starts_with("tr_pat_") && new != old, "no new token is shown");
        page.wait_for_text("main", "The old secret works until").await?;
        for secret in [&old, &new] {
            assert_eq!(server.status(secret).await?, 200);
        }

        // It is the token's page; loaded again, it shows the secret no more, and there is no third
        // one.
        page.reload().await?;
        page.wait_for_text("h1", "agent").await?;
        page.wait_for_text("main .lead", &new[41..]).await?;
        assert!(!page.html().await?.contains(&new));
        for secret in [&old, &new] {
            assert_eq!(server.status(secret).await?, 200);
        }

        // Revoking the token ends both.
        page.open(&server.at("/settings/developer")?).await?;
        page.click("a[aria-label='Revoke agent']").await?;
        page.click("button.danger").await?;
        page.wait_for_text("[role=status]", "The token is revoked").await?;
        for secret in [&old, &new] {
            assert_eq!(server.status(secret).await?, 401);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn at_once_the_old_secret_is_refused_and_the_keyboard_is_enough() -> Result<()> {
    let server = Server::start(&[]).await?;
    let old = server.token("agent", "api:read", "30d").await?;
    let other = server.token("other", "api:read", "90d").await?;
    browse(Look::default(), async |page| {
        page.open(&server.at("/login")?).await?;
        page.keys(&format!("{EMAIL}{TAB}{PASSWORD}{ENTER}")).await?;
        page.see(".tokens").await?;
        page.tab_to(".tokens tr:first-child a.name").await?;
        page.keys(ENTER).await?;
        page.wait_for_text("h1", "agent").await?;
        page.tab_to("a[href$='/rotate']").await?;
        page.keys(ENTER).await?;
        page.wait_for_text("h1", "Rotate “agent”").await?;
        // The choice is one stop; from its first the arrow goes around to its last.
        page.tab_to("[name=overlap]").await?;
        page.keys(UP).await?;
        page.see("[name=overlap][value=none]:checked").await?;
        assert_eq!(server.status(&old).await?, 200, "nothing has happened yet");
        page.tab_to("main form button[type=submit]").await?;
        page.keys(ENTER).await?;
        let new = page.text("#new-token").await?;
        page.wait_for_text("main", "The old secret no longer works.").await?;
        assert_eq!(server.status(&old).await?, 401);
        for secret in [&new, &other] {
            assert_eq!(server.status(secret).await?, 200);
        }
        page.reload().await?;
        page.wait_for_text("main .lead", &new[41..]).await?;
        assert!(!page.html().await?.contains(&new));
        assert_eq!(server.status(&new).await?, 200, "loading the page again rotates nothing");
        Ok(())
    })
    .await
}
