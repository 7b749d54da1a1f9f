//! `flame`: where the time of one request goes, sampled by `perf` in the program as it is shipped
//! while it is under load, and drawn as flame graphs: a request behind the guard, `GET /api/user`,
//! and a tool call through the relay.

mod shares;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use http::StatusCode;
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::aim::Aim;
use crate::load::{Callers, Clients, Expected};
use crate::machine::Machine;
use crate::mcp::{Client, Era};
use crate::measure::Round;
use crate::node::verification;
use crate::program::Program;
use crate::report::{self, Picture, Section, say};
use crate::server::{self, Server};
use crate::table::{Table, figures, words};
use crate::upstream::SAID;

use shares::Shares;

/// How many connections ask: enough to keep the program busy.
const CONNECTIONS: usize = 8;
/// Samples a second on each core; not a divisor of what the kernel does regularly.
const FREQUENCY: &str = "997";
/// How much of each stack is kept, in bytes: `perf` finds its frames afterwards.
const STACK: &str = "dwarf,32768";
/// How large a drawing may be, in bytes: it is kept with the documents.
const LARGEST: usize = 250_000;
/// Frames narrower than the first of these, in percent, are not drawn; of the next one, where the
/// drawing would be too large.
const NARROWEST: [f64; 5] = [0.1, 0.2, 0.5, 1.0, 2.0];

#[derive(Args)]
pub(crate) struct Options {
    /// How long each is sampled, in seconds.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/flame.json")]
    out: PathBuf,
}

/// What one kind of request was seen to do.
#[derive(Debug, Serialize, Deserialize)]
struct Profile {
    kind: Kind,
    requests_per_second: f64,
    samples: usize,
    /// Each stack, outermost frame first, and how often it was seen.
    stacks: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Guard,
    User,
    Call,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Guard => "behind the guard",
            Self::User => "`GET /api/user`",
            Self::Call => "a call through `/mcp/NAME`",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Guard => "A request behind the guard",
            Self::User => "GET /api/user",
            Self::Call => "A tool call through the relay",
        }
    }

    fn picture(self) -> &'static str {
        match self {
            Self::Guard => "flame-guard",
            Self::User => "flame-user",
            Self::Call => "flame-call",
        }
    }
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    seconds: f64,
    profiles: Vec<Profile>,
}

/// Samples, says the report and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.seconds > 0.0, "--seconds is {}; it must be above 0", options.seconds);
    let (seconds, time) = (options.seconds, Duration::from_secs_f64(options.seconds));
    let upstream = server::upstream().await?;
    let server = Server::start(&upstream).await?;
    let token = server.tokens(1).await?.remove(0);
    let accepted = |part| Expected { status: StatusCode::OK, part };

    let guarded = server::guarded().await?;
    let requests = [verification(&guarded.token)?].into();
    let mut callers =
        Callers::connect(guarded.program.address, CONNECTIONS, &requests, accepted(b"\"credential\""))
            .await?;
    let guard = profile(Kind::Guard, &guarded.program, seconds, callers.call(time)).await?;

    let program = &server.program;
    let requests = [verification(&token)?].into();
    let mut callers =
        Callers::connect(program.address, CONNECTIONS, &requests, accepted(b"\"credential\"")).await?;
    let user = profile(Kind::User, program, seconds, callers.call(time)).await?;

    let (era, authorization) = (Era::Stateless, Some(token));
    let client = Client { path: "/mcp/fast", era, authorization, tool: "echo", said: SAID, session: None };
    let mut clients = Clients::connect(program.address, vec![client; CONNECTIONS]).await?;
    let call = profile(Kind::Call, program, seconds, clients.call(time)).await?;

    guarded.program.stop().await?;
    server.stop().await?;
    upstream.stop().await?;
    let report = Report { machine: Machine::here()?, seconds, profiles: vec![guard, user, call] };
    report::finish(&report, &options.out)
}

/// Samples a program while it answers.
async fn profile(
    kind: Kind,
    program: &Program,
    seconds: f64,
    load: impl Future<Output = Result<Round>>,
) -> Result<Profile> {
    say(&format!("{}: {seconds} s.", kind.title()));
    let folder = tempfile::TempDir::new()?;
    let data = folder.path().join("perf.data");
    // It ends before the load does.
    let (sampled, round) = tokio::join!(sample(program, &data, seconds * 0.9), load);
    let (script, round) = (sampled?, round?);
    let stacks = collapse(&script)?;
    let samples = stacks.iter().map(|stack| shares::count(stack)).sum();
    ensure!(samples > 0, "perf saw nothing of {}", kind.title());
    Ok(Profile { kind, requests_per_second: round.per_second(), samples, stacks })
}

