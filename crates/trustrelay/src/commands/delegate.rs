//! `trustrelay token delegate`: a narrower, shorter-lived token for a sub-agent or a job, made with
//! a token at its server.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use trustrelay_authority::{Clock, SystemClock};

use crate::cli::TokenDelegate;
use crate::output::say;
use crate::remote::{self, Remote};

/// Makes a token with a token and prints it, alone, on standard output. It is revoked with the one
/// it was made with.
pub(crate) async fn run(delegate: TokenDelegate) -> anyhow::Result<ExitCode> {
    let token = remote::token(delegate.file.as_deref())?;
    let expires_at =
        SystemClock.now().checked_add(delegate.expires_in).context("--expires-in is too long")?;
    let body = json!({ "pat_name": delegate.name, "pat_scope": delegate.scope, "expires_at": expires_at });
    let remote = Remote::new(&delegate.server, &token)?;
    // Not repeated: it might be made twice.
    let value = remote.post("/api/user/personal-access-tokens", &body, None).await?;
    say(value["pat_token"].as_str().context("the answer does not contain a token")?)?;
    Ok(ExitCode::SUCCESS)
}
