//! TrustRelay with data of its own, an upstream behind it and tokens to ask with.

use anyhow::{Context, Result};
use http::HeaderValue;
use tokio::process::Command;

use crate::node::{Deployment, Owner};
use crate::program::Program;

/// The upstream's name in the relay.
pub(crate) const UPSTREAM: &str = "fast";

/// The upstream that is asked, as a process of its own.
pub(crate) async fn upstream() -> Result<Program> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    Program::start("the upstream", Command::new(own).arg("upstream")).await
}

/// A proxy in front of it that looks at nothing.
pub(crate) async fn proxy(upstream: &Program) -> Result<Program> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    Program::start("the proxy", Command::new(own).arg("proxy").arg(upstream.address.to_string())).await
}

/// A running TrustRelay, set up as it comes.
pub(crate) struct Server {
    pub(crate) program: Program,
    /// Its data, which goes with it.
    _deployment: Deployment,
}

impl Server {
    pub(crate) async fn start(upstream: &Program) -> Result<Self> {
        let deployment = Deployment::new(None).await?;
        let behind = format!("{UPSTREAM}=http://{}/mcp", upstream.address);
        let program = deployment.node(&["--upstream", &behind]).await?;
        Ok(Self { program, _deployment: deployment })
    }

    /// Makes tokens that may call tools: `Authorization` headers.
    pub(crate) async fn tokens(&self, number: usize) -> Result<Vec<HeaderValue>> {
        let mut owner = Owner::sign_in(&self.program).await?;
        let mut tokens = Vec::new();
        for at in 0..number {
            tokens.push(owner.create(&format!("bench-{at}")).await?.authorization);
        }
        Ok(tokens)
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.program.stop().await
    }
}
