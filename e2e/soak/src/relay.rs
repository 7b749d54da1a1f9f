//! The built server, and what can be seen of it from outside.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use trustrelay_e2e::process::{Process, output};
use trustrelay_e2e::until;
use trustrelay_e2e_conformance::programs::built;

/// A running server.
#[derive(Debug)]
pub struct Relay {
    /// `http://host:port`.
    pub base: String,
    data: TempDir,
    process: Process,
    pid: Pid,
    client: reqwest::Client,
}

impl Relay {
    /// Starts it with these accounts and upstreams.
    pub async fn start(accounts: &[&str], upstreams: &[(&str, String)]) -> Result<Self> {
        let data = TempDir::new()?;
        for email in accounts {
            let mut add = command(data.path())?;
            let mut add = Process::start("user add", add.args(["user", "add", email, "--password-stdin"]))?;
            add.input()?.write_all(b"correct horse battery staple\n").await?;
            add.end_input();
            add.line().await.context("the account is not made")?;
        }
        let mut serve = command(data.path())?;
        serve
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stderr(std::fs::File::create(data.path().join("log"))?);
        for (name, at) in upstreams {
            serve.args(["--upstream", &format!("{name}={at}")]);
        }
        let mut process = Process::start("trustrelay serve", &mut serve)?;
        let pid = process.pid().context("no process")?;
        let base = loop {
            let line = process.line().await?;
            if let Some(base) = line.strip_prefix("listening on ") {
                break base.to_owned();
            }
        };
        process.drain();
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        Ok(Self { base, data, process, pid, client })
    }

    /// Runs another command on the same data; it has to end well.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        output("trustrelay", command(self.data.path())?.args(arguments)).await
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default()
    }

    /// How many sessions, streams, calls and links it says are open.
    pub async fn open(&self) -> Result<[u64; 4]> {
        let answer = self.client.get(format!("{}/metrics", self.base)).send().await?.error_for_status()?;
        let text = answer.text().await?;
        let number = |kind: &str| -> Result<u64> {
            let name = format!("trustrelay_mcp_{kind}_open ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("0");
            let value: f64 = value.parse().with_context(|| format!("{kind}: {value}"))?;
            ensure!(value >= 0.0, "fewer than no {kind} are open: {value}");
            Ok(value as u64)
        };
        Ok([number("sessions")?, number("streams")?, number("calls")?, number("links")?])
    }

    /// How many files it has open.
    pub fn files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()))?.count())
    }

    /// Its child processes that run.
    pub fn children(&self) -> Result<Vec<Pid>> {
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that ends while it is looked at is none.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            // After the name: the state, and the parent.
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let (state, parent) = (fields.next(), fields.next());
            if state != Some("Z") && parent == Some(&self.pid.as_raw_nonzero().to_string()) {
                children.extend(Pid::from_raw(pid));
            }
        }
        Ok(children)
    }

    /// Asks it to end and waits for that.
    pub async fn stop(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM)?;
        let process = &mut self.process;
        until("the server's end", || {
            let ended = process.has_ended();
            async move { ended.then_some(()) }
        })
        .await
    }
}

fn command(data: &Path) -> Result<Command> {
    let mut command = Command::new(built("trustrelay")?);
    command.current_dir(data).env("TRUSTRELAY_DATA_DIR", data);
    Ok(command)
}
