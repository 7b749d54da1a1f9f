//! The built program, running.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use url::Url;

use crate::process::{Process, output};
use crate::tools::root;

/// An account for tests that do not ask how accounts are made.
pub const EMAIL: &str = "ada@example.org";
/// Its password.
pub const PASSWORD: &str = "correct horse battery staple";

/// The program, built once in a test run.
fn binary() -> Result<&'static PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", "trustrelay", "--message-format=json-render-diagnostics"])
        .current_dir(root())
        .output()
        .context("cargo does not start")?;
    if !built.status.success() {
        bail!("trustrelay does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.context("cargo names no executable")
}

/// The program's command line, on a data directory.
fn command(data: &TempDir) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.current_dir(data.path()).env("TRUSTRELAY_DATA_DIR", data.path());
    Ok(command)
}

/// A running server with data of its own.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub base: Url,
    /// The one-time link for the first account, if there is none yet.
    pub setup: Option<Url>,
    data: TempDir,
    process: Process,
}

impl Server {
    /// A server without accounts.
    pub async fn without_accounts() -> Result<Self> {
        Self::on(TempDir::new()?, &[], &[]).await
    }

    /// A server with the account [`EMAIL`], and these upstreams behind it.
    pub async fn start(upstreams: &[(&str, &Url)]) -> Result<Self> {
        Self::on(Self::with_account().await?, upstreams, &[]).await
    }

    /// A server with the account [`EMAIL`] and these flags.
    pub async fn start_with(flags: &[&str]) -> Result<Self> {
        Self::on(Self::with_account().await?, &[], flags).await
    }

    /// Stops, and starts again with these flags on the same data.
    pub async fn restart(self, flags: &[&str]) -> Result<Self> {
        let Self { data, process, .. } = self;
        process.stop().await?;
        Self::on(data, &[], flags).await
    }

    /// The same after a long time, as far as its tokens go: each was made so many days before. It
    /// goes by way of an export, whose times are moved.
    pub async fn aged(self, days: i64) -> Result<Self> {
        const DAY: i64 = 24 * 3600 * 1_000_000;
        const KEY: &str = "secret.key";
        let Self { data, process, .. } = self;
        process.stop().await?;
        let export = data.path().join("export.jsonl");
        output("trustrelay export", command(&data)?.arg("export").arg(&export)).await?;
        let mut moved = String::new();
        for line in std::fs::read_to_string(&export)?.lines() {
            let mut line: Value = serde_json::from_str(line)?;
            if let Some(pat) = line.get_mut("pat") {
                let made = pat["created_at"].as_i64().context("a token without a time")?;
                pat["created_at"] = json!(made - days * DAY);
            }
            writeln!(moved, "{line}")?;
        }
        std::fs::write(&export, moved)?;
        let later = TempDir::new()?;
        std::fs::copy(data.path().join(KEY), later.path().join(KEY))?;
        output("trustrelay import", command(&later)?.arg("import").arg(&export)).await?;
        Self::on(later, &[], &[]).await
    }

    /// Where its data are.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    async fn with_account() -> Result<TempDir> {
        let data = TempDir::new()?;
        let mut add = command(&data)?;
        add.args(["user", "add", EMAIL, "--admin", "--password-stdin"]).stdin(Stdio::piped());
        let mut add = Process::start("trustrelay user add", &mut add)?;
        add.input()?.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        add.end_input();
        add.line().await.context("the account is not made")?;
        Ok(data)
    }

    async fn on(data: TempDir, upstreams: &[(&str, &Url)], flags: &[&str]) -> Result<Self> {
        let mut serve = command(&data)?;
        let log = std::fs::File::create(data.path().join("log"))?;
        serve.args(["serve", "--listen", "127.0.0.1:0"]).args(flags).stderr(log);
        for (name, url) in upstreams {
            serve.args(["--upstream", &format!("{name}={url}")]);
        }
        let mut process = Process::start("trustrelay serve", &mut serve)?;
        let mut setup = None;
        let base = loop {
            let line = process
                .line()
                .await
                .with_context(|| std::fs::read_to_string(data.path().join("log")).unwrap_or_default())?;
            if let Some(address) = line.strip_prefix("listening on ") {
                break Url::parse(address)?;
            }
            if let Some((_, link)) = line.split_once("this link works once): ") {
                setup = Some(Url::parse(link)?);
            }
        };
        process.drain();
        Ok(Self { base, setup, data, process })
    }

    /// An address below the server's.
    pub fn at(&self, path: &str) -> Result<Url> {
        Ok(self.base.join(path)?)
    }

    /// What the server has logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.data.path().join("log"))?)
    }

    /// Runs another command of the program on the same data; it has to end well.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        output("trustrelay", command(&self.data)?.args(arguments)).await
    }

    /// Calls a tool once, with no arguments, as a client of the stateless era; whether it ended
    /// well.
    pub async fn call(&self, token: &str, tool: &str) -> Result<bool> {
        const VERSION: &str = "2026-07-28";
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "e2e", "version": "1" },
        });
        let params = json!({ "name": tool, "arguments": {}, "_meta": meta });
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let request = reqwest::Client::new().post(self.at("/mcp")?).bearer_auth(token).json(&call);
        let request = request.header("accept", "application/json, text/event-stream");
        let request = request.header("mcp-protocol-version", VERSION);
        let request = request.header("mcp-method", "tools/call").header("mcp-name", tool);
        Ok(request.send().await?.text().await?.contains("\"result\""))
    }

    /// What the API answers to a token, as a status.
    pub async fn status(&self, token: &str) -> Result<u16> {
        let answer = reqwest::Client::new().get(self.at("/api/user")?).bearer_auth(token).send().await?;
        Ok(answer.status().as_u16())
    }

    /// Why the API refuses a token: the error's code.
    pub async fn refusal(&self, token: &str) -> Result<String> {
        let answer = reqwest::Client::new().get(self.at("/api/user")?).bearer_auth(token).send().await?;
        let body: Value = answer.json().await?;
        Ok(body["error"]["code"].as_str().context("it is not refused")?.to_owned())
    }

    /// Makes a token of [`EMAIL`]'s; answers the token.
    pub async fn token(&self, name: &str, scope: &str, expires_in: &str) -> Result<String> {
        self.token_of(EMAIL, name, scope, expires_in).await
    }

    /// Makes a token by command, which does it for any account; answers the token.
    pub async fn token_of(&self, email: &str, name: &str, scope: &str, expires_in: &str) -> Result<String> {
        let arguments =
            ["token", "create", "--user", email, "--name", name, "--scope", scope, "--expires-in"];
        Ok(self.run(&[&arguments[..], &[expires_in]].concat()).await?.trim().to_owned())
    }
}
