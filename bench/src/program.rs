//! The programs that are measured, started here: they end with the run, whatever becomes of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a program may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before looking again whether a program listens.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Returns the path of the program that is measured.
pub(crate) fn trustrelay() -> Result<PathBuf> {
    beside("trustrelay")
}

/// Returns the path of a program that was built beside this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe().context("this program's own path is not known")?.with_file_name(name);
    ensure!(path.exists(), "there is no {name} beside the bench; run `cargo xtask bench relay`");
    Ok(path)
}

/// A running program that listens. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    pid: u32,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub(crate) async fn start(name: &str, command: &mut Command) -> Result<Self> {
        let command = command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let address = loop {
            let line = timeout(PATIENCE, lines.next_line()).await;
            match line.with_context(|| format!("{name} does not listen"))?? {
                None => bail!("{name} ended"),
                Some(line) => {
                    if let Some(address) = line.strip_prefix("listening on http://") {
                        // Some say the whole URL.
                        break address.split('/').next().unwrap_or_default().parse()?;
                    }
                }
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, pid, address })
    }

    /// Starts one that is told where to listen, and waits so long until it does. What it says is
    /// not seen.
    pub(crate) async fn start_at(
        name: &str,
        command: &mut Command,
        address: SocketAddr,
        patience: Duration,
    ) -> Result<Self> {
        let command = command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        let mut program = Self { child, pid, address };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(ended) = program.child.try_wait()? {
                    bail!("{name} ended ({ended})");
                }
                sleep(BETWEEN_LOOKS).await;
            }
            Ok(())
        };
        timeout(patience, listens).await.with_context(|| format!("{name} does not listen"))??;
        Ok(program)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The processor time that it has taken so far, on all cores.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name, in parentheses, may have spaces; utime and stime are the 12th and 13th field
        // after it.
        let fields = stat.rsplit_once(')').context("no name")?.1;
        let ticks: Vec<u64> = fields.split(' ').skip(12).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / clock_ticks_per_second() as f64))
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        resident(self.pid)
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.pid.cast_signed()).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(mut self) -> Result<()> {
        timeout(PATIENCE, self.child.kill()).await.context("it does not end")??;
        Ok(())
    }
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
