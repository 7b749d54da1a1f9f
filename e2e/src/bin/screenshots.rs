//! Takes pictures of the running program: the README's, or with a folder as the argument every page
//! in every state, wide and narrow, light and dark. Run it by `cargo xtask screenshots`.

// Where the pictures are goes to the terminal.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Client;
use trustrelay_e2e::browser::{Look, Page, browse};
use trustrelay_e2e::everything::Everything;
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};
use trustrelay_e2e::{tools, until};

const EVE: &str = "eve@example.org";
const LONG_NAME: &str =
    "nightly-dependency-audit-of-every-repository-in-the-organisation-with-a-report-by-mail";

/// Name, scopes, lifetime, and whether it has been used.
const TOKENS: [(&str, &str, &str, bool); 6] = [
    ("release-notes-bot", "api:read", "365d", false),
    (LONG_NAME, "mcp:everything mcp:everything/echo mcp:everything/get-sum api:read tokens", "300d", true),
    ("grafana-dashboards", "api:read", "5d", true),
    ("ci-pipeline", "mcp:everything/echo api", "25d", true),
    ("cursor-laptop", "mcp", "90d", false),
    ("claude-code", "mcp", "180d", true),
];

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::args_os().nth(1) {
        Some(folder) => every_page(&PathBuf::from(folder)).await,
        None => readme().await,
    }
}

/// The Developer page of someone with a few tokens.
async fn readme() -> Result<()> {
    let everything = Everything::start().await?;
    let server = Server::start(&[("everything", &everything.url)]).await?;
    for (name, scope, expires_in, used) in TOKENS.into_iter().filter(|token| token.0 != LONG_NAME) {
        make(&server, name, scope, expires_in, used).await?;
    }
    let file = tools::root().join("docs/images/developer.png");
    browse(Look { width: 1120, ..Look::default() }, async |page| {
        sign_in(page, &server).await?;
        used(page, 3).await?;
        save(page, &file).await
    })
    .await?;
    println!("{}", file.display());
    Ok(())
}

