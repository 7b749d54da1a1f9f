//! What a start costs: `trustrelay serve` over data that is there, until it is ready.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::process::Command;
use trustrelay_authority::ServerSecret;

use crate::program::Program;

/// One start, and what the program held when it was ready, before any use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) took: Duration,
    pub(crate) resident: u64,
}

/// Starts the program over this data directory, as it comes, and ends it again.
pub(crate) async fn measure(data: &Path, secret: &ServerSecret) -> Result<Start> {
    let mut serve = Command::new(crate::program::trustrelay()?);
    serve.current_dir(data).args(["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::null());
    serve.env("TRUSTRELAY_DATA_DIR", data).env("TRUSTRELAY_SECRET_KEY", secret.expose().as_str());
    let begun = Instant::now();
    let program = Program::start("trustrelay serve", &mut serve).await?;
    let started = Start { took: begun.elapsed(), resident: program.resident()? };
    program.stop().await?;
    Ok(started)
}
