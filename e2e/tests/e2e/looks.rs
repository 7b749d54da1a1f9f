//! How the pages look: on a phone, in the dark, and to eyes that need contrast.

use anyhow::Result;
use serde_json::Value;
use trustrelay_e2e::browser::{Look, Page, browse};
use trustrelay_e2e::server::{EMAIL, PASSWORD, Server};

const LONG_NAME: &str =
    "a-name-without-a-space-that-is-as-long-as-a-name-may-be-and-then-some-of-it-is-even-longer-than-that";

/// Texts that stand out from their ground by less than WCAG 2 AA asks for: 4.5, or 3 where they are
/// large.
const FAINT_TEXTS: &str = r#"
const parse = (color) => { const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
const channel = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const light = ({ r, g, b }) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.a === 1) return color;
  }
  return { r: 255, g: 255, b: 255 };
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const faint = [];
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const [one, other] = [light(parse(style.color)), light(ground(element))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (contrast < (isLarge ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)}: ${texts.currentNode.data.trim()}`);
}
return faint;
"#;

/// Goes by all pages with something to show, and looks at each.
async fn visit(page: &Page, server: &Server, look: impl AsyncFn(&str) -> Result<()>) -> Result<()> {
    page.sign_in(server, EMAIL, "not the password").await?;
    page.see("[role=alert]").await?;
    look("sign in, refused").await?;
    page.fill("[name=password]", PASSWORD).await?;
    page.click("main button").await?;
    page.see(".tokens").await?;
    look("the list").await?;
    page.click(".tokens tr:first-child a.name").await?;
    page.see(".chart").await?;
    page.click(".numbers summary").await?;
    look("a token and its calls").await?;
    page.open(&server.at("/settings/developer")?).await?;
    page.fill("[name=pat_name]", "n").await?;
    page.fill("[name=scope_more]", "launch-rockets").await?;
    page.click("main form button").await?;
    page.see("[role=alert]").await?;
    look("a refused form").await?;
    page.fill("[name=scope_more]", "").await?;
    page.click("main form button").await?;
    page.see("#new-token").await?;
    look("a new token").await?;
    page.click(&format!("a[aria-label='Revoke {LONG_NAME}']")).await?;
    page.see("button.danger").await?;
    look("the question before revoking").await?;
    page.open(&server.at("/settings/developer?revoked=1")?).await?;
    look("the list after revoking").await?;
    page.open(&server.at("/settings/notices")?).await?;
    page.see(".empty").await?;
    look("no notices yet").await?;
    page.fill("[name=url]", &format!("https://127.0.0.1:9/{LONG_NAME}")).await?;
    page.click("form.stack button").await?;
    page.see("#webhook-secret").await?;
    look("a new webhook").await?;
    page.click(".places button").await?;
    page.see(".sent").await?;
    look("a test that did not arrive").await?;
    page.click(".places a").await?;
    page.see("button.danger").await?;
    look("the question before removing").await?;
    page.click("button.danger").await?;
    page.see("[role=status]").await?;
    look("the log after removing").await?;
    page.open(&server.at("/settings/profile")?).await?;
    look("the profile").await?;
    page.open(&server.at("/admin/people")?).await?;
    page.click("th a.name").await?;
    page.see("#upstreams").await?;
    look("a person").await?;
    page.click("a[href$='/disable']").await?;
    page.click("button.danger").await?;
    page.see("[role=alert]").await?;
    look("the question before disabling, refused").await?;
    page.open(&server.at("/admin/policy")?).await?;
    page.fill("[name=allowed_networks]", "10.0.0.0/8").await?;
    page.click("main form button").await?;
    page.see(".due").await?;
    look("a policy whose networks one is outside of").await?;
    page.open(&server.at("/nowhere")?).await?;
    look("nothing here").await
}

async fn with_tokens() -> Result<Server> {
    // A webhook on this machine, where nobody listens.
    let server = Server::start_with(&["--webhook-private-networks"]).await?;
    let scope = "mcp:github mcp:github/search mcp:github/create-an-issue api tokens";
    let token = server.token(LONG_NAME, scope, "5d").await?;
    assert!(server.call(&token, "trustrelay__whoami").await?, "a token may always ask who it is");
    server.token("soon", "mcp", "20d").await?;
    Ok(server)
}

#[tokio::test]
async fn from_a_phone_to_a_small_window_nothing_has_to_be_scrolled_sideways() -> Result<()> {
    let server = with_tokens().await?;
    browse(Look::default(), async |page| {
        visit(page, &server, async |name| {
            // A small phone, and the windows in which the table is a table with the least room.
            for width in [360, 840, 970, 1024] {
                page.resize(width).await?;
                assert_eq!(page.overflow().await?, 0, "{name} is wider than {width}");
            }
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn every_text_stands_out_in_light_and_in_dark_and_the_dark_is_dark() -> Result<()> {
    let server = with_tokens().await?;
    browse(Look::default(), async |page| {
        visit(page, &server, async |name| {
            for (dark, ground) in [(false, "rgb(245, 246, 250)"), (true, "rgb(16, 18, 24)")] {
                page.set_dark(dark).await?;
                assert_eq!(
                    page.script("return getComputedStyle(document.body).backgroundColor").await?,
                    ground
                );
                let faint = page.script(FAINT_TEXTS).await?;
                assert_eq!(faint, Value::Array(Vec::new()), "{name}, dark: {dark}");
            }
            Ok(())
        })
        .await
    })
    .await
}
