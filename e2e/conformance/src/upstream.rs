//! The MCP server that the suite passes on when it asks it directly.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::process::Command;
use trustrelay_e2e::process::Process;
use url::Url;

use crate::programs::built;

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
        let mut command = Command::new(program()?);
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
        Ok(format!("{} stdio --era {}", program()?.display(), era.as_str()))
    }
}

fn program() -> Result<PathBuf> {
    built("trustrelay-e2e-upstream")
}
