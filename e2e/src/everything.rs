//! `server-everything`, the official MCP server that shows all of the protocol, as an upstream.

use std::process::Stdio;

use anyhow::{Result, bail};
use tokio::process::Command;
use url::Url;

use crate::process::{Process, free_port};
use crate::{tools, until};

/// A running server-everything.
#[derive(Debug)]
pub struct Everything {
    /// Its MCP endpoint.
    pub url: Url,
    _process: Process,
}

impl Everything {
    /// Starts it and waits until it answers.
    pub async fn start() -> Result<Self> {
        let script = tools::node_modules()?.join("@modelcontextprotocol/server-everything/dist/index.js");
        let port = free_port()?;
        let mut command = Command::new(tools::node()?);
        command.arg(script).arg("streamableHttp").env("PORT", port.to_string()).stderr(Stdio::null());
        let mut process = Process::start("server-everything", &mut command)?;
        process.drain();
        until("server-everything to listen", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await?;
        // Another program may have taken the port in between, and would have answered.
        if process.has_ended() {
            bail!("server-everything ended; was port {port} taken?");
        }
        Ok(Self { url: Url::parse(&format!("http://127.0.0.1:{port}/mcp"))?, _process: process })
    }
}
