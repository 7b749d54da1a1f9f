//! `trustrelay token rotate`: a new secret, by the operator at the machine or by the token itself
//! at its server.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use trustrelay_authority::{Clock, DEFAULT_OVERLAP, Expiry, Overlap, Rotate, SystemClock};
use url::Url;
use uuid::Uuid;

use crate::cli::{Place, TokenRotate};
use crate::open::{self, Missing};
use crate::output::say;
use crate::remote::{self, Remote};

/// Rotates a token and prints its new secret, alone, on standard output.
pub(crate) async fn run(place: &Place, rotate: TokenRotate) -> anyhow::Result<ExitCode> {
    match (&rotate.server, &rotate.pat_id) {
        (Some(server), None) => itself(server, &rotate).await,
        (None, Some(pat_id)) => any(place, pat_id, &rotate).await,
        (Some(_), Some(_)) => {
            bail!(
                "use PAT_ID or --server, not both; PAT_ID is for the data on this machine, and with --server the token rotates itself"
            )
        }
        (None, None) => bail!(
            "give PAT_ID (run `trustrelay token list --user EMAIL` to see the ids), or --server for a token that rotates itself"
        ),
    }
}

fn overlap(rotate: &TokenRotate) -> anyhow::Result<Overlap> {
    match (rotate.overlap, rotate.until_first_use) {
        (None, true) => Ok(Overlap::UntilFirstUse),
        (overlap, _) => {
            let overlap = overlap.map_or(Ok(DEFAULT_OVERLAP), Duration::try_from);
            Ok(Overlap::For(overlap.context("--overlap cannot be negative")?))
        }
    }
}

async fn any(place: &Place, pat_id: &str, rotate: &TokenRotate) -> anyhow::Result<ExitCode> {
    let pat_id: Uuid = pat_id.parse().map_err(|_| {
        // What was given is not repeated: it may be a token.
        anyhow::anyhow!(
            "PAT_ID is not the id of a token; run `trustrelay token list --user EMAIL` to see the ids"
        )
    })?;
    let opened = open::data(place, Missing::Refuse).await?;
    let expiry = match rotate.expires_in {
        None => Expiry::Default,
        Some(length) => Expiry::At(
            opened.authority.clock().now().checked_add(length).context("--expires-in is too long")?,
        ),
    };
    let asked = Rotate { overlap: overlap(rotate)?, expiry, idempotency_key: None };
    let rotated =
        opened.authority.rotate_any(pat_id, asked).await.with_context(|| format!("token {pat_id}"))?;
    say(rotated.token.expose())?;
    Ok(ExitCode::SUCCESS)
}

async fn itself(server: &Url, rotate: &TokenRotate) -> anyhow::Result<ExitCode> {
    let token = remote::token(rotate.file.as_deref())?;
    let mut body = match overlap(rotate)? {
        Overlap::UntilFirstUse => json!({ "until_first_use": true }),
        Overlap::For(overlap) => json!({ "overlap_seconds": overlap.as_secs() }),
    };
    if let Some(length) = rotate.expires_in {
        let at = SystemClock.now().checked_add(length).context("--expires-in is too long")?;
        body["expires_at"] = json!(at);
    }
    let key = Uuid::now_v7().to_string();
    let remote = Remote::new(server, &token)?;
    let value = remote.post("/api/user/personal-access-tokens/self/rotate", &body, Some(&key)).await?;
    say(value["pat_token"].as_str().context("the answer does not contain a token")?)?;
    Ok(ExitCode::SUCCESS)
}
