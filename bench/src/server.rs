//! TrustRelay with data of its own, an upstream behind it and tokens to ask with.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderValue, Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::http::Connection;
use crate::mcp::full;
use crate::program::Program;

const EMAIL: &str = "bench@example.org";
const PASSWORD: &str = "correct horse battery staple";
/// The upstream's name in the relay.
pub(crate) const UPSTREAM: &str = "fast";

/// The upstream that is asked, as a process of its own.
pub(crate) async fn upstream() -> Result<Program> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    Program::start("the upstream", Command::new(own).arg("upstream")).await
}

/// A proxy in front of it that looks at nothing.
pub(crate) async fn proxy(upstream: &Program) -> Result<Program> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    Program::start("the proxy", Command::new(own).arg("proxy").arg(upstream.address.to_string())).await
}

/// A running TrustRelay, set up as it comes: its log goes to a file.
pub(crate) struct Server {
    pub(crate) program: Program,
    data: TempDir,
}

impl Server {
    pub(crate) async fn start(upstream: &Program) -> Result<Self> {
        let trustrelay = crate::trustrelay()?;
        let data = TempDir::new()?;
        let command = || {
            let mut command = Command::new(&trustrelay);
            command.current_dir(data.path()).env("TRUSTRELAY_DATA_DIR", data.path());
            command
        };
        let mut add = command();
        add.args(["user", "add", EMAIL, "--password-stdin"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut add = add.kill_on_drop(true).spawn().context("trustrelay does not start")?;
        let mut input = add.stdin.take().context("no input")?;
        input.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        drop(input);
        ensure!(add.wait().await?.success(), "the account is not made");
        let mut serve = command();
        let log = std::fs::File::create(data.path().join("log"))?;
        let behind = format!("{UPSTREAM}=http://{}/mcp", upstream.address);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--upstream", &behind]).stderr(log);
        let program = Program::start("trustrelay serve", &mut serve).await?;
        Ok(Self { program, data })
    }

    /// Makes tokens with the scope `mcp`: `Authorization` headers.
    pub(crate) async fn tokens(&self, number: usize) -> Result<Vec<HeaderValue>> {
        let mut connection = Connection::open(self.program.address).await?;
        let post = |path: &str| Request::post(path).header(CONTENT_TYPE, "application/json");
        let login = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
        let answer = connection.ask(post("/api/auth/login").body(full(login))?).await?;
        let cookie = answer.headers().get(SET_COOKIE).context("no cookie")?.to_str()?;
        let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap_or_default())?;
        let mut tokens = Vec::new();
        for at in 0..number {
            let body = json!({ "pat_name": format!("bench-{at}"), "pat_scope": "mcp" }).to_string();
            let request = post("/api/user/personal-access-tokens").header(COOKIE, &cookie);
            let answer = connection.ask(request.body(full(body))?).await?;
            let made: Value = serde_json::from_slice(answer.body())?;
            let token = made["value"]["pat_token"].as_str().context("no token")?;
            tokens.push(HeaderValue::from_str(&format!("Bearer {token}"))?);
        }
        Ok(tokens)
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let stopped = self.program.stop().await;
        self.data.close()?;
        stopped
    }
}
