//! A real, headless Chromium.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use url::Url;

use crate::cdp::Cdp;
use crate::process::{Process, free_port};
use crate::server::Server;
use crate::{PATIENCE, tools, until};

/// A host name for this machine that is not loopback's: browsers trust plain HTTP less there.
pub const LAN_HOST: &str = "relay.lan.test";

/// How the browser is set up.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Whether scripts run.
    pub scripts: bool,
    /// The width of the page; below 600 it is a phone's.
    pub width: u32,
    /// Whether the person prefers dark colours.
    pub dark: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { scripts: true, width: 1280, dark: false }
    }
}

/// Opens a browser for the length of a story. It is closed however the story ends.
pub async fn browse(look: Look, story: impl AsyncFnOnce(&Page) -> Result<()>) -> Result<()> {
    let port = free_port()?;
    let profile = TempDir::new()?;
    let mut command = Command::new(tools::chromedriver()?);
    command.arg(format!("--port={port}")).stderr(Stdio::null());
    let mut driver = Process::start("chromedriver", &mut command)?;
    driver.drain();
    let address = format!("http://127.0.0.1:{port}");
    until("chromedriver to listen", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await?;
    let client = connect(&address, look, &profile).await?;
    let page = Page { client: client.clone() };
    let told = AssertUnwindSafe(async {
        page.resize(look.width).await?;
        page.set_dark(look.dark).await?;
        story(&page).await
    });
    let told = told.catch_unwind().await;
    let closed = client.close().await;
    drop(driver);
    match told {
        Ok(told) => {
            told?;
            Ok(closed?)
        }
        Err(panic) => resume_unwind(panic),
    }
}

async fn connect(address: &str, look: Look, profile: &TempDir) -> Result<Client> {
    let mut arguments = vec![
        "--headless".to_owned(),
        "--no-sandbox".into(),
        "--disable-gpu".into(),
        "--disable-dev-shm-usage".into(),
        "--disable-quic".into(),
        "--no-first-run".into(),
        "--disable-background-networking".into(),
        "--disable-component-update".into(),
        "--disable-sync".into(),
        "--hide-scrollbars".into(),
        "--window-size=1280,900".into(),
        format!("--host-resolver-rules=MAP {LAN_HOST} 127.0.0.1"),
        format!("--user-data-dir={}", profile.path().display()),
    ];
    if !look.scripts {
        arguments.push("--blink-settings=scriptEnabled=false".into());
    }
    let options = json!({
        "goog:chromeOptions": { "args": arguments, "binary": tools::chromium()?, "prefs": {
            "credentials_enable_service": false, "profile.password_manager_enabled": false,
        } },
    });
    let Value::Object(capabilities) = options else { bail!("capabilities are an object") };
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder.capabilities(capabilities);
    Ok(builder.connect(address).await?)
}

/// What the browser shows.
#[derive(Debug)]
pub struct Page {
    client: Client,
}

impl Page {
    /// Goes to an address.
    pub async fn open(&self, url: &Url) -> Result<()> {
        Ok(self.client.goto(url.as_str()).await?)
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        Ok(self.client.refresh().await?)
    }

    /// The address of the page that is shown.
    pub async fn url(&self) -> Result<Url> {
        Ok(self.client.current_url().await?)
    }

    /// Fills in the sign-in form and sends it; what comes of it is for the story to see.
    pub async fn sign_in(&self, server: &Server, email: &str, password: &str) -> Result<()> {
        self.open(&server.at("/login")?).await?;
        self.fill("[name=email]", email).await?;
        self.fill("[name=password]", password).await?;
        self.click("main button").await
    }

    /// The first element that a CSS selector finds, waited for.
    pub async fn see(&self, css: &str) -> Result<Element> {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.with_context(|| format!("`{css}` is not on the page"))
    }

    /// How many elements a CSS selector finds now.
    pub async fn count(&self, css: &str) -> Result<usize> {
        Ok(self.client.find_all(Locator::Css(css)).await?.len())
    }

    /// The text of an element, as it is seen.
    pub async fn text(&self, css: &str) -> Result<String> {
        Ok(self.see(css).await?.text().await?)
    }

    /// The text of the whole page, as it is seen.
    pub async fn all_text(&self) -> Result<String> {
        self.text("body").await
    }

    /// All that came for the page, also what is not seen.
    pub async fn html(&self) -> Result<String> {
        let html = self.script("return document.documentElement.outerHTML").await?;
        html.as_str().map(str::to_owned).context("no text")
    }

    /// Waits until an element's text contains something.
    pub async fn wait_for_text(&self, css: &str, wanted: &str) -> Result<()> {
        until(&format!("`{wanted}` in `{css}`"), || async {
            self.text(css).await.ok().filter(|text| text.contains(wanted)).map(drop)
        })
        .await
    }

    /// Types into a field, in place of what was in it.
    pub async fn fill(&self, css: &str, text: &str) -> Result<()> {
        let field = self.see(css).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Clicks on something.
    pub async fn click(&self, css: &str) -> Result<()> {
        let element = self.see(css).await?;
        element.click().await.with_context(|| format!("`{css}` cannot be clicked"))
    }

    /// Presses keys, wherever the focus is.
    pub async fn keys(&self, keys: &str) -> Result<()> {
        Ok(self.client.active_element().await?.send_keys(keys).await?)
    }

    /// Presses Tab until the focus is on the element.
    pub async fn tab_to(&self, css: &str) -> Result<()> {
        const STEPS: usize = 60;
        let script = format!("return document.activeElement.matches({})", json!(css));
        for _ in 0..STEPS {
            self.keys("\u{E004}").await?;
            if self.script(&script).await? == true {
                return Ok(());
            }
        }
        bail!("the focus does not come to `{css}` in {STEPS} steps")
    }

    /// Runs a script in the page and answers what it returns.
    pub async fn script(&self, script: &str) -> Result<Value> {
        Ok(self.client.execute(script, Vec::new()).await?)
    }

    /// How much wider the content is than the window.
    pub async fn overflow(&self) -> Result<i64> {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.script(script).await?.as_i64().context("no number")
    }

    /// Makes the page as wide as a window of this width, or a phone's screen.
    pub async fn resize(&self, width: u32) -> Result<()> {
        let is_phone = width < 600;
        let height = if is_phone { 844 } else { 900 };
        let scale = if is_phone { 2 } else { 1 };
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.cdp("Emulation.setDeviceMetricsOverride", params).await?;
        Ok(())
    }

    /// Lets the person prefer dark colours, or light ones.
    pub async fn set_dark(&self, dark: bool) -> Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.cdp("Emulation.setEmulatedMedia", features).await?;
        Ok(())
    }

    /// Lets the pages of an origin use the clipboard, or not.
    pub async fn allow_clipboard(&self, origin: &Url, allowed: bool) -> Result<()> {
        for permission in ["clipboard-read", "clipboard-write"] {
            let setting = if allowed { "granted" } else { "denied" };
            let params = json!({
                "permission": { "name": permission, "allowWithoutSanitization": false },
                "setting": setting, "origin": origin.origin().ascii_serialization(),
            });
            self.cdp("Browser.setPermission", params).await?;
        }
        Ok(())
    }

    /// A picture of the page from top to bottom, as PNG in base64.
    pub async fn picture(&self) -> Result<String> {
        let params = json!({ "format": "png", "captureBeyondViewport": true, "optimizeForSpeed": false });
        let answer = self.cdp("Page.captureScreenshot", params).await?;
        answer["data"].as_str().map(str::to_owned).context("no picture")
    }

    async fn cdp(&self, command: &'static str, params: Value) -> Result<Value> {
        self.client.issue_cmd(Cdp { command, params }).await.with_context(|| format!("{command} fails"))
    }
}
