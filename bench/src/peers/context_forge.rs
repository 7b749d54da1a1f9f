//! ContextForge, an MCP gateway in Python, in front of the same upstream.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use trustrelay_authority::ServerSecret;

use crate::http::Connection;
use crate::mcp::full;
use crate::program::Program;

pub(super) const NAME: &str = "ContextForge";

const EMAIL: &str = "bench@example.org";
const PASSWORD: &str = "Correct-Horse-Battery-Staple-2026!";
/// How long it may take until it answers: it makes its database first.
const PATIENCE: Duration = Duration::from_secs(180);

/// What its tuning guide names, and all that is not the work asked for switched off. What is left:
/// its own tokens are asked for and checked, and calls go through its registry of tools.
const SETTINGS: [(&str, &str); 22] = [
    ("AUTH_REQUIRED", "true"),
    ("CACHE_TYPE", "memory"),
    ("LOG_LEVEL", "ERROR"),
    ("PLUGINS_ENABLED", "false"),
    ("MCPGATEWAY_UI_ENABLED", "false"),
    ("MCPGATEWAY_ADMIN_API_ENABLED", "false"),
    ("MCPGATEWAY_A2A_ENABLED", "false"),
    ("MCPGATEWAY_CATALOG_ENABLED", "false"),
    ("OBSERVABILITY_ENABLED", "false"),
    ("STRUCTURED_LOGGING_ENABLED", "false"),
    ("TOKEN_USAGE_LOGGING_ENABLED", "false"),
    ("DB_METRICS_RECORDING_ENABLED", "false"),
    ("CORRELATION_ID_ENABLED", "false"),
    ("COMPRESSION_ENABLED", "false"),
    ("RATE_LIMITING_ENABLED", "false"),
    ("TOOL_RATE_LIMIT", "1000000000"),
    ("TOOL_CONCURRENT_LIMIT", "1000"),
    ("SSRF_ALLOW_LOCALHOST", "true"),
    ("SSRF_ALLOW_PRIVATE_NETWORKS", "true"),
    // The upstream is plain HTTP: it reads no certificates for each call.
    ("SKIP_SSL_VERIFY", "true"),
    ("PASSWORD_CHANGE_ENFORCEMENT_ENABLED", "false"),
    ("ENVIRONMENT", "production"),
];

pub(super) fn settings(workers: usize) -> Vec<String> {
    let server =
        format!("gunicorn with {workers} uvicorn workers and `--preload`; SQLite; one of its API tokens");
    let variables: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("`{name}={value}`")).collect();
    vec![server, variables.join(" ")]
}

/// A running gateway with the upstream registered in it, and one of its API tokens.
pub(super) struct ContextForge {
    pub(super) program: Program,
    pub(super) version: String,
    /// `Authorization`.
    pub(super) token: HeaderValue,
    /// Its data, which goes with it.
    _folder: TempDir,
}

impl ContextForge {
    pub(super) async fn start(peers: &Path, upstream: &Program, workers: usize) -> Result<Self> {
        let python = std::path::absolute(peers.join("contextforge/venv/bin/python"))?;
        ensure!(python.exists(), "it is not installed");
        let folder = TempDir::new()?;
        let address = free_address()?;
        let mut command = Command::new(&python);
        command.args(["-m", "gunicorn", "--worker-class", "uvicorn.workers.UvicornWorker", "--preload"]);
        // Connections wait while others have their turn.
        command.args(["--keep-alive", "3600"]);
        command.args([
            "--log-level",
            "error",
            "--workers",
            &workers.to_string(),
            "--bind",
            &address.to_string(),
        ]);
        command.arg("mcpgateway.main:app").current_dir(folder.path());
        let (signed, encrypted) = (ServerSecret::generate()?, ServerSecret::generate()?);
        command.env_clear().envs(SETTINGS).env("HOME", folder.path()).env("HOST", "127.0.0.1");
        command.env("DATABASE_URL", "sqlite:///./data.sqlite");
        command.env("JWT_SECRET_KEY", signed.expose().as_str());
        command.env("AUTH_ENCRYPTION_SECRET", encrypted.expose().as_str());
        command.env("PLATFORM_ADMIN_EMAIL", EMAIL).env("PLATFORM_ADMIN_PASSWORD", PASSWORD);
        command.env("DEFAULT_USER_PASSWORD", PASSWORD).env("BASIC_AUTH_PASSWORD", PASSWORD);
        command.stderr(std::fs::File::create(folder.path().join("log"))?);
        let program = Program::start_at(NAME, &mut command, address, PATIENCE).await?;
        // Whatever comes of it, what was started ends.
        match set_up(address, upstream).await {
            Ok(token) => Ok(Self { program, version: version(&python).await?, token, _folder: folder }),
            Err(error) => program.stop().await.and(Err(error)),
        }
    }
}

/// Signs in, registers the upstream and makes a token.
async fn set_up(address: SocketAddr, upstream: &Program) -> Result<HeaderValue> {
    let mut api = Api { connection: Connection::open(address).await?, authorization: None };
    let signed_in = api.post("/auth/login", &json!({ "email": EMAIL, "password": PASSWORD })).await?;
    api.authorization = Some(bearer(&signed_in)?);
    let url = format!("http://{}/mcp", upstream.address);
    let gateway =
        json!({ "name": "fast", "url": url, "transport": "STREAMABLEHTTP", "visibility": "public" });
    api.post("/gateways", &gateway).await.context("the upstream is not registered")?;
    bearer(&api.post("/tokens", &json!({ "name": "bench", "expires_in_days": 30 })).await?)
}

struct Api {
    connection: Connection,
    authorization: Option<HeaderValue>,
}

impl Api {
    async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = self.connection.ask(request.body(full(body.to_string()))?).await;
        Ok(serde_json::from_slice(answer.with_context(|| path.to_owned())?.body())?)
    }
}

fn bearer(answer: &Value) -> Result<HeaderValue> {
    let token = answer["access_token"].as_str().context("no token")?;
    Ok(HeaderValue::from_str(&format!("Bearer {token}"))?)
}

/// One at which nothing listens.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn version(python: &Path) -> Result<String> {
    let asks = "import importlib.metadata as of, platform
print(of.version('mcp-contextforge-gateway'), '(Python', platform.python_version() + ',', 'gunicorn', of.version('gunicorn') + ')')";
    let said = Command::new(python).args(["-c", asks]).output().await?;
    ensure!(said.status.success(), "its version is not known");
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}
