//! Nodes of TrustRelay: alone on SQLite, or several over one PostgreSQL.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
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

/// Where the nodes of one deployment keep what they know.
pub(crate) struct Deployment {
    folder: TempDir,
    database: Option<String>,
    secret: String,
}

/// A token: its id and its `Authorization` header.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) authorization: HeaderValue,
}

impl Deployment {
    /// With one account: on SQLite, or in this database.
    pub(crate) async fn new(database: Option<String>) -> Result<Self> {
        let generated =
            Command::new(crate::program::trustrelay()?).args(["secret", "generate"]).output().await?;
        ensure!(generated.status.success(), "no secret is generated");
        let secret = String::from_utf8(generated.stdout)?.trim().to_owned();
        let deployment = Self { folder: TempDir::new()?, database, secret };
        let mut add = deployment.command()?;
        add.args(["user", "add", EMAIL, "--password-stdin"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut add = add.kill_on_drop(true).spawn().context("trustrelay does not start")?;
        let mut input = add.stdin.take().context("no input")?;
        input.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        drop(input);
        ensure!(add.wait().await?.success(), "the account is not made");
        Ok(deployment)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(crate::program::trustrelay()?);
        command.current_dir(self.folder.path()).env("TRUSTRELAY_SECRET_KEY", &self.secret);
        match &self.database {
            Some(url) => command.env("TRUSTRELAY_DATABASE_URL", url),
            None => command.env("TRUSTRELAY_DATA_DIR", self.folder.path()),
        };
        Ok(command)
    }

    /// One node more, as it comes but for these options: its log goes to a file.
    pub(crate) async fn node(&self, options: &[&str]) -> Result<Program> {
        let mut serve = self.command()?;
        let log = std::fs::File::options().append(true).create(true).open(self.folder.path().join("log"))?;
        serve.args(["serve", "--listen", "127.0.0.1:0"]).args(options).stderr(log);
        Program::start("trustrelay serve", &mut serve).await
    }
}

/// A signed-in browser's connection to one node.
pub(crate) struct Owner {
    connection: Connection,
    cookie: HeaderValue,
}

impl Owner {
    pub(crate) async fn sign_in(node: &Program) -> Result<Self> {
        let mut connection = Connection::open(node.address).await?;
        let login = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
        let request = Request::post("/api/auth/login").header(CONTENT_TYPE, "application/json");
        let answer = connection.ask(request.body(full(login))?).await?;
        let cookie = answer.headers().get(SET_COOKIE).context("no cookie")?.to_str()?;
        let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap_or_default())?;
        Ok(Self { connection, cookie })
    }

    pub(crate) async fn create(&mut self, name: &str) -> Result<Token> {
        let body = json!({ "pat_name": name, "pat_scope": "mcp api" }).to_string();
        let request =
            Request::post("/api/user/personal-access-tokens").header(CONTENT_TYPE, "application/json");
        let answer = self.connection.ask(request.header(COOKIE, &self.cookie).body(full(body))?).await?;
        let made: Value = serde_json::from_slice(answer.body())?;
        let field = |name: &str| made["value"][name].as_str().context("no token").map(ToOwned::to_owned);
        let authorization = HeaderValue::from_str(&format!("Bearer {}", field("pat_token")?))?;
        Ok(Token { id: field("pat_id")?, authorization })
    }

    /// Revokes a token, and waits for the answer.
    pub(crate) async fn revoke(&mut self, token: &Token) -> Result<()> {
        let request = Request::delete(format!("/api/user/personal-access-tokens/{}", token.id));
        self.connection.ask(request.header(COOKIE, &self.cookie).body(full(""))?).await.map(drop)
    }
}

/// Whether the node behind this connection accepts the token.
pub(crate) async fn is_accepted(connection: &mut Connection, token: &Token) -> Result<bool> {
    let answer = connection.send(verification(&token.authorization)?).await?;
    let status = answer.status();
    http_body_util::BodyExt::collect(answer.into_body()).await?;
    ensure!(status.is_success() || status.as_u16() == 401, "a verification was answered {status}");
    Ok(status.is_success())
}

/// A request that costs little but the verification.
pub(crate) fn verification(
    authorization: &HeaderValue,
) -> Result<Request<http_body_util::Full<bytes::Bytes>>> {
    Ok(Request::get("/api/user").header(AUTHORIZATION, authorization).body(full(""))?)
}