async fn every_page(folder: &Path) -> Result<()> {
    let everything = Everything::start().await?;
    // A webhook on this machine, where nobody listens.
    let upstream = format!("everything={}", everything.url);
    let server = Server::start_with(&["--upstream", &upstream, "--webhook-private-networks"]).await?;
    let fresh = Server::without_accounts().await?;
    // Tokens that nobody has used for long.
    let forgotten = Server::start(&[]).await?;
    for name in ["a-demo-of-last-year", "migration"] {
        forgotten.token(name, "mcp", "300d").await?;
    }
    let forgotten = forgotten.aged(60).await?;
    for (name, scope, expires_in, used) in TOKENS {
        make(&server, name, scope, expires_in, used).await?;
    }
    browse(Look::default(), async |page| {
        let shoot = async |name: &str| -> Result<()> {
            for (size, width) in [("wide", 1280), ("narrow", 390)] {
                for (scheme, dark) in [("light", false), ("dark", true)] {
                    page.resize(width).await?;
                    page.set_dark(dark).await?;
                    save(page, &folder.join(format!("{name}-{size}-{scheme}.png"))).await?;
                }
            }
            page.resize(1280).await
        };
        page.open(fresh.setup.as_ref().context("no link")?).await?;
        shoot("setup").await?;
        page.fill("[name=email]", "grace@example.org").await?;
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.see(".empty").await?;
        shoot("developer-empty").await?;
        page.open(fresh.setup.as_ref().context("no link")?).await?;
        shoot("setup-closed").await?;

        page.open(&server.at("/login")?).await?;
        shoot("login").await?;
        page.fill("[name=email]", EMAIL).await?;
        page.fill("[name=password]", "not the password").await?;
        page.click("main button").await?;
        page.see(".problem").await?;
        shoot("login-error").await?;
        sign_in(page, &server).await?;
        used(page, 4).await?;
        shoot("developer").await?;

        page.click(".limits summary").await?;
        shoot("developer-limits").await?;
        page.fill("[name=pat_name]", "deploy-bot").await?;
        page.fill("[name=scope_more]", "mcp:github/search launch-rockets").await?;
        page.click("main form button").await?;
        page.see(".problem").await?;
        shoot("developer-form-error").await?;
        page.fill("[name=scope_more]", "").await?;
        page.click("main form button").await?;
        page.see("#new-token").await?;
        shoot("developer-new-token").await?;

        page.open(&server.at("/settings/developer")?).await?;
        page.click(".tokens tr:last-child a.name").await?;
        page.see(".empty, .chart").await?;
        shoot("token-idle").await?;
        page.open(&server.at("/settings/developer")?).await?;
        page.click(".tokens tr:nth-child(2) a.name").await?;
        page.see(".chart").await?;
        shoot("token").await?;

        page.open(&server.at("/settings/developer")?).await?;
        page.click("a[aria-label='Revoke claude-code']").await?;
        page.see("button.danger").await?;
        shoot("revoke").await?;
        page.click("button.danger").await?;
        page.see(".done").await?;
        shoot("developer-revoked").await?;
        page.open(&server.at("/settings/developer")?).await?;
        page.click(&format!("a[aria-label='Revoke {LONG_NAME}']")).await?;
        page.see("button.danger").await?;
        shoot("revoke-long").await?;

        page.open(&server.at("/settings/developer")?).await?;
        page.click(".tokens tr:nth-child(2) a.name").await?;
        page.click("a[href$='/rotate']").await?;
        page.see("[name=overlap]").await?;
        shoot("rotate").await?;
        page.click("main form button").await?;
        page.see("#new-token").await?;
        shoot("rotated").await?;

        page.open(&server.at("/admin/people")?).await?;
        shoot("people").await?;
        page.click("th a.name").await?;
        page.see("#upstreams").await?;
        shoot("person").await?;
        page.click("a[href$='/demote']").await?;
        page.see("button.danger").await?;
        page.click("button.danger").await?;
        page.see(".problem").await?;
        shoot("person-demote-last").await?;
        page.open(&server.at("/admin")?).await?;
        page.fill("form.stack [name=email]", EVE).await?;
        page.click("form.stack button").await?;
        let invitation = page.text("#invite-link").await?;
        shoot("people-invited").await?;
        page.open(&invitation.parse()?).await?;
        shoot("invited").await?;
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.see(".empty").await?;
        page.open(&invitation.parse()?).await?;
        shoot("invited-closed").await?;

        for name in ["eves-laptop", "eves-nightly-job"] {
            server.token_of(EVE, name, "mcp", "90d").await?;
        }
        sign_in(page, &server).await?;
        page.open(&server.at("/admin/people?email=eve")?).await?;
        page.click("th a.name").await?;
        page.click("form [value=promote] + button").await?;
        page.see(".done").await?;
        shoot("person-promoted").await?;
        page.click("a[href$='/demote']").await?;
        page.see("button.danger").await?;
        shoot("person-demote").await?;
        page.click("main a.quiet").await?;
        page.click("a[href$='/disable']").await?;
        page.see("button.danger").await?;
        shoot("person-disable").await?;
        page.click("button.danger").await?;
        page.see(".done").await?;
        shoot("person-disabled").await?;

        page.open(&server.at("/admin/tokens")?).await?;
        shoot("all-tokens").await?;
        page.click("td.act a").await?;
        page.see("button.danger").await?;
        shoot("all-tokens-revoke").await?;
        page.open(&server.at("/admin/tokens?owner=ada%40&state=any")?).await?;
        shoot("all-tokens-found").await?;
        page.click(".head a").await?;
        page.fill("[name=expected]", "1000").await?;
        page.click("button.danger").await?;
        page.see(".problem").await?;
        shoot("all-tokens-revoke-all").await?;
        page.open(&server.at("/settings/audit")?).await?;
        shoot("audit").await?;

        page.open(&server.at("/settings/notices")?).await?;
        page.fill("[name=url]", "https://127.0.0.1:9/hooks").await?;
        page.click("form.stack button").await?;
        page.see("#webhook-secret").await?;
        shoot("notices-new-webhook").await?;
        page.click(".places button").await?;
        page.see(".sent").await?;
        shoot("notices").await?;
        page.click(".places a").await?;
        page.see("button.danger").await?;
        shoot("notices-remove").await?;

        page.open(&server.at("/admin/notices")?).await?;
        page.fill("[name=url]", "https://127.0.0.1:9/all").await?;
        page.click("form.stack button").await?;
        page.see("#webhook-secret").await?;
        page.click(".places button").await?;
        page.see(".sent").await?;
        shoot("all-notices").await?;
        page.open(&server.at("/admin/policy")?).await?;
        shoot("policy").await?;
        page.fill("[name=max_days]", "30").await?;
        page.fill("[name=default_days]", "60").await?;
        page.click("main form button").await?;
        page.see(".problem").await?;
        shoot("policy-error").await?;
        page.fill("[name=default_days]", "20").await?;
        page.fill("[name=unused_days]", "45").await?;
        page.click("[name=scope][value=mcp]").await?;
        page.fill("[name=scope_more]", "mcp:github/search").await?;
        page.fill("[name=allowed_networks]", "10.0.0.0/8 2001:db8::/32").await?;
        page.click("main form button").await?;
        page.see(".done").await?;
        shoot("policy-changed").await?;
        page.open(&server.at("/settings/developer")?).await?;
        shoot("developer-policy").await?;

        page.open(&server.at("/admin/audit")?).await?;
        shoot("all-audit").await?;

        page.open(&server.at("/settings/profile")?).await?;
        shoot("profile").await?;
        page.fill("[name=current_password]", "not the password").await?;
        page.fill("[name=new_password]", "another long password").await?;
        page.click("main form button").await?;
        page.see(".problem").await?;
        shoot("profile-error").await?;
        page.click("form[action$=everywhere] button").await?;
        page.see(".done").await?;
        shoot("profile-done").await?;

        page.open(&forgotten.at("/login")?).await?;
        page.fill("[name=email]", EMAIL).await?;
        page.fill("[name=password]", PASSWORD).await?;
        page.click("main button").await?;
        page.see(".tokens").await?;
        page.open(&forgotten.at("/admin/policy")?).await?;
        page.fill("[name=unused_days]", "30").await?;
        page.click("main form button").await?;
        page.see("[name=ends_tokens]").await?;
        shoot("policy-ends-tokens").await?;
        page.click("[name=ends_tokens]").await?;
        page.click("main form button").await?;
        page.see(".done").await?;
        shoot("policy-ending-tokens").await?;

        page.open(&server.at("/nowhere")?).await?;
        shoot("not-found").await?;
        page.open(&server.at("/settings/developer/no-such-id/revoke")?).await?;
        shoot("error").await
    })
    .await?;
    println!("{}", folder.display());
    Ok(())
}

