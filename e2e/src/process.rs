//! Programs that end with the test that started them.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::PATIENCE;

/// A running program, in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    group: Option<Pid>,
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts the program. Its standard output is read with [`Process::line`]; its input stays
    /// open.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let command =
            command.process_group(0).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        Ok(Self { name: name.to_owned(), group, child, lines })
    }

    /// Its process, until it has been waited for.
    pub fn pid(&self) -> Option<Pid> {
        self.group
    }

    /// The next line of its standard output.
    pub async fn line(&mut self) -> Result<String> {
        let name = &self.name;
        let lines = self.lines.as_mut().with_context(|| format!("{name} is no longer listened to"))?;
        let line = tokio::time::timeout(PATIENCE, lines.next_line());
        match line.await.with_context(|| format!("{name} says nothing more"))?? {
            Some(line) => Ok(line),
            None => bail!("{name} ended its output"),
        }
    }

    /// Its standard input.
    pub fn input(&mut self) -> Result<&mut ChildStdin> {
        self.child.stdin.as_mut().with_context(|| format!("{} has no input", self.name))
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.child.stdin.take();
    }

    /// Reads on without listening, so that the program never waits for a reader.
    pub fn drain(&mut self) {
        if let Some(mut lines) = self.lines.take() {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        }
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// Kills it, and waits until it is gone: what it listened on is free then.
    pub async fn kill(self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    async fn end(mut self, signal: Signal) -> Result<()> {
        let name = &self.name;
        let group = self.group.with_context(|| format!("{name} does not run"))?;
        kill_process_group(group, signal).with_context(|| format!("{name} cannot be told to stop"))?;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.with_context(|| format!("{name} does not stop"))??;
        // Nobody of that number is there any more.
        self.group = None;
        Ok(())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program to its end and answers its output; an error shows what it said.
pub async fn output(name: &str, command: &mut Command) -> Result<String> {
    let output = raw_output(name, command).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{name} failed ({}):\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

/// Runs a program to its end, however that is.
pub async fn raw_output(name: &str, command: &mut Command) -> Result<std::process::Output> {
    raw_output_within(PATIENCE * 2, name, command).await
}

/// The same, for a program that may take so long.
pub async fn raw_output_within(
    limit: Duration,
    name: &str,
    command: &mut Command,
) -> Result<std::process::Output> {
    let running = command.kill_on_drop(true).stdin(Stdio::null()).output();
    let ended = tokio::time::timeout(limit, running).await;
    ended.with_context(|| format!("{name} does not end"))?.with_context(|| format!("{name} does not start"))
}

/// A port that is free now.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
