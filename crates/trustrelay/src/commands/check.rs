//! `trustrelay token check`: for cron and CI.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use trustrelay_authority::{Clock, SystemClock};
use trustrelay_token::Token;
use url::Url;
use zeroize::Zeroizing;

use crate::cli::TokenCheck;
use crate::output::say;

/// How much is read where a token is expected.
const MAX_INPUT: u64 = 4096;
const EXPIRES_SOON: u8 = 3;

/// Checks a token: its form, and with `--server` whose it is and when it expires.
pub(crate) async fn run(check: TokenCheck) -> anyhow::Result<ExitCode> {
    let text = read(check.file.as_deref())?;
    let token: Token = text.trim().parse().map_err(|error| anyhow::anyhow!("not a token: {error}"))?;
    let Some(server) = check.server else {
        say(format_args!(
            "{} is well-formed; give --server to learn whose it is and when it expires",
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

fn read(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    match file {
        Some(path)
            if path.as_os_str().as_encoded_bytes().starts_with(trustrelay_token::PREFIX.as_bytes()) =>
        {
            bail!(
                "FILE is a token itself; others can see it there. Give it on standard input, or in TRUSTRELAY_TOKEN"
            )
        }
        Some(path) if path != Path::new("-") => {
            let file =
                std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
            file.take(MAX_INPUT)
                .read_to_string(&mut text)
                .with_context(|| format!("{} is not text", path.display()))?;
        }
        _ => match std::env::var("TRUSTRELAY_TOKEN") {
            Ok(token) if file.is_none() => *text = token,
            _ => {
                std::io::stdin()
                    .take(MAX_INPUT)
                    .read_to_string(&mut text)
                    .context("standard input is not text")?;
            }
        },
    }
    Ok(text)
}

async fn ask(server: &Url, token: &Token) -> anyhow::Result<(String, Timestamp)> {
    let url = server.join("/api/user").context("--server is not a base URL")?;
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("the HTTP client does not start")?;
    let answer = client
        .get(url)
        .bearer_auth(token.expose())
        .send()
        .await
        .map_err(|error| anyhow::anyhow!("{server} does not answer: {}", error.without_url()))?;
    let status = answer.status();
    let body: serde_json::Value = answer.json().await.unwrap_or_default();
    if !status.is_success() {
        let message = body["error"]["message"]
            .as_str()
            .unwrap_or("it is not a TrustRelay server, or something stands in front of it");
        bail!("{server} answers {}: {message}", status.as_u16());
    }
    let value = &body["value"];
    let expires_at =
        value["credential"]["expires_at"].as_str().context("the answer names no expiry")?.parse()?;
    Ok((value["user"]["email"].as_str().unwrap_or("?").to_owned(), expires_at))
}
