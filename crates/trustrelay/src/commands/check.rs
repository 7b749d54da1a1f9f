//! `trustrelay token check`: for cron and CI.

use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use trustrelay_authority::{Clock, SystemClock};
use trustrelay_token::Token;
use url::Url;

use crate::cli::TokenCheck;
use crate::output::say;
use crate::remote::{self, Remote};

const EXPIRES_SOON: u8 = 3;

/// Checks a token: its form, and with `--server` whose it is and when it expires.
pub(crate) async fn run(check: TokenCheck) -> anyhow::Result<ExitCode> {
    let token = remote::token(check.file.as_deref())?;
    let Some(server) = check.server else {
        say(format_args!(
            "{} is well-formed; use --server to see whose token it is and when it expires",
            token.hint()
        ))?;
        return Ok(ExitCode::SUCCESS);
    };
    let (email, expires_at) = ask(&server, &token).await?;
    let left = expires_at.duration_since(SystemClock.now());
    say(format_args!(
        "{} belongs to {email} and expires at {expires_at} ({} days left)",
        token.hint(),
        left.as_hours() / 24
    ))?;
    if left <= check.warn { Ok(ExitCode::from(EXPIRES_SOON)) } else { Ok(ExitCode::SUCCESS) }
}

async fn ask(server: &Url, token: &Token) -> anyhow::Result<(String, Timestamp)> {
    let value = Remote::new(server, token)?.get("/api/user").await?;
    let expires_at = value["credential"]["expires_at"]
        .as_str()
        .context("the answer does not contain the expiry")?
        .parse()?;
    Ok((value["user"]["email"].as_str().unwrap_or("?").to_owned(), expires_at))
}
