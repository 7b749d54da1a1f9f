//! An administrator decides what tokens are held to, and others meet it.

use anyhow::Result;
use serde_json::json;
use trustrelay_e2e::api::Api;
use trustrelay_e2e::browser::{Look, Page, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};

const EVE: &str = "eve@example.org";
const EVES_PASSWORD: &str = "a long password of eve's";
const SPACE: &str = " ";
const ENTER: &str = "\u{E007}";
const SUBMIT: &str = "main form button[type=submit]";

/// Signs in, and goes to the page.
async fn at_the_policy(page: &Page, server: &Server) -> Result<()> {
    page.sign_in(server, EMAIL, PASSWORD).await?;
    page.see("nav").await?;
    page.open(&server.at("/admin/policy")?).await?;
    page.wait_for_text("h1", "Policy").await
}

#[tokio::test]
async fn tokens_that_a_policy_ends_are_counted_and_end_only_if_that_is_ticked() -> Result<()> {
    let server = Server::start(&[]).await?;
    let forgotten = server.token("forgotten", "api:read", "200d").await?;
    let server = server.aged(60).await?;
    let fresh = server.token("fresh", "api:read", "90d").await?;
    browse(Look::default(), async |page| {
        at_the_policy(page, &server).await?;
        page.fill("[name=unused_days]", "30").await?;
        page.fill("[name=allowed_networks]", "10.0.0.0/8").await?;
        page.click(SUBMIT).await?;
        page.wait_for_text("[role=alert]", "1 active token has not been used for 30 days").await?;
        page.wait_for_text("[role=alert]", "Nothing has been changed yet").await?;
        assert_eq!(server.status(&fresh).await?, 200, "the networks are not held to yet either");

        // Without the tick the browser sends nothing, and who sends it all the same is asked again.
        page.click(SUBMIT).await?;
        page.see("[name=ends_tokens]:invalid").await?;
        page.script("document.querySelector('[name=ends_tokens]').required = false").await?;
        page.click(SUBMIT).await?;
        page.see("[name=ends_tokens][required]").await?;
        assert_eq!(server.status(&fresh).await?, 200);
        assert_eq!(page.count("[role=status]").await?, 0);
        let kept = page.see("[name=allowed_networks]").await?.prop("value").await?;
        assert_eq!(kept.as_deref(), Some("10.0.0.0/8"), "what was filled in stays");

        // The keyboard is enough to say yes.
        page.tab_to("[name=ends_tokens]").await?;
        page.keys(SPACE).await?;
        page.tab_to(SUBMIT).await?;
        page.keys(ENTER).await?;
        page.wait_for_text("[role=status]", "applies on every node").await?;
        let says = page.text("main").await?;
        assert!(
            says.contains("1 active token has not been used for 30 days and will be revoked soon"),
            "{says}"
        );
        assert!(says.contains("Your address is outside the allowed IP ranges"), "{says}");
        for token in [&forgotten, &fresh] {
            assert_eq!(server.status(token).await?, 403);
            assert_eq!(server.refusal(token).await?, "network_not_allowed");
        }

        // Loaded again, the page decides nothing a second time.
        page.reload().await?;
        page.wait_for_text("main", "Your address is outside").await?;

        // Which one that is, is a link away.
        page.click(".due a[href*=unused_since]").await?;
        page.wait_for_text(".tokens tbody", "forgotten").await?;
        assert_eq!(page.count(".tokens tbody tr").await?, 1, "and no other one");
        page.open(&server.at("/admin/policy")?).await?;

        // Taken back, it holds no more.
        page.fill("[name=allowed_networks]", "").await?;
        page.click(SUBMIT).await?;
        page.wait_for_text("[role=status]", "applies on every node").await?;
        assert_eq!(server.status(&fresh).await?, 200);
        page.open(&server.at("/admin/audit")?).await?;
        let log = page.text("main").await?;
        assert_eq!(log.matches("changed the policy").count(), 2, "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_makes_a_token_sees_what_the_policy_allows_and_is_refused_beyond_it() -> Result<()> {
    let server = Server::start(&[]).await?;
    Api::sign_in(&server).await?.let_in(EVE, EVES_PASSWORD).await?;
    browse(Look::default(), async |ada| {
        browse(Look::default(), async |eve| {
            // Eve fills in the form of before.
            eve.sign_in(&server, EVE, EVES_PASSWORD).await?;
            eve.fill("[name=pat_name]", "nightly").await?;
            eve.click("[name=scope][value=api]").await?;
            eve.click("[name=expires_in_days] option[value='365']").await?;

            at_the_policy(ada, &server).await?;
            ada.fill("[name=max_days]", "60").await?;
            ada.fill("[name=default_days]", "14").await?;
            ada.click("[name=scope][value='api:read']").await?;
            ada.fill("[name=scope_more]", "mcp:github/search").await?;
            ada.click(SUBMIT).await?;
            ada.wait_for_text("[role=status]", "applies on every node").await?;

            // What she asks for is not made, and the form that comes back offers what is.
            eve.click("main form button").await?;
            eve.wait_for_text("[role=alert]", "does not allow").await?;
            assert_eq!(eve.count(".tokens").await?, 0, "nothing was made");
            for gone in ["[name=scope][value=api]", "[name=scope][value=mcp]", "option[value='365']"] {
                assert_eq!(eve.count(gone).await?, 0, "{gone}");
            }
            let says = eve.text("main").await?;
            assert!(says.contains("Maximum set by the policy: 60 days."), "{says}");
            assert!(
                says.contains("The policy limits new tokens to") && says.contains("mcp:github/search"),
                "{says}"
            );

            // Nor by typing it.
            eve.fill("[name=pat_name]", "nightly").await?;
            eve.fill("[name=scope_more]", "mcp:github/search mcp:github/delete").await?;
            eve.click("main form button").await?;
            eve.wait_for_text("[role=alert]", "does not allow `mcp:github/delete`").await?;
            eve.fill("[name=scope_more]", "mcp:github/search").await?;
            eve.click("[name=scope][value='api:read']").await?;
            eve.click("main form button").await?;
            let token = eve.text("#new-token").await?;
            assert_eq!(server.status(&token).await?, 200);
            let row = eve.text(".tokens tbody tr").await?;
            assert!(row.contains("13 days left"), "it has the usual life: {row}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_refused_over_the_api_too_by_a_code_of_its_own() -> Result<()> {
    let server = Server::start(&[]).await?;
    let api = Api::sign_in(&server).await?;
    api.create("before", "api").await?;
    browse(Look { scripts: false, ..Look::default() }, async |page| {
        at_the_policy(page, &server).await?;
        page.fill("[name=max_days]", "30").await?;
        page.click("[name=scope][value='api:read']").await?;
        page.click(SUBMIT).await?;
        page.wait_for_text("[role=status]", "applies on every node").await?;
        let refused = api.create("after", "api").await.expect_err("it is refused").to_string();
        assert!(refused.contains("403") && refused.contains("`api`"), "{refused}");
        let long = json!({ "pat_name": "long", "pat_scope": "api:read", "expires_in_days": 31 });
        let refused = api.post("/api/user/personal-access-tokens", &long).await.expect_err("too long");
        assert!(refused.to_string().contains("403"), "{refused}");
        api.create("after", "api:read").await.map(drop)
    })
    .await
}
