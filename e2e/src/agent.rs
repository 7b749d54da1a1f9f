//! An agent: a program that uses an official MCP client library. It is told what to do line by
//! line, so that the tests can do something else in between, such as revoking its token.

use std::fmt;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use url::Url;

use crate::process::Process;
use crate::{PATIENCE, tools};

/// The client libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `mcp` of PyPI, 2.x, in the newest era of the protocol that the server has: the stateless
    /// one.
    Python,
    /// The same in the era of sessions.
    PythonWithSessions,
    /// `@modelcontextprotocol/sdk` of npm, 1.x.
    TypeScriptV1,
    /// `@modelcontextprotocol/client` of npm, 2.x.
    TypeScriptV2,
}

impl Library {
    fn command(self, scripts: &Scripts) -> Result<Command> {
        let (program, script) = match self {
            Self::Python | Self::PythonWithSessions => (tools::python()?, "python_sdk.py"),
            Self::TypeScriptV1 => (tools::node()?, "typescript_v1.mjs"),
            Self::TypeScriptV2 => (tools::node()?, "typescript_v2.mjs"),
        };
        let mut command = Command::new(program);
        let mode = if self == Self::PythonWithSessions { "legacy" } else { "auto" };
        command.arg(scripts.0.path().join(script)).env("TRUSTRELAY_E2E_MODE", mode);
        Ok(command)
    }

    /// How many sessions an agent opens.
    pub fn sessions(self) -> u64 {
        if self == Self::Python { 0 } else { 1 }
    }
}

/// A folder from which scripts find the npm packages: Node looks beside the script.
#[derive(Debug)]
pub struct Scripts(TempDir);

impl Scripts {
    /// With the agents' scripts in it.
    pub fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        std::os::unix::fs::symlink(tools::node_modules()?, dir.path().join("node_modules"))?;
        for script in ["python_sdk.py", "agent.mjs", "typescript_v1.mjs", "typescript_v2.mjs"] {
            std::fs::copy(tools::root().join("e2e/clients").join(script), dir.path().join(script))?;
        }
        Ok(Self(dir))
    }

    /// Puts a script into it; answers where it is.
    pub fn add(&self, name: &str, text: &str) -> Result<std::path::PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// What the library told its agent when something was refused.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// The library's words where it was refused. An answer is an error here, and so is an agent that
/// says nothing.
pub fn refusal<T>(answer: Result<T>) -> Result<String> {
    match answer {
        Ok(_) => bail!("it was answered and should have been refused"),
        Err(error) => error.downcast::<Refused>().map(|refused| refused.0),
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    _scripts: Scripts,
}

impl Agent {
    /// Starts an agent that connects with a token. The error says why it was refused.
    pub async fn connect(library: Library, mcp: &Url, token: &str) -> Result<Self> {
        let scripts = Scripts::new()?;
        let mut command = library.command(&scripts)?;
        command.arg(mcp.as_str()).env("TRUSTRELAY_TOKEN", token).stderr(Stdio::null());
        let process = Process::start(&format!("{library:?}"), &mut command)?;
        let mut agent = Self { process, _scripts: scripts };
        agent.answer().await?;
        Ok(agent)
    }

    /// The names of the tools that it sees.
    pub async fn tools(&mut self) -> Result<Vec<String>> {
        self.tell(&json!({ "do": "list" })).await?;
        let names = self.answer().await?;
        let names = names.as_array().context("no list")?;
        Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }

    /// Calls a tool; answers the text that comes back.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Result<String> {
        self.begin(tool, arguments).await?;
        self.end().await
    }

    /// Begins a call and goes on.
    pub async fn begin(&mut self, tool: &str, arguments: Value) -> Result<()> {
        self.tell(&json!({ "do": "call", "tool": tool, "arguments": arguments })).await
    }

    /// Waits until the running call tells of progress: then it has arrived where it is done.
    pub async fn progress(&mut self) -> Result<()> {
        match self.said().await? {
            said if said.get("progress").is_some() => Ok(()),
            said => bail!("no progress, but {said}"),
        }
    }

    /// Waits for the end of the call that was begun.
    pub async fn end(&mut self) -> Result<String> {
        Ok(self.answer().await?.as_str().unwrap_or_default().to_owned())
    }

    async fn tell(&mut self, command: &Value) -> Result<()> {
        let input = self.process.input()?;
        input.write_all(format!("{command}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    async fn said(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.process.line().await?)?)
    }

    async fn answer(&mut self) -> Result<Value> {
        // However much progress is told in between.
        tokio::time::timeout(PATIENCE, self.heard())
            .await
            .context("there is neither an answer nor a refusal")?
    }

    async fn heard(&mut self) -> Result<Value> {
        loop {
            let mut said = self.said().await?;
            if let Some(value) = said.get_mut("ok") {
                return Ok(value.take());
            }
            if let Some(error) = said.get("error") {
                return Err(Refused(error.as_str().unwrap_or_default().to_owned()).into());
            }
        }
    }
}
