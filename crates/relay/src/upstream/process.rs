//! A child process and its whole process group: started, watched, and ended with nothing left over.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use trustrelay_token::UpstreamName;

use crate::config::Limits;
use crate::upstream::Fault;
use crate::upstream::lines::Lines;

/// What a child sees of this process's environment, beside what is configured for it. Secrets of the relay are in none of
/// these.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TERM", "TMPDIR"];
/// How long a child may take to end by itself: once after its input was closed, once more after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// The first pause before a command that failed is started again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A child that ran for this long was not a failure to start.
const STEADY: Duration = Duration::from_secs(10);
/// Longest line of standard error that goes into the log, in bytes.
const LOG_LINE: usize = 2048;

#[derive(Default)]
struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

/// Starts the processes of one upstream: bounded in number, and not again and again when they fail.
pub(crate) struct Launcher {
    name: UpstreamName,
    command: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    places: Arc<Semaphore>,
    backoff: Arc<Mutex<Backoff>>,
}

/// A started child: its ends, and what stops it.
pub(crate) struct Started {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    /// Cancelled when it is to end. Its input must be closed by whoever holds it.
    pub(crate) stop: CancellationToken,
    /// Cancelled when it has ended, and its group with it.
    pub(crate) ended: CancellationToken,
}

impl Launcher {
    pub(crate) fn new(
        name: UpstreamName,
        command: Vec<String>,
        env: Vec<(String, String)>,
        cwd: Option<PathBuf>,
        limits: &Limits,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.processes));
        Self { name, command, env, cwd, places, backoff: Arc::default() }
    }

    /// Starts the command. At once, or after the shortest of pauses: waiting for a place or for a longer pause to end would hold up
    /// who asks.
    pub(crate) async fn start(&self) -> Result<Started, Fault> {
        let not_before = self.backoff.lock().not_before;
        if let Some(time) = not_before.filter(|time| *time > Instant::now()) {
            if time > Instant::now() + FIRST_PAUSE {
                return Err(Fault::Down);
            }
            tokio::time::sleep_until(time).await;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Fault::Busy)?;
        let started = self.spawn(place);
        if started.is_err() {
            failed(&self.backoff);
        }
        started
    }

    fn spawn(&self, place: OwnedSemaphorePermit) -> Result<Started, Fault> {
        let (program, arguments) = self.command.split_first().ok_or(Fault::Down)?;
        let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(inherited)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what it starts ends with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn().map_err(|error| {
            tracing::warn!(upstream = %self.name, %error, "the command does not start");
            Fault::Down
        })?;
        let ends = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = ends else { return Err(Fault::Down) };
        let name = self.name.clone();
        tokio::spawn(async move {
            let mut lines = Lines::new(stderr, LOG_LINE);
            while let Ok(Some(line)) = lines.next().await {
                tracing::info!(upstream = %name, line = %line.trim_end(), "stderr");
            }
        });
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let watch = Watch {
            name: self.name.clone(),
            group: Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))),
            backoff: Arc::clone(&self.backoff),
            stop: stop.clone(),
            ended: ended.clone(),
            _place: place,
        };
        tokio::spawn(watch.run(child));
        Ok(Started { stdin, stdout, stop, ended })
    }
}

fn failed(backoff: &Mutex<Backoff>) {
    let mut backoff = backoff.lock();
    let pause = FIRST_PAUSE.saturating_mul(1 << backoff.failures.min(10)).min(LONGEST_PAUSE);
    backoff.failures = backoff.failures.saturating_add(1);
    backoff.not_before = Some(Instant::now() + pause);
}

/// The group that a child leads. Dropped, it is killed: also when the relay's runtime goes away.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It may be gone already.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

struct Watch {
    name: UpstreamName,
    group: Group,
    backoff: Arc<Mutex<Backoff>>,
    stop: CancellationToken,
    ended: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn run(self, mut child: Child) {
        let started = Instant::now();
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!(upstream = %self.name, status, "the command ended by itself");
                if started.elapsed() < STEADY {
                    failed(&self.backoff);
                } else {
                    *self.backoff.lock() = Backoff::default();
                }
            }
            () = self.stop.cancelled() => {
                for signal in [Signal::TERM, Signal::KILL] {
                    if timeout(GRACE, child.wait()).await.is_ok() {
                        break;
                    }
                    self.group.signal(signal);
                }
                let _ = timeout(GRACE, child.wait()).await;
            }
        }
        // What it started and left behind.
        self.group.signal(Signal::KILL);
        self.ended.cancel();
    }
}
