//! `trustrelay user`.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use trustrelay_authority::NewAccount;
use zeroize::Zeroizing;

use crate::cli::{Place, UserAdd, UserInvite, UserList, UserSetPassword};
use crate::config;
use crate::open::{self, Missing};
use crate::output::say;

/// How much is read where a password is expected.
const MAX_INPUT: u64 = 4096;

/// Where a server listens if nothing is said.
const DEFAULT_BASE: &str = "http://127.0.0.1:8080";

/// Reads a password: the first line of standard input.
fn read_password(is_asked_for: bool) -> anyhow::Result<Zeroizing<String>> {
    if !is_asked_for {
        bail!("the password is read from standard input only; use --password-stdin");
    }
    let mut password = Zeroizing::new(String::new());
    std::io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut password)
        .context("the password on standard input is not valid text")?;
    let line = password.find('\n').unwrap_or(password.len());
    password.truncate(line);
    let end = password.trim_end_matches('\r').len();
    password.truncate(end);
    Ok(password)
}

/// Adds an account, on a new data directory too.
pub(crate) async fn add(place: &Place, add: UserAdd) -> anyhow::Result<ExitCode> {
    let password = read_password(add.password_stdin)?;
    let opened = open::data(place, Missing::Create).await?;
    let user =
        opened.authority.add_account(NewAccount { email: add.email, password, is_admin: add.admin }).await?;
    say(format_args!("added {}", user.email))?;
    Ok(ExitCode::SUCCESS)
}

/// Sets the password of an account and signs it out everywhere.
pub(crate) async fn set_password(place: &Place, set: UserSetPassword) -> anyhow::Result<ExitCode> {
    let password = read_password(set.password_stdin)?;
    let opened = open::data(place, Missing::Refuse).await?;
    let email = &set.email;
    opened.authority.set_password(email, password).await.with_context(|| format!("account `{email}`"))?;
    say(format_args!(
        "set the password of {email}; the account is signed out of all browsers, and its tokens keep working"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the accounts.
pub(crate) async fn list(place: &Place, list: UserList) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let users = opened.authority.accounts().await?;
    if list.json {
        let users: Vec<_> = users
            .iter()
            .map(|user| {
                json!({
                    "user_id": user.user_id,
                    "email": user.email,
                    "is_admin": user.is_admin,
                    "created_at": user.created_at,
                    "disabled_at": user.disabled_at,
                })
            })
            .collect();
        say(serde_json::to_string_pretty(&users)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for user in users {
        let role = if user.is_admin { "admin" } else { "user" };
        let state = if user.disabled_at.is_some() { "disabled" } else { "active" };
        say(format_args!("{}\t{role}\t{state}", user.email))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Invites somebody: prints the link, alone.
pub(crate) async fn invite(place: &Place, invite: UserInvite) -> anyhow::Result<ExitCode> {
    let public_url = match invite.public_url {
        Some(url) => Some(url),
        None => config::read_file(place)?.public_url,
    };
    let base = public_url.map_or_else(|| DEFAULT_BASE.to_owned(), |url| url.origin().ascii_serialization());
    let opened = open::data(place, Missing::Refuse).await?;
    let invited = opened.authority.invite_for(&invite.email, invite.admin).await?;
    say(format_args!("{base}/invite?token={}", &*invited.secret))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an account an administrator, or one no longer.
pub(crate) async fn set_admin(place: &Place, email: &str, is_admin: bool) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    opened.authority.set_admin(email, is_admin).await.with_context(|| format!("account `{email}`"))?;
    say(format_args!("{} {email}", if is_admin { "promoted" } else { "demoted" }))?;
    Ok(ExitCode::SUCCESS)
}

/// Disables or enables an account.
pub(crate) async fn set_disabled(place: &Place, email: &str, disabled: bool) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    opened.authority.set_disabled(email, disabled).await.with_context(|| format!("account `{email}`"))?;
    say(format_args!("{} {email}", if disabled { "disabled" } else { "enabled" }))?;
    Ok(ExitCode::SUCCESS)
}
