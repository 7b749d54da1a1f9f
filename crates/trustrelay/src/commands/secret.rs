//! `trustrelay secret`.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use trustrelay_authority::{KeyCount, MAX_SECRETS, ServerSecret};

use crate::cli::{Place, SecretRetire, SecretRotate, SecretStatus};
use crate::config;
use crate::key_file::{self, Keys};
use crate::open::{self, Missing};
use crate::output::say;

/// Prints a new server secret.
pub(crate) fn generate() -> anyhow::Result<ExitCode> {
    say(&*ServerSecret::generate()?.expose())?;
    Ok(ExitCode::SUCCESS)
}

/// Changes the key file, and says what comes next.
pub(crate) fn rotate(place: &Place, asked: &SecretRotate) -> anyhow::Result<ExitCode> {
    let location = config::location(place, &config::read_file(place)?)?;
    let path = open::key_file_of(&location)?;
    let shown = path.display();
    let name = key_file::change(&path, |keys| rotated(keys, asked))?;
    if asked.prepare {
        say(format_args!(
            "key {name} is now second in {shown}: it verifies tokens, but no new tokens use it yet"
        ))?;
        say("next: copy this file to every node, and restart the nodes one after the other")?;
        say(
            "then: run `trustrelay secret rotate --activate`, copy the file to every node, and restart the nodes again",
        )?;
    } else {
        say(format_args!("key {name} is now first in {shown}"))?;
        say(
            "next: restart the server; if several nodes share the data, all of them must have this key first",
        )?;
        say("  (in that case start with `trustrelay secret rotate --prepare`: docs/SECRETS.md)")?;
        say(
            "then: tokens move to the new key as they are used; `trustrelay secret status` counts the remaining ones",
        )?;
        say("finally: run `trustrelay secret retire KEY` to take the old key out of use")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rotated(keys: &mut Keys, asked: &SecretRotate) -> anyhow::Result<String> {
    if asked.activate {
        if keys.secrets.len() < 2 {
            bail!(
                "there is no second secret to activate; run `trustrelay secret rotate --prepare` to add one"
            );
        }
        keys.secrets.swap(0, 1);
        return Ok(keys.secrets[0].key_name());
    }
    if keys.secrets.len() >= MAX_SECRETS {
        bail!(
            "the key file has {} secrets, which is the maximum; retire secrets that nothing depends on (see `trustrelay secret status`)",
            keys.secrets.len()
        );
    }
    let secret = ServerSecret::generate()?;
    let name = secret.key_name();
    keys.secrets.insert(usize::from(asked.prepare), secret);
    Ok(name)
}

/// A line of the status.
struct Line {
    key: String,
    state: &'static str,
    count: KeyCount,
}

/// Shows what depends on each secret.
pub(crate) async fn status(place: &Place, asked: SecretStatus) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let counts = opened.authority.key_counts().await?;
    let active = opened.authority.active_key();
    let mut lines = Vec::new();
    for (secrets, retired) in [(&opened.keys.secrets, false), (&opened.keys.retired, true)] {
        for secret in secrets {
            let key_id = secret.token_key().id();
            let state = match (retired, Some(key_id) == active) {
                (true, _) => "retired",
                (false, true) => "active",
                (false, false) => "verifies",
            };
            let none = KeyCount { key_id, tokens: 0, overlaps: 0, webhooks: 0 };
            let count = counts.iter().find(|count| count.key_id == key_id).copied().unwrap_or(none);
            lines.push(Line { key: secret.key_name(), state, count });
        }
    }
    for count in &counts {
        if !lines.iter().any(|line| line.count.key_id == count.key_id) {
            lines.push(Line { key: format!("{:08x}", count.key_id.0), state: "missing", count: *count });
        }
    }
    if asked.json {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| {
                json!({
                    "key": line.key,
                    "state": line.state,
                    "tokens": line.count.tokens,
                    "overlaps": line.count.overlaps,
                    "webhooks": line.count.webhooks,
                })
            })
            .collect();
        say(serde_json::to_string_pretty(&lines)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for Line { key, state, count } in lines {
        let KeyCount { tokens, overlaps, webhooks, .. } = count;
        say(format_args!(
            "{key}\t{state}\t{tokens} tokens\t{overlaps} secrets in their overlap\t{webhooks} webhooks"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a secret out of use.
pub(crate) async fn retire(place: &Place, asked: &SecretRetire) -> anyhow::Result<ExitCode> {
    let location = config::location(place, &config::read_file(place)?)?;
    let path = open::key_file_of(&location)?;
    let opened = open::data(place, Missing::Refuse).await?;
    let Some(key) = opened.keys.secrets.iter().find(|secret| secret.key_name() == asked.key) else {
        bail!(
            "{} has no key {} in use; run `trustrelay secret status` to see all keys",
            path.display(),
            asked.key
        );
    };
    let key_id = key.token_key().id();
    if opened.authority.active_key() == Some(key_id) {
        bail!(
            "key {} is the active key; activate another key with `trustrelay secret rotate`, and restart the server first",
            asked.key
        );
    }
    let counts = opened.authority.key_counts().await?;
    let count = counts.iter().find(|count| count.key_id == key_id);
    if let (Some(KeyCount { tokens, overlaps, webhooks, .. }), false) = (count, asked.drop_dependents) {
        bail!(
            "{tokens} tokens, {overlaps} secrets in their overlap and {webhooks} webhooks depend on key {} and would stop working; \
             wait until the tokens have been used, or retire it anyway with --drop-dependents",
            asked.key
        );
    }
    key_file::change(&path, |keys| {
        let at = keys.secrets.iter().position(|secret| secret.key_name() == asked.key);
        let Some(at) = at else { bail!("the key file was changed in the meantime; check it and try again") };
        let secret = keys.secrets.remove(at);
        keys.retired.push(secret);
        Ok(())
    })?;
    say(format_args!("key {} is retired in {}", asked.key, path.display()))?;
    say("next: copy the file to every node that shares the data, and restart the nodes")?;
    say(
        "browser sessions and invitations created with this key no longer work; keep its line in the file, because the audit log of that time is verified with it",
    )?;
    Ok(ExitCode::SUCCESS)
}
