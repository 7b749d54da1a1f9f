//! A child process and its process group: starting, watching, and ending them without leftovers.

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

/// The variables that a child inherits from this process's environment, in addition to its
/// configured ones. None of them contains a secret of the relay.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TERM", "TMPDIR"];
/// Time for a child to end by itself: once after its input was closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// The first pause before a failed command is started again. It doubles up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A child that ran for this long counts as started successfully.
const STEADY: Duration = Duration::from_secs(10);
/// Maximum length of a line of standard error in the log, in bytes.
const LOG_LINE: usize = 2048;

#[derive(Default)]
struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

/// Starts the processes of one upstream. Limits their number, and backs off after failures.
pub(crate) struct Launcher {
    name: UpstreamName,
    command: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    places: Arc<Semaphore>,
    backoff: Arc<Mutex<Backoff>>,
}

/// A started child: its pipes and the tokens that control it.
pub(crate) struct Started {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    /// Cancelled to end the child. Its input must be closed by the holder.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the child and its process group have ended.
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

    /// Starts the command, at once or after the shortest pause. During a longer pause, or without a
    /// free place, it fails immediately, so that callers are not held up.
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
            // A process group of its own, so that its descendants end with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn().map_err(|error| {
            tracing::warn!(upstream = %self.name, %error, "could not start the command");
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

/// The process group that a child leads. It is killed on drop, also when the relay's runtime shuts
/// down.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // The group may already be gone.
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
                tracing::warn!(upstream = %self.name, status, "the command exited");
                if started.elapsed() < STEADY {
                    failed(&self.backoff);
                } else {
                    *self.backoff.lock() = Backoff::default();
                }
            }
            () = self.stop.cancelled() => {
                // The child's input is closed by now. It gets time to end by itself, then after
                // SIGTERM.
                for signal in [Signal::TERM, Signal::KILL] {
                    if timeout(GRACE, child.wait()).await.is_ok() {
                        break;
                    }
                    self.group.signal(signal);
                }
                let _ = timeout(GRACE, child.wait()).await;
            }
        }
        // Kills descendants that were left behind.
        self.group.signal(Signal::KILL);
        self.ended.cancel();
    }
}
