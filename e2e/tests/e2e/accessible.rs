//! What people with a screen reader, a keyboard or a slow line meet: axe-core goes over every page,
//! and every page is weighed. The pages are found as a person finds them: by the links.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use trustrelay_e2e::api::Api;
use trustrelay_e2e::browser::{Look, Page, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};
use trustrelay_e2e::tools;
use url::Url;

/// What a page and all that it loads may weigh, in bytes.
const LIMIT: u64 = 100 * 1024;

/// What axe-core finds that is serious or worse, as `rule: element`.
const VIOLATIONS: &str = "
return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === 'serious' || impact === 'critical')
  .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`)));
";

/// How much has come for the page, as it came or as it lay in the browser's cache.
const WEIGHT: &str = "
return ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type))
  .reduce((sum, { encodedBodySize, transferSize }) => sum + Math.max(encodedBodySize, transferSize), 0);
";

const ONE_MORE_IMAGE: &str = "
const image = new Image();
return new Promise((loaded) => { image.onload = () => loaded(); image.src = '/assets/mark.svg?again'; });
";

const LINKS: &str = "return [...document.querySelectorAll('a[href]')].map((link) => link.href)";

/// Looks at the page that is shown: wide and narrow, light and dark.
async fn look(page: &Page, name: &str) -> Result<()> {
    let weight = page.script(WEIGHT).await?.as_u64().context("no number")?;
    assert!((1..LIMIT).contains(&weight), "{name} weighs {weight} bytes");
    // The pages allow no script but their own; what WebDriver runs is not asked.
    page.script(&std::fs::read_to_string(tools::axe()?)?).await?;
    for (width, dark) in [(360, false), (360, true), (1280, true), (1280, false)] {
        page.resize(width).await?;
        page.set_dark(dark).await?;
        let found = page.script(VIOLATIONS).await?;
        assert_eq!(found, json!([]), "{name}, {width} wide, dark: {dark}");
    }
    Ok(())
}

/// A path with its ids taken out: one token's page stands for those of all.
fn kind(path: &str) -> String {
    let is_id = |part: &str| part.len() == 36 && part.matches('-').count() == 4;
    path.split('/').map(|part| if is_id(part) { "{id}" } else { part }).collect::<Vec<_>>().join("/")
}

/// Goes wherever a link leads to, once for every kind of page; answers the kinds.
async fn by_every_link(page: &Page, server: &Server) -> Result<BTreeSet<String>> {
    let mut kinds = BTreeSet::from(["/settings/developer".to_owned()]);
    let mut ways = VecDeque::from([server.at("/settings/developer")?]);
    while let Some(url) = ways.pop_front() {
        page.open(&url).await?;
        look(page, &kind(url.path())).await?;
        let links = page.script(LINKS).await?;
        for link in links.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let link = Url::parse(link)?;
            let is_page = link.origin() == server.base.origin() && !link.path().starts_with("/api/");
            // The home page sends everybody on to the first page that was looked at.
            if is_page && link.path() != "/" && kinds.insert(kind(link.path())) {
                ways.push_back(link);
            }
        }
    }
    Ok(kinds)
}

#[tokio::test]
async fn every_page_that_a_link_leads_to_is_light_and_good_for_all_senses() -> Result<()> {
    let server = Server::start(&[]).await?;
    let used = server.token("a used one", "mcp api tokens rotate", "5d").await?;
    assert!(server.call(&used, "trustrelay__whoami").await?, "a token may always ask who it is");
    server.token("another", "mcp", "20d").await?;
    let api = Api::sign_in(&server).await?;
    // Nothing is sent there: the name has no address.
    api.post("/api/user/webhooks", &json!({ "url": "https://hooks.invalid/notices" })).await?;
    api.post("/api/admin/webhooks", &json!({ "url": "https://hooks.invalid/all" })).await?;
    api.post("/api/admin/users", &json!({ "email": "eve@example.org" })).await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see(".tokens").await?;
        let kinds = by_every_link(page, &server).await?;
        for known in [
            "/settings/profile",
            "/settings/developer/{id}",
            "/settings/developer/{id}/rotate",
            "/settings/developer/{id}/revoke",
            "/settings/notices",
            "/settings/audit",
            "/admin/people",
            "/admin/people/{id}",
            "/admin/people/{id}/disable",
            "/admin/people/{id}/demote",
            "/admin/tokens",
            "/admin/tokens/revoke",
            "/admin/tokens/{id}/revoke",
            "/admin/notices",
            "/admin/notices/{id}/remove",
            "/admin/policy",
            "/admin/audit",
        ] {
            assert!(kinds.contains(known), "no link leads to {known}, but to {kinds:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_page_that_a_form_answers_with_is_light_and_good_for_all_senses() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, "not the password").await?;
        page.see("[role=alert]").await?;
        look(page, "sign in, refused").await?;
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see(".empty").await?;
        look(page, "no tokens yet").await?;

        page.fill("[name=pat_name]", "agent").await?;
        page.fill("[name=scope_more]", "launch-rockets").await?;
        page.click("main form button").await?;
        page.see("[role=alert]").await?;
        look(page, "a refused form").await?;
        page.fill("[name=scope_more]", "").await?;
        page.click("main form button").await?;
        page.see("#new-token").await?;
        look(page, "a new token").await?;

        page.click(".tokens a.name").await?;
        page.click("a[href$='/rotate']").await?;
        page.click("main form button").await?;
        page.see("#new-token").await?;
        look(page, "a new secret").await?;
        page.open(&server.at("/settings/developer")?).await?;
        page.click("a[aria-label='Revoke agent']").await?;
        page.click("button.danger").await?;
        page.see("[role=status]").await?;
        look(page, "after revoking").await?;

        page.open(&server.at("/admin/people")?).await?;
        page.fill("form[action='/admin/people'].stack [name=email]", "eve@example.org").await?;
        page.click("form[action='/admin/people'].stack button").await?;
        page.see("#invite-link").await?;
        look(page, "an invitation").await?;
        page.click("th a.name").await?;
        page.click("a[href$='/demote']").await?;
        page.click("button.danger").await?;
        page.see("[role=alert]").await?;
        look(page, "the last administrator, kept").await?;

        page.open(&server.at("/admin/policy")?).await?;
        page.fill("[name=max_days]", "30").await?;
        page.fill("[name=default_days]", "60").await?;
        page.click("main form button").await?;
        page.see("[role=alert]").await?;
        look(page, "a policy, refused").await?;
        page.fill("[name=default_days]", "20").await?;
        page.fill("[name=allowed_networks]", "10.0.0.0/8").await?;
        page.click("main form button").await?;
        page.see("[role=status]").await?;
        look(page, "a policy").await?;
        page.open(&server.at("/settings/developer")?).await?;
        look(page, "a token's form under a policy").await?;

        page.open(&server.at("/nowhere")?).await?;
        look(page, "nothing here").await
    })
    .await
}

#[tokio::test]
async fn the_pages_by_which_people_come_in_are_light_and_good_for_all_senses() -> Result<()> {
    let fresh = Server::without_accounts().await?;
    let setup = fresh.setup.as_ref().context("no link is printed")?;
    let server = Server::start(&[]).await?;
    let api = Api::sign_in(&server).await?;
    let invited = api.post("/api/admin/users", &json!({ "email": "eve@example.org" })).await?;
    let invitation = Url::parse(invited["invite_url"].as_str().context("no link")?)?;
    browse(Look::default(), async |page| {
        for (name, url) in [
            ("sign in", &server.at("/login")?),
            ("the first account", setup),
            ("an invited one", &invitation),
        ] {
            page.open(url).await?;
            page.see("[name=password]").await?;
            look(page, name).await?;
        }
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.see(".empty").await?;
        page.open(&invitation).await?;
        page.wait_for_text("h1", "no longer works").await?;
        look(page, "an invitation that was accepted").await
    })
    .await
}

#[tokio::test]
async fn what_the_administrators_of_others_are_asked_and_told_is_light_and_good_for_all_senses() -> Result<()>
{
    let server = Server::start(&[]).await?;
    server.token("forgotten", "api:read", "200d").await?;
    let server = server.aged(60).await?;
    Api::sign_in(&server).await?.let_in("eve@example.org", PASSWORD).await?;
    browse(Look::default(), async |page| {
        page.sign_in(&server, EMAIL, PASSWORD).await?;
        page.see(".tokens").await?;
        page.open(&server.at("/admin/people?email=eve")?).await?;
        page.click("th a.name").await?;
        page.click("a[href$='/disable']").await?;
        page.click("button.danger").await?;
        page.see("[role=status]").await?;
        look(page, "a disabled account").await?;
        page.open(&server.at("/admin/policy")?).await?;
        page.fill("[name=unused_days]", "30").await?;
        page.fill("[name=scope_more]", "mcp mcp:github/search").await?;
        page.click("main form button").await?;
        page.see("[name=ends_tokens]").await?;
        look(page, "a policy that ends tokens").await
    })
    .await
}

#[tokio::test]
async fn what_is_wrong_with_a_page_is_found() -> Result<()> {
    let server = Server::start(&[]).await?;
    browse(Look::default(), async |page| {
        page.open(&server.at("/login")?).await?;
        page.script(&std::fs::read_to_string(tools::axe()?)?).await?;
        page.script(
            "document.querySelector('label').firstChild.remove(); document.documentElement.lang = ''",
        )
        .await?;
        let found = page.script(VIOLATIONS).await?.to_string();
        for rule in ["html-has-lang: ", "label: "] {
            assert!(found.contains(rule), "{rule} is not in {found}");
        }
        let before = page.script(WEIGHT).await?.as_u64();
        page.script(ONE_MORE_IMAGE).await?;
        assert!(page.script(WEIGHT).await?.as_u64() > before, "what is loaded later is weighed too");
        Ok(())
    })
    .await
}
