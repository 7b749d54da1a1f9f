//! The MCP servers behind the relay: two over HTTP and two that are commands, each of both eras and
//! of the session era alone.

use anyhow::{Context, Result};
use tokio::process::Command;
use trustrelay_e2e::process::Process;
use trustrelay_e2e_conformance::programs::built;

/// An MCP server over HTTP that can be restarted where it was.
#[derive(Debug)]
pub struct HttpUpstream {
    era: &'static str,
    address: String,
    process: Option<Process>,
}

impl HttpUpstream {
    /// Starts it on a free port.
    pub async fn start(era: &'static str) -> Result<Self> {
        let mut upstream = Self { era, address: "127.0.0.1:0".to_owned(), process: None };
        upstream.restart().await?;
        Ok(upstream)
    }

    /// Its address, for the relay.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Kills it, if it runs.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Kills it and starts it again: all its sessions are lost.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let mut command = Command::new(built("trustrelay-e2e-upstream")?);
        command.args(["http", "--listen", &self.address, "--era", self.era]);
        let mut process = Process::start("the upstream", &mut command)?;
        let line = process.line().await?;
        let address = line.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/mcp"));
        self.address = address.with_context(|| format!("no address: {line}"))?.to_owned();
        process.drain();
        self.process = Some(process);
        Ok(())
    }
}

/// The command of a server over its pipes.
pub fn command(era: &str) -> Result<String> {
    Ok(format!("{} stdio --era {era}", built("trustrelay-e2e-upstream")?.display()))
}
