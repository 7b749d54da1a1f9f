//! The upstream's own promises: which eras it speaks, and when it ends. That it speaks them well is
//! what the conformance suite says.

// A test may fail.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod ends;
mod http;
mod stdio;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;
use trustrelay_e2e::process::Process;

/// The program, with these arguments.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustrelay-e2e-upstream"));
    command.args(arguments);
    command
}

/// The address that a server over HTTP prints.
async fn address(process: &mut Process) -> Result<String> {
    let line = process.line().await?;
    Ok(line.strip_prefix("listening on ").with_context(|| format!("no address: {line}"))?.to_owned())
}

/// A request of the stateless era.
fn stateless(id: u64, method: &str, version: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    } } })
}

/// The first request of the session era.
fn initialize(id: u64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    } })
}
