//! TrustRelay in front of one upstream, as the suite can ask it.

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;
use trustrelay_e2e::process::Process;
use url::Url;

use crate::programs::built;
use crate::proxy::Proxy;

/// The upstream's name in the relay.
const NAME: &str = "fixture";

/// The length of a token, which is a promise of its format.
const TOKEN_LEN: usize = 45;

/// A running TrustRelay, and a proxy that has a token of it.
#[derive(Debug)]
pub struct Relay {
    /// The upstream through the relay.
    pub url: Url,
    _proxy: Proxy,
    _process: Process,
    _data: TempDir,
}

impl Relay {
    /// Starts it in front of an upstream: an address, or the command that runs it.
    pub async fn start(upstream: &str) -> Result<Self> {
        let data = TempDir::new()?;
        let log = data.path().join("log");
        let mut serve = Command::new(built("trustrelay")?);
        serve
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--upstream", &format!("{NAME}={upstream}")])
            .env("TRUSTRELAY_DATA_DIR", data.path())
            .current_dir(data.path())
            .stderr(std::fs::File::create(&log)?);
        let mut process = Process::start("trustrelay serve", &mut serve)?;
        let (mut token, mut address) = (None, None);
        while token.is_none() || address.is_none() {
            let line = process.line().await;
            let line = line.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
            token = token.or_else(|| find_token(&line).map(str::to_owned));
            address = address.or_else(|| line.strip_prefix("listening on ").map(str::to_owned));
        }
        process.drain();
        let address = Url::parse(&address.context("no address")?)?;
        let proxy = Proxy::start(&address, &format!("Bearer {}", token.context("no token")?)).await?;
        Ok(Self {
            url: proxy.url.join(&format!("/mcp/{NAME}"))?,
            _proxy: proxy,
            _process: process,
            _data: data,
        })
    }
}

fn find_token(line: &str) -> Option<&str> {
    let at = line.find("tr_pat_")?;
    line.get(at..at + TOKEN_LEN)
}