async fn make(server: &Server, name: &str, scope: &str, expires_in: &str, used: bool) -> Result<()> {
    let token = server.token(name, scope, expires_in).await?;
    if used {
        Client::new().get(server.at("/api/user")?).bearer_auth(&token).send().await?.error_for_status()?;
        // Whether they end well or not: both are shown.
        for tool in
            ["everything__echo", "everything__get-env", "trustrelay__whoami", "everything__no-such-tool"]
        {
            server.call(&token, tool).await?;
        }
    }
    Ok(())
}

async fn sign_in(page: &Page, server: &Server) -> Result<()> {
    page.open(&server.at("/login")?).await?;
    page.fill("[name=email]", EMAIL).await?;
    page.fill("[name=password]", PASSWORD).await?;
    page.click("main button").await?;
    page.see(".tokens").await?;
    Ok(())
}

/// Waits until the list tells of this many uses; they are noted in batches.
async fn used(page: &Page, wanted: usize) -> Result<()> {
    until("the uses to be listed", || async {
        page.reload().await.ok()?;
        (page.count("td[data-label='Last used'] time").await.ok()? >= wanted).then_some(())
    })
    .await
}

async fn save(page: &Page, file: &Path) -> Result<()> {
    let png = BASE64_STANDARD.decode(page.picture().await?)?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, png).with_context(|| format!("{} cannot be written", file.display()))
}