/// What `perf` has seen, as text.
async fn sample(program: &Program, data: &Path, seconds: f64) -> Result<Vec<u8>> {
    let (pid, time) = (program.pid().to_string(), seconds.to_string());
    let mut record = Command::new("perf");
    record.args(["record", "--quiet", "--event", "cpu-clock", "--freq", FREQUENCY, "--call-graph", STACK]);
    record.args(["--pid", &pid, "--output"]).arg(data).args(["--", "sleep", &time]);
    let recorded = match record.kill_on_drop(true).stdin(Stdio::null()).output().await {
        Ok(recorded) => recorded,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("`perf` is not there; on Debian: `sudo apt-get install linux-perf`")
        }
        Err(error) => return Err(error).context("perf does not start"),
    };
    let says = String::from_utf8_lossy(&recorded.stderr).trim().to_owned();
    ensure!(
        recorded.status.success(),
        "perf may not look: run it as root, or with the kernel's setting `kernel.perf_event_paranoid` at 1. It says: {says}"
    );
    let mut script = Command::new("perf");
    // Without the time that each sample stands for: it counts as one.
    script.args(["script", "--no-inline", "--fields", "comm,pid,tid,time,event,ip,sym,dso", "--input"]);
    let told = script.arg(data).output().await?;
    ensure!(
        told.status.success(),
        "perf cannot read what it wrote: {}",
        String::from_utf8_lossy(&told.stderr)
    );
    Ok(told.stdout)
}

/// One line for each stack, from where a request begins.
fn collapse(script: &[u8]) -> Result<Vec<String>> {
    let mut folded = Vec::new();
    Folder::default().collapse(script, &mut folded)?;
    Ok(shares::from_the_request(String::from_utf8_lossy(&folded).lines()))
}

impl Profile {
    /// With as many of the narrow frames as there is room for.
    fn svg(&self) -> Result<String> {
        for narrowest in NARROWEST {
            let svg = self.drawn(narrowest)?;
            if svg.len() <= LARGEST {
                return Ok(svg);
            }
        }
        bail!("the flame graph of {} is larger than {LARGEST} bytes", self.kind.title())
    }

    fn drawn(&self, narrowest: f64) -> Result<String> {
        let mut options = flamegraph::Options::default();
        options.title = self.kind.title().to_owned();
        options.subtitle =
            Some("Samples of processor time; wider is longer, above is called by what is below".into());
        options.count_name = "samples".into();
        options.min_width = narrowest;
        options.deterministic = true;
        // One ground under light and dark pages alike; the frames are light.
        options.bgcolors = "#f6f8fa".parse().ok();
        options.font_type = "sans-serif".into();
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, self.stacks.iter().map(String::as_str), &mut svg)
            .with_context(|| format!("{} cannot be drawn", self.kind.title()))?;
        Ok(String::from_utf8(svg)?)
    }
}

impl report::Report for Report {
    const PART: &'static str = "flame";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let columns = [words("processor time, %")].into_iter();
        let columns = columns.chain(self.profiles.iter().map(|profile| figures(profile.kind.name())));
        let shares: Vec<Shares> = self.profiles.iter().map(|profile| Shares::of(&profile.stacks)).collect();
        let rows = shares::WHERE.iter().map(|place| {
            let percents = shares.iter().map(|shares| format!("{:.1}", shares.percent(place.name)));
            [place.name.to_owned()].into_iter().chain(percents).collect()
        });
        let seen = self.profiles.iter().map(|profile| {
            let (name, samples, rate) = (profile.kind.name(), profile.samples, profile.requests_per_second);
            format!("{name}: {samples} samples at {rate:.0} requests a second")
        });
        vec![
            Section::Words(format!(
                "Sampled for {} s each, on {CONNECTIONS} connections. {}.",
                self.seconds,
                seen.collect::<Vec<_>>().join("; ")
            )),
            Section::Table(Table::new(columns, rows)),
        ]
    }

    fn aims(&self) -> &[Aim] {
        &[]
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let picture = |profile: &Profile| {
            let shows = format!("A flame graph: {}", profile.kind.title());
            Ok(Picture { name: profile.kind.picture(), shows, svg: profile.svg()? })
        };
        self.profiles.iter().map(picture).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many stacks, each seen once, below one that was seen as often.
    fn profile(different: usize) -> Profile {
        let long = "long_".repeat(100);
        let stacks = (0..different).map(|at| format!("hyper::poll;a_function_with_a_{long}name_{at} 1"));
        let stacks = stacks.chain([format!("hyper::poll;writev {different}")]).collect();
        Profile { kind: Kind::Guard, requests_per_second: 1.0, samples: 2 * different, stacks }
    }

    #[test]
    fn narrow_frames_are_drawn_while_there_is_room_and_left_out_where_there_is_none() {
        let (few, many) = (profile(100).svg().expect("drawn"), profile(400).svg().expect("drawn"));
        assert!(few.contains("name_99"));
        assert!(profile(400).drawn(NARROWEST[0]).expect("drawn").len() > LARGEST);
        assert!(many.len() <= LARGEST && many.contains("writev"), "{}", many.len());
    }
}
