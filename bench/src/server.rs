//! The servers that are asked: the bench's own, and TrustRelay with data of its own, an upstream
//! behind it and tokens to ask with.

use std::ffi::OsStr;

use anyhow::{Context, Result};
use http::HeaderValue;
use tempfile::TempDir;
use tokio::process::Command;

use crate::bare::TOKEN_FILE;
use crate::node::{Deployment, Owner};
use crate::program::Program;

/// The upstream's name in the relay.
pub(crate) const UPSTREAM: &str = "fast";

/// The upstream that is asked, as a process of its own.
pub(crate) async fn upstream() -> Result<Program> {
    start("upstream", None).await
}

/// A server of the official Rust SDK, as a process of its own: the one that the tests ask.
pub(crate) async fn sdk_upstream() -> Result<Program> {
    let program = crate::program::beside("trustrelay-e2e-upstream")?;
    Program::start("the SDK's server", Command::new(program).arg("http")).await
}

/// A proxy in front of it that looks at nothing.
pub(crate) async fn proxy(upstream: &Program) -> Result<Program> {
    start("proxy", Some(upstream.address.to_string().as_ref())).await
}

/// A server that answers a fixed body.
pub(crate) async fn bare() -> Result<Program> {
    start("bare", None).await
}

/// The same behind the guard.
pub(crate) async fn guarded() -> Result<Guarded> {
    let folder = TempDir::new()?;
    let program = start("guarded", Some(folder.path().as_os_str())).await?;
    let token = std::fs::read_to_string(folder.path().join(TOKEN_FILE)).context("no token")?;
    let token = HeaderValue::from_str(&format!("Bearer {token}"))?;
    Ok(Guarded { program, token, _folder: folder })
}

/// A server behind the guard, and an `Authorization` header that it lets through.
pub(crate) struct Guarded {
    pub(crate) program: Program,
    pub(crate) token: HeaderValue,
    /// Its data, which goes with it.
    _folder: TempDir,
}

/// A server of the bench's own, as a process of its own.
async fn start(name: &str, argument: Option<&OsStr>) -> Result<Program> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    Program::start(name, Command::new(own).arg(name).args(argument)).await
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
