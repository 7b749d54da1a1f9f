//! The pages, as a person uses them, in a real Chromium.

use anyhow::{Context, Result};
use trustrelay_e2e::browser::{LAN_HOST, Look, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};
use trustrelay_e2e::until;

const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const SPACE: &str = " ";
const CONTROL: &str = "\u{E009}";
const NULL: &str = "\u{E000}";

#[tokio::test]
async fn the_first_account_is_made_by_the_one_time_link_and_the_link_works_once() -> Result<()> {
    let server = Server::without_accounts().await?;
    let link = server.setup.as_ref().context("no link is printed")?;
    browse(Look::default(), async |page| {
        page.open(link).await?;
        page.fill("[name=email]", EMAIL).await?;
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.wait_for_text(".empty", "No tokens yet").await?;
        assert_eq!(page.url().await?.path(), "/settings/developer", "who made the account is signed in");
        page.open(link).await?;
        assert!(page.all_text().await?.contains("This link no longer works"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrong_password_is_told_and_the_right_one_leads_back_to_where_one_was_going() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look::default(), async |page| {
        page.open(&server.at("/settings/profile")?).await?;
        assert_eq!(page.url().await?.path(), "/login");
        page.fill("[name=email]", EMAIL).await?;
        page.fill("[name=password]", "not the password").await?;
        page.click("main button").await?;
        page.wait_for_text("[role=alert]", "The email address or the password is wrong.").await?;
        // The address is kept and the focus waits in the password's field.
        page.keys(PASSWORD).await?;
        page.keys(ENTER).await?;
        page.wait_for_text("h1", "Profile").await?;
        page.click("header button").await?;
        page.wait_for_text("h1", "Sign in").await?;
        page.open(&server.at("/settings/profile")?).await?;
        assert_eq!(page.url().await?.path(), "/login", "who has signed out is asked again");
        Ok(())
    })
    .await
}

/// Over plain HTTP under another name than loopback's, as on a home or office network.
#[tokio::test]
async fn people_set_up_and_sign_in_under_a_name_of_the_local_network() -> Result<()> {
    let server = Server::without_accounts().await?;
    let mut link = server.setup.clone().context("no link is printed")?;
    link.set_host(Some(LAN_HOST))?;
    browse(Look::default(), async |page| {
        page.open(&link).await?;
        page.fill("[name=email]", EMAIL).await?;
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.wait_for_text(".empty", "No tokens yet").await?;
        assert_eq!(page.url().await?.host_str(), Some(LAN_HOST));
        page.fill("[name=pat_name]", "from the office").await?;
        page.click("main form button").await?;
        page.see("#new-token").await?;
        page.click("header button").await?;
        page.wait_for_text("h1", "Sign in").await?;
        page.fill("[name=email]", EMAIL).await?;
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.see("header button").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_token_is_made_copied_shown_once_used_and_revoked() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see(".empty").await?;
        page.allow_clipboard(&server.base, true).await?;

        page.fill("[name=pat_name]", "my-agent").await?;
        page.click("[name=scope][value='api:read']").await?;
        page.fill("[name=scope_more]", "mcp:github/search").await?;
        page.click("[name=expires_in_days] option[value='7']").await?;
        page.click("main form button").await?;
        let token = page.text("#new-token").await?;
        assert!(token.starts_with("tr_pat_") && token.len() == 45, "no token is shown");
        let row = page.text(".tokens tbody tr").await?;
        for part in ["my-agent", "mcp", "api:read", "mcp:github/search", "never", "6 days left", &token[41..]]
        {
            assert!(row.contains(part), "{part} is not in {row}");
        }

        // Copied, it comes out where it is pasted.
        page.click("[data-copy='new-token']").await?;
        page.wait_for_text("[data-copy='new-token']", "Copied").await?;
        page.click("[name=scope_more]").await?;
        page.keys(&format!("{CONTROL}v{NULL}")).await?;
        let pasted = page.see("[name=scope_more]").await?.prop("value").await?;
        assert_eq!(pasted.as_deref(), Some(token.as_str()));

        // Another client's snippet is a choice away.
        assert!(page.text(".clients").await?.contains("claude mcp add"));
        page.click("label[for='client-5']").await?;
        let shown = page.text(".clients").await?;
        assert!(shown.contains("curl -H") && !shown.contains("claude mcp add"), "{shown}");

        // Loaded again, the page shows the token no more, and makes no second one.
        page.reload().await?;
        page.see(".tokens").await?;
        assert!(!page.html().await?.contains(&token));
        assert_eq!(page.count(".tokens tbody tr").await?, 1);

        // It is used, and the list tells.
        assert_eq!(server.status(&token).await?, 200);
        until("the use to be listed", || async {
            page.reload().await.ok()?;
            page.text("td[data-label='Last used']").await.ok().filter(|text| text.contains("just now"))
        })
        .await?;

        // Revoking is asked about first, and can be left.
        page.click(".tokens .act a").await?;
        let question = page.text("main").await?;
        for part in [
            "Revoke “my-agent”?",
            "Every further request with this token is refused",
            "MCP sessions",
            "just now",
            "api:read",
        ] {
            assert!(question.contains(part), "{part} is not in {question}");
        }
        page.click("main a.quiet").await?;
        page.see(".tokens").await?;
        assert_eq!(server.status(&token).await?, 200, "who keeps it keeps it");
        page.click(".tokens .act a").await?;
        page.click("button.danger").await?;
        page.wait_for_text("[role=status]", "The token is revoked").await?;
        page.see(".empty").await?;
        assert_eq!(server.status(&token).await?, 401);

        // The server has logged what happened, and not the secret.
        let log = server.log()?;
        assert!(log.contains("issued a token") && !log.contains(&token[7..39]), "{}", log.len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_access_to_the_clipboard_the_token_is_selected_for_the_keyboard() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see(".empty").await?;
        page.allow_clipboard(&server.base, false).await?;
        page.fill("[name=pat_name]", "my-agent").await?;
        page.click("main form button").await?;
        let token = page.text("#new-token").await?;
        page.click("[data-copy='new-token']").await?;
        page.wait_for_text("[data-copy='new-token']", "press Ctrl+C").await?;
        assert_eq!(page.script("return getSelection().toString()").await?, token.as_str());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_form_that_is_refused_says_why_first_and_keeps_what_was_filled_in() -> Result<()> {
    let server = Server::start(&[]).await?;
    server.token("an-earlier-one", "mcp", "1d").await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.fill("[name=pat_name]", "<b>bold</b>").await?;
        page.fill("[name=scope_more]", "launch-rockets").await?;
        page.click("main form button").await?;
        page.wait_for_text("[role=alert]", "`launch-rockets` is not a known scope").await?;
        let kept = page.see("[name=pat_name]").await?.prop("value").await?;
        assert_eq!(kept.as_deref(), Some("<b>bold</b>"));
        let above =
            "return document.querySelector('[role=alert]').getBoundingClientRect().bottom < innerHeight";
        assert_eq!(page.script(above).await?, true, "what is wrong is seen without scrolling");
        assert_eq!(page.count(".tokens tbody tr").await?, 1, "nothing was made");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_whole_way_goes_by_keyboard_alone() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look::default(), async |page| {
        page.open(&server.at("/login")?).await?;
        // The focus waits in the first field.
        page.keys(&format!("{EMAIL}{TAB}{PASSWORD}{ENTER}")).await?;
        page.see(".empty").await?;
        page.tab_to("[name=pat_name]").await?;
        page.keys("by-keyboard").await?;
        page.tab_to("[name=scope][value='api:read']").await?;
        page.keys(SPACE).await?;
        page.tab_to("main form button[type=submit]").await?;
        page.keys(ENTER).await?;
        let token = page.text("#new-token").await?;
        // The choice of clients is one stop; the arrows move in it.
        page.tab_to("[name=client]").await?;
        page.keys("\u{E014}").await?;
        assert!(page.text(".clients").await?.contains("mcp-remote"), "the next client is shown");
        page.tab_to("a[aria-label='Revoke by-keyboard']").await?;
        page.keys(ENTER).await?;
        page.wait_for_text("h1", "Revoke “by-keyboard”?").await?;
        page.tab_to("button.danger").await?;
        page.keys(ENTER).await?;
        page.wait_for_text("[role=status]", "The token is revoked").await?;
        assert_eq!(server.status(&token).await?, 401);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_whole_way_goes_without_scripts() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look { scripts: false, ..Look::default() }, async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.fill("[name=pat_name]", "no-scripts").await?;
        page.click("main form button").await?;
        let token = page.text("#new-token").await?;
        assert_eq!(server.status(&token).await?, 200);
        // What only a script can do is not offered; what the style sheet can do works.
        assert!(!page.see("[data-copy='new-token']").await?.is_displayed().await?);
        page.click("label[for='client-6']").await?;
        assert!(page.text(".clients").await?.contains("import asyncio"));
        page.click("a[aria-label='Revoke no-scripts']").await?;
        page.click("button.danger").await?;
        page.wait_for_text("[role=status]", "The token is revoked").await?;
        assert_eq!(server.status(&token).await?, 401);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_changed_password_and_signing_out_everywhere_end_the_other_browser() -> Result<()> {
    const NEW: &str = "a new long password";
    let server = Server::start(&[]).await?;
    let token = server.token("stays", "api", "1d").await?;
    browse(Look::default(), async |here| {
        browse(Look::default(), async |there| {
            here.sign_in(&server, EMAIL, PASSWORD).await?;
            here.see(".tokens").await?;
            there.sign_in(&server, EMAIL, PASSWORD).await?;
            there.see(".tokens").await?;

            here.open(&server.at("/settings/profile")?).await?;
            for (current, says) in [("not the password", "wrong"), (PASSWORD, "The password is changed.")] {
                here.fill("[name=current_password]", current).await?;
                here.fill("[name=new_password]", NEW).await?;
                here.click("form[action$=password] button").await?;
                here.wait_for_text("[role=alert], [role=status]", says).await?;
            }
            there.reload().await?;
            there.wait_for_text("h1", "Sign in").await?;

            there.sign_in(&server, EMAIL, PASSWORD).await?;
            there.see("[role=alert]").await?;
            there.sign_in(&server, EMAIL, NEW).await?;
            there.see(".tokens").await?;
            here.click("form[action$=everywhere] button").await?;
            here.wait_for_text("[role=status]", "Signed out of 1 other browser").await?;
            there.reload().await?;
            there.wait_for_text("h1", "Sign in").await?;
            here.reload().await?;
            here.wait_for_text("h1", "Profile").await?;
            assert_eq!(server.status(&token).await?, 200, "tokens are not touched");
            Ok(())
        })
        .await
    })
    .await
}
