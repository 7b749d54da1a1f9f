//! Power is taken from somebody: asked about first, and true when it is said.

use anyhow::Result;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::browser::{Look, Page, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};

const EVE: &str = "eve@example.org";
const EVES_PASSWORD: &str = "a long password of eve's";
const ENTER: &str = "\u{E007}";

/// Signs in as the administrator, and goes to Eve's page.
async fn at_eve(page: &Page, server: &Server) -> Result<()> {
    page.sign_in(server, EMAIL, PASSWORD).await?;
    page.see("nav").await?;
    page.open(&server.at("/admin/people?email=eve")?).await?;
    page.click("th a.name").await?;
    page.wait_for_text("h1", EVE).await
}

#[tokio::test]
async fn disabling_an_account_says_what_ends_and_ends_it_when_it_is_confirmed() -> Result<()> {
    let server = Server::start(&[]).await?;
    Api::sign_in(&server).await?.let_in(EVE, EVES_PASSWORD).await?;
    let token = server.token_of(EVE, "agent", "api:read", "90d").await?;
    let own = server.token("own", "api:read", "90d").await?;
    browse(Look::default(), async |ada| {
        browse(Look { scripts: false, ..Look::default() }, async |eve| {
            eve.sign_in(&server, EVE, EVES_PASSWORD).await?;
            eve.see(".tokens").await?;
            at_eve(ada, &server).await?;
            ada.tab_to("a[href$='/disable']").await?;
            ada.keys(ENTER).await?;
            ada.wait_for_text("h1", "Disable the account of eve@example.org?").await?;
            ada.wait_for_text(".consequences", "Its 1 active token is refused").await?;
            ada.wait_for_text(".consequences", "can no longer sign in").await?;
            ada.click("main a.quiet").await?;
            ada.wait_for_text("h1", EVE).await?;
            assert_eq!(server.status(&token).await?, 200, "who only asked has ended nothing");

            ada.tab_to("a[href$='/disable']").await?;
            ada.keys(ENTER).await?;
            ada.tab_to("button.danger").await?;
            ada.keys(ENTER).await?;
            ada.wait_for_text("[role=status]", "The account is disabled").await?;
            assert_eq!(server.status(&token).await?, 401, "as soon as that is said");
            assert_eq!(server.status(&own).await?, 200, "and nobody else's");
            eve.reload().await?;
            eve.wait_for_text("h1", "Sign in").await?;

            // Loaded again, the page does nothing a second time.
            ada.reload().await?;
            ada.wait_for_text("main", "Enable the account").await?;
            ada.click("form [value=enable] + button").await?;
            ada.wait_for_text("[role=status]", "Its tokens work again").await?;
            assert_eq!(server.status(&token).await?, 200);
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn the_role_is_taken_away_by_a_question_and_the_last_one_stays() -> Result<()> {
    let server = Server::start(&[]).await?;
    Api::sign_in(&server).await?.let_in(EVE, EVES_PASSWORD).await?;
    browse(Look { scripts: false, ..Look::default() }, async |ada| {
        browse(Look::default(), async |eve| {
            at_eve(ada, &server).await?;
            ada.click("form [value=promote] + button").await?;
            ada.wait_for_text("[role=status]", "is now an administrator").await?;
            eve.sign_in(&server, EVE, EVES_PASSWORD).await?;
            eve.see(".empty").await?;
            eve.open(&server.at("/admin/people")?).await?;
            eve.wait_for_text("h1", "People").await?;

            ada.click("a[href$='/demote']").await?;
            ada.wait_for_text("h1", "Remove the administrator role from eve@example.org?").await?;
            eve.reload().await?;
            eve.wait_for_text("h1", "People").await?;
            ada.click("button.danger").await?;
            ada.wait_for_text("[role=status]", "is no longer an administrator").await?;
            eve.reload().await?;
            eve.wait_for_text("h1", "Something went wrong").await?;
            eve.open(&server.at("/settings/profile")?).await?;
            eve.wait_for_text("h1", "Profile").await?;
            assert_eq!(eve.count("nav a[href^='/admin']").await?, 0);

            // The last one is told why not, where the question is.
            ada.open(&server.at("/admin/people?email=ada")?).await?;
            ada.click("th a.name").await?;
            ada.wait_for_text("h1", EMAIL).await?;
            ada.click("a[href$='/demote']").await?;
            ada.wait_for_text(".due", "This is your own account").await?;
            ada.click("button.danger").await?;
            ada.wait_for_text("[role=alert]", "Make another account an administrator first").await?;
            Ok(())
        })
        .await
    })
    .await
}
