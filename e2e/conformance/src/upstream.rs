//! The MCP server that the suite passes on when it asks it directly.

use std::path::PathBuf;
use std::process::Command as BlockingCommand;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::process::Command;
use trustrelay_e2e::process::Process;
use trustrelay_e2e::tools::root;
use url::Url;

/// The era of the protocol that the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25.
    Session,
    /// 2026-07-28.
    Stateless,
    /// Both.
    Both,
}

impl Era {
    fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Stateless => "stateless",
            Self::Both => "both",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Upstream {
    /// Its MCP endpoint.
    pub url: Url,
    _process: Process,
}

impl Upstream {
    /// Starts it on a free port.
    pub async fn start(era: Era) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["http", "--listen", "127.0.0.1:0", "--era", era.as_str()]);
        let mut process = Process::start("the upstream", &mut command)?;
        let line = process.line().await?;
        let address = line.strip_prefix("listening on ").with_context(|| format!("no address: {line}"))?;
        let url = Url::parse(address)?;
        process.drain();
        Ok(Self { url, _process: process })
    }

    /// The command line that runs it on standard input and output.
    pub fn command_line(era: Era) -> Result<String> {
        Ok(format!("{} stdio --era {}", binary()?.display(), era.as_str()))
    }
}

/// The program, built once in a test run.
fn binary() -> Result<&'static PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    let package = "trustrelay-e2e-upstream";
    let built = BlockingCommand::new(env!("CARGO"))
        .args(["build", "--locked", "--package", package, "--message-format=json-render-diagnostics"])
        .current_dir(root())
        .output()
        .context("cargo does not start")?;
    if !built.status.success() {
        bail!("{package} does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.context("cargo names no executable")
}
