//! `trustrelay token create`, `list` and `revoke`.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use trustrelay_authority::{AskedLimits, Expiry, NewPat};
use trustrelay_token::Limits;
use uuid::Uuid;

use crate::cli::{Place, TokenCreate, TokenList, TokenRevoke};
use crate::open::{self, Missing};
use crate::output::say;

/// Makes a token and prints it, alone, on standard output.
pub(crate) async fn create(place: &Place, create: TokenCreate) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let expiry = match create.expires_in {
        None => Expiry::Default,
        Some(length) => Expiry::At(
            opened.authority.clock().now().checked_add(length).context("--expires-in is too long")?,
        ),
    };
    let limits = AskedLimits {
        networks: create.allow_network,
        requests_per_minute: create.rate,
        unused_days: create.unused_days,
    };
    let new = NewPat { name: create.name, scope: create.scope, expiry, limits: limits.read()? };
    let issued = opened
        .authority
        .issue_for(&create.user, new)
        .await
        .with_context(|| format!("account `{}`", create.user))?;
    say(issued.token.expose())?;
    Ok(ExitCode::SUCCESS)
}

/// Lists an account's active tokens.
pub(crate) async fn list(place: &Place, list: TokenList) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let pats =
        opened.authority.list_for(&list.user).await.with_context(|| format!("account `{}`", list.user))?;
    if list.json {
        let pats: Vec<_> = pats
            .iter()
            .map(|pat| {
                let mut shown = json!({
                    "pat_id": pat.pat_id,
                    "pat_name": pat.name,
                    "pat_hint": pat.hint,
                    "pat_scope": pat.scopes.to_string(),
                    "created_at": pat.created_at,
                    "expires_at": pat.expires_at,
                    "last_used_at": pat.last_used_at,
                });
                if let Some(limits) = &pat.limits {
                    add(&mut shown, limits);
                }
                shown
            })
            .collect();
        say(serde_json::to_string_pretty(&pats)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for pat in pats {
        let used = pat.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {at:.0}"));
        say(format_args!(
            "{}\t{}\t{}\t{}\texpires {:.0}\t{used}",
            pat.pat_id, pat.hint, pat.name, pat.scopes, pat.expires_at
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a token is held to, as the REST API shows it: what is not limited is left out.
fn add(shown: &mut Value, limits: &Limits) {
    if !limits.networks.is_empty() {
        let networks = limits.networks.iter().map(ToString::to_string);
        shown["allowed_networks"] = networks.collect::<Vec<_>>().into();
    }
    if let Some(requests) = limits.requests_per_minute {
        shown["requests_per_minute"] = requests.get().into();
    }
    if let Some(days) = limits.unused_days {
        shown["expires_if_unused_days"] = days.get().into();
    }
}

/// Revokes a token. When this returns, no running server accepts it.
pub(crate) async fn revoke(place: &Place, revoke: TokenRevoke) -> anyhow::Result<ExitCode> {
    let pat_id: Uuid = revoke.pat_id.parse().map_err(|_| {
        // What was given is not repeated: it may be a token.
        anyhow::anyhow!(
            "PAT_ID is not the id of a token; run `trustrelay token list --user EMAIL` to see the ids"
        )
    })?;
    let opened = open::data(place, Missing::Refuse).await?;
    let revoked = opened.authority.revoke_any(pat_id).await.with_context(|| format!("token {pat_id}"))?;
    say(format_args!("revoked {pat_id} at {:.0}", revoked.revoked_at))?;
    Ok(ExitCode::SUCCESS)
}
