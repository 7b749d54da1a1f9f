//! `trustrelay serve --dev`: the newcomer's door.

use std::sync::Arc;

use anyhow::bail;
use trustrelay_authority::{Authority, AuthorityError, DevKey, Expiry, NewAccount, NewPat};
use trustrelay_token::Token;
use url::Url;
use zeroize::Zeroizing;

use crate::output::say;

const EMAIL: &str = "dev@localhost";
const TOKEN_NAME: &str = "dev";
/// How many tokens may take each other's place in one data directory.
const MAX_TOKENS: u32 = 1_000;

/// Prepares the account and its token, and prints what to paste. Both are the same at the next
/// start, so that a client that was configured once goes on working.
pub(crate) async fn prepare(authority: &Arc<Authority>, keys: &[DevKey], base: &Url) -> anyhow::Result<()> {
    let password = match sign_in(authority, keys).await? {
        Some(password) => format!("password {}", password.as_str()),
        None => {
            format!("your own password (to reset it: trustrelay user set-password {EMAIL} --password-stdin)")
        }
    };
    let token = current_token(authority, keys).await?;
    let token = token.expose();
    let mcp = base.join("/mcp")?;
    let user = base.join("/api/user")?;
    let json = serde_json::to_string_pretty(&serde_json::json!({
        "mcpServers": {
            "trustrelay": {
                "type": "http",
                "url": mcp.as_str(),
                "headers": { "Authorization": format!("Bearer {token}") },
            }
        }
    }))?;
    say(format_args!(
        "\
TrustRelay is running in development mode, on this machine only.

  Sign in     {}   as {EMAIL} with {password}
  Your token  {token}

  Claude Code:
    claude mcp add --transport http trustrelay {mcp} --header \"Authorization: Bearer {token}\"

  Any client with an mcp.json (Claude Code's .mcp.json, Cursor's ~/.cursor/mcp.json):
{json}

  curl:
    curl -H \"Authorization: Bearer {token}\" {user}
",
        base.join("/login")?,
    ))
}

/// Makes the account if it is missing. Its password, unless the person has chosen another one.
async fn sign_in(authority: &Arc<Authority>, keys: &[DevKey]) -> anyhow::Result<Option<Zeroizing<String>>> {
    for key in keys {
        if authority.has_password(EMAIL, key.password()).await? {
            return Ok(Some(key.password()));
        }
    }
    let Some(key) = keys.first() else { return Ok(None) };
    let account = NewAccount { email: EMAIL.into(), password: key.password(), is_admin: true };
    match authority.add_account(account).await {
        Ok(_) => Ok(Some(key.password())),
        Err(AuthorityError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The token of the start before, or a new one if that is gone.
async fn current_token(authority: &Arc<Authority>, keys: &[DevKey]) -> anyhow::Result<Token> {
    let mut unused = None;
    for key in keys {
        for token in (0..MAX_TOKENS).map(|number| key.token(number)) {
            match authority.is_good(&token).await? {
                Some(true) => return Ok(token),
                // It was revoked, replaced, or has expired: the next one takes its place.
                Some(false) => {}
                None => {
                    unused = unused.or(Some(token));
                    break;
                }
            }
        }
    }
    let Some(token) = unused else {
        bail!("{MAX_TOKENS} tokens of `--dev` were revoked in this data directory; use a new data directory");
    };
    let new = NewPat {
        name: TOKEN_NAME.into(),
        scope: "mcp api".into(),
        expiry: Expiry::Default,
        ..NewPat::default()
    };
    Ok(authority.issue_known(EMAIL, new, token).await?.token)
}
