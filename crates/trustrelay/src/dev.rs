//! `trustrelay serve --dev`: the newcomer's door.

use std::sync::Arc;

use anyhow::Context;
use trustrelay_authority::{Authority, AuthorityError, Expiry, NewAccount, NewPat};
use url::Url;
use zeroize::Zeroizing;

use crate::output::say;

const EMAIL: &str = "dev@localhost";
const TOKEN_NAME: &str = "dev";

/// Makes the account and a token, and prints what to paste. The token of an earlier start is revoked: it can't be shown again.
pub(crate) async fn prepare(authority: &Arc<Authority>, base: &Url) -> anyhow::Result<()> {
    let password = password()?;
    let account = NewAccount { email: EMAIL.into(), password: password.clone(), is_admin: true };
    match authority.add_account(account).await {
        Ok(_) => {}
        Err(AuthorityError::Conflict(_)) => authority.reset_password(EMAIL, password.clone()).await?,
        Err(error) => return Err(error.into()),
    }
    for old in authority.list_for(EMAIL).await? {
        if old.name == TOKEN_NAME {
            authority.revoke_any(old.pat_id).await?;
        }
    }
    let new = NewPat {
        name: TOKEN_NAME.into(),
        scope: "mcp api".into(),
        expiry: Expiry::Default,
        ..NewPat::default()
    };
    let issued = authority.issue_for(EMAIL, new).await?;
    let token = issued.token.expose();
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
TrustRelay is for trying out here: this machine only.

  Sign in     {}   as {EMAIL} with password {}
  Your token  {token}

  Claude Code:
    claude mcp add --transport http trustrelay {mcp} --header \"Authorization: Bearer {token}\"

  Any client with an mcp.json (Claude Code's .mcp.json, Cursor's ~/.cursor/mcp.json):
{json}

  curl:
    curl -H \"Authorization: Bearer {token}\" {user}
",
        base.join("/login")?,
        password.as_str(),
    ))
}

/// 24 random letters and digits: the random part of a token that nobody keeps.
fn password() -> anyhow::Result<Zeroizing<String>> {
    let random = trustrelay_token::Token::generate().context("no randomness")?;
    Ok(Zeroizing::new(random.expose()[7..31].to_owned()))
}
