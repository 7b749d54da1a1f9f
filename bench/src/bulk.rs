//! Millions of tokens in a data directory, by the way that data is moved: `trustrelay import` reads
//! them from a file of `trustrelay export`. Making each of ten million as the service does,
//! durably, with its audit entry, would take an hour.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use trustrelay_authority::ServerSecret;
use trustrelay_store::Archived as _;
use trustrelay_token::Token;
use uuid::Uuid;

use crate::data::{Data, PER_OWNER};

/// What the lines for all are made from: a token that the service made, and its owner, as an export
/// holds them.
struct Pattern {
    header: String,
    user: Value,
    pat: Value,
}

impl Pattern {
    async fn new(within: &Path) -> Result<(Self, ServerSecret)> {
        let data = Data::new(within, 1).await?;
        data.fill(1, drop).await?;
        let mut file = Vec::new();
        data.store.export().await?.write(&mut file)?;
        let (_folder, secret) = data.close().await;
        let text = String::from_utf8(file)?;
        let mut lines = text.lines();
        let header = lines.next().context("an export without a header")?.to_owned();
        let (mut user, mut pat) = (None, None);
        for line in lines {
            let value: Value = serde_json::from_str(line)?;
            user = user.or_else(|| value.get("user").cloned());
            pat = pat.or_else(|| value.get("pat").cloned());
        }
        let user = user.context("an export without an account")?;
        Ok((Self { header, user, pat: pat.context("an export without a token")? }, secret))
    }
}

/// A new folder below `within` with so many tokens in its store, the secret that they are digested
/// under, and the tokens.
pub(crate) async fn fill(within: &Path, number: usize) -> Result<(TempDir, ServerSecret, Vec<Token>)> {
    let (pattern, secret) = Pattern::new(within).await?;
    let folder = TempDir::new_in(within)?;
    let file = folder.path().join("export.jsonl");
    let tokens = write(&pattern, &secret, &file, number)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    let mut import = Command::new(crate::program::trustrelay()?);
    import.current_dir(folder.path()).arg("import").arg(&file).kill_on_drop(true);
    import.env("TRUSTRELAY_DATA_DIR", folder.path()).env("TRUSTRELAY_SECRET_KEY", secret.expose().as_str());
    let imported = import.output().await.context("`trustrelay import` does not start")?;
    ensure!(
        imported.status.success(),
        "`trustrelay import`: {}",
        String::from_utf8_lossy(&imported.stderr).trim()
    );
    std::fs::remove_file(&file)?;
    Ok((folder, secret, tokens))
}

fn write(pattern: &Pattern, secret: &ServerSecret, file: &Path, number: usize) -> Result<Vec<Token>> {
    let mut out = BufWriter::new(std::fs::File::create_new(file)?);
    writeln!(out, "{}", pattern.header)?;
    let (mut user, mut pat) = (pattern.user.clone(), pattern.pat.clone());
    let owners: Vec<String> = (0..number.div_ceil(PER_OWNER)).map(|_| Uuid::now_v7().to_string()).collect();
    for owner in &owners {
        set(&mut user, "user_id", owner.clone())?;
        set(&mut user, "email", format!("{owner}@example.org"))?;
        line(&mut out, "user", &user)?;
    }
    let key = secret.token_key();
    let mut tokens = Vec::with_capacity(number);
    for at in 0..number {
        let token = Token::generate()?;
        set(&mut pat, "pat_id", Uuid::now_v7().to_string())?;
        set(&mut pat, "user_id", owners[at / PER_OWNER].clone())?;
        set(&mut pat, "hint", token.hint())?;
        set(&mut pat, "digest", in_base64(key.digest(&token).as_bytes()))?;
        line(&mut out, "pat", &pat)?;
        tokens.push(token);
    }
    writeln!(out, "{{\"end\":{}}}", owners.len() + number)?;
    out.flush()?;
    Ok(tokens)
}

/// Another text for a member that is there.
fn set(object: &mut Value, name: &str, value: String) -> Result<()> {
    match object.get_mut(name) {
        Some(member) => *member = Value::String(value),
        None => bail!("an export whose lines have no `{name}`"),
    }
    Ok(())
}

fn line(out: &mut impl Write, kind: &str, value: &Value) -> Result<()> {
    writeln!(out, "{{\"{kind}\":{value}}}")?;
    Ok(())
}

fn in_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
