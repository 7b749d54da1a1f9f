//! `peers`: what others do of the same work, in the same rounds with the same load generator. A
//! valid key is verified over HTTP by Better Auth and by `GET /api/user`; a tool is called through
//! ContextForge and through TrustRelay's `/mcp`, in front of the same upstream.
//!
//! A peer that is not installed is left out, and the report says so.

mod better_auth;
mod context_forge;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::aim::{Aim, Bound};
use crate::load::{Callers, Clients, Expected};
use crate::machine::Machine;
use crate::mcp::{Client, Era};
use crate::measure::{Round, Spread, micros};
use crate::node::verification;
use crate::plot::{Bar, Bars, Group};
use crate::program::Program;
use crate::report::{self, Picture, Section, say};
use crate::server::{self, Server};
use crate::table::{Table, figures, number, words};
use crate::upstream::SAID;

use better_auth::BetterAuth;
use context_forge::ContextForge;

const TRUSTRELAY: &str = "TrustRelay";
/// From so many connections on, a server has always something to do.
const MANY: usize = 32;

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each is asked in a round, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How many connections ask at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32])]
    connections: Vec<usize>,
    /// Where the peers are installed; `cargo xtask bench peers` does that.
    #[arg(long, default_value = "target/bench/peers")]
    peers: PathBuf,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/peers.json")]
    out: PathBuf,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    Verification,
    ToolCall,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Verification => "verifications",
            Self::ToolCall => "tool calls",
        }
    }

    /// How many times as many as a peer's there are to be.
    fn aim(self) -> f64 {
        match self {
            Self::Verification => 20.0,
            Self::ToolCall => 50.0,
        }
    }
}

/// One that was compared to, or why it was not.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Peer {
    name: String,
    /// With its version; why not, if it did not take part.
    took_part: Result<String, String>,
    /// How it was set up.
    settings: Vec<String>,
}

/// What one of them came to, over all rounds.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    work: Work,
    connections: usize,
    who: String,
    per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// How many times as many TrustRelay did in the same round; none for itself.
    times: Option<Spread>,
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    peers: Vec<Peer>,
    rows: Vec<Row>,
    aims: Vec<Aim>,
}

/// Connections on which one of them is asked.
struct Asked {
    work: Work,
    who: String,
    callers: Connected,
}

enum Connected {
    Verifying(Callers),
    Calling(Clients),
}

impl Asked {
    async fn call(&mut self, time: Duration) -> Result<Round> {
        match &mut self.callers {
            Connected::Verifying(callers) => callers.call(time).await,
            Connected::Calling(clients) => clients.call(time).await,
        }
    }
}

/// Everything that runs.
struct Running {
    server: Server,
    token: HeaderValue,
    /// In each of its settings.
    better_auth: Vec<BetterAuth>,
    context_forge: Option<ContextForge>,
}

/// Measures, says the report and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!(options.seconds > 0.0, "--seconds is {}; it must be above 0", options.seconds);
    ensure!(!options.connections.contains(&0), "--connections must each be at least 1");
    let upstream = server::upstream().await?;
    let server = Server::start(&upstream).await?;
    let token = server.tokens(1).await?.remove(0);
    let (mut peers, mut running) =
        (Vec::new(), Running { server, token, better_auth: Vec::new(), context_forge: None });
    for storage in better_auth::STORAGES {
        let started = BetterAuth::start(&options.peers, storage).await;
        let (peer, started) = taken_part(storage.name(), storage.settings(), started, |one| &one.version);
        peers.push(peer);
        running.better_auth.extend(started);
    }
    let workers = std::thread::available_parallelism()?.get();
    let started = ContextForge::start(&options.peers, &upstream, workers).await;
    let settings = context_forge::settings(workers);
    let (peer, started) = taken_part(context_forge::NAME, settings, started, |one| &one.version);
    peers.push(peer);
    running.context_forge = started;

    // Whatever comes of it, what was started ends.
    let measured = measure_all(options, &running).await;
    running.stop().await?;
    upstream.stop().await?;
    let rows = measured?;
    let aims = rows.iter().filter_map(Row::aim).collect();
    let (machine, rounds, seconds) = (Machine::here()?, options.rounds, options.seconds);
    report::finish(&Report { machine, rounds, seconds, peers, rows, aims }, &options.out)
}

/// The peer as the report has it, and what runs of it. It says which of both it is.
fn taken_part<T>(
    name: &str,
    settings: Vec<String>,
    started: Result<T>,
    version: impl Fn(&T) -> &str,
) -> (Peer, Option<T>) {
    let took_part = match &started {
        Ok(one) => Ok(version(one).to_owned()),
        Err(error) => Err(format!("{error:#}")),
    };
    let peer = Peer { name: name.to_owned(), took_part, settings };
    say(&peer.shown());
    (peer, started.ok())
}

impl Running {
    async fn connect(&self, connections: usize) -> Result<Vec<Asked>> {
        let mut asked = Vec::new();
        let accepted = |part| Expected { status: StatusCode::OK, part };
        let program = &self.server.program;
        let requests = [verification(&self.token)?].into();
        let callers =
            Callers::connect(program.address, connections, &requests, accepted(b"\"credential\"")).await?;
        asked.push(Asked {
            work: Work::Verification,
            who: TRUSTRELAY.into(),
            callers: Connected::Verifying(callers),
        });
        for one in &self.better_auth {
            let (address, requests) = (one.program.address, [one.request()?].into());
            let callers =
                Callers::connect(address, connections, &requests, accepted(br#""valid":true"#)).await?;
            asked.push(Asked {
                work: Work::Verification,
                who: one.storage.name().into(),
                callers: Connected::Verifying(callers),
            });
        }
        if let Some(forge) = &self.context_forge {
            for (who, address, tool, token) in [
                (TRUSTRELAY, program.address, "fast__echo", &self.token),
                (context_forge::NAME, forge.program.address, "fast-echo", &forge.token),
            ] {
                let client = Client {
                    path: "/mcp",
                    era: Era::Session,
                    authorization: Some(token.clone()),
                    tool,
                    said: SAID,
                    session: None,
                };
                let clients = Clients::connect(address, vec![client; connections]).await?;
                asked.push(Asked {
                    work: Work::ToolCall,
                    who: who.into(),
                    callers: Connected::Calling(clients),
                });
            }
        }
        Ok(asked)
    }

    async fn stop(self) -> Result<()> {
        let programs = self.better_auth.into_iter().map(|one| one.program);
        let programs: Vec<Program> = programs.chain(self.context_forge.map(|one| one.program)).collect();
        let mut ended = self.server.stop().await;
        for program in programs {
            ended = program.stop().await.and(ended);
        }
        ended
    }
}

async fn measure_all(options: &Options, running: &Running) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &connections in &options.connections {
        say(&format!("{}, {}.", number(connections, "connection"), number(options.rounds, "round")));
        rows.extend(measure(options, running, connections).await?);
    }
    Ok(rows)
}

async fn measure(options: &Options, running: &Running, connections: usize) -> Result<Vec<Row>> {
    let mut asked = running.connect(connections).await?;
    let time = Duration::from_secs_f64(options.seconds);
    let mut rounds: Vec<Vec<Round>> = asked.iter().map(|_| Vec::new()).collect();
    // The first round is not counted: what is done once is done before it is measured.
    for round in 0..=options.rounds {
        for (one, rounds) in asked.iter_mut().zip(&mut rounds) {
            let measured = one.call(if round == 0 { time / 4 } else { time }).await;
            let measured = measured.with_context(|| format!("{} at {}", one.who, one.work.name()))?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    let own = |work| asked.iter().position(|one| one.work == work && one.who == TRUSTRELAY);
    let rows = asked.iter().zip(&rounds).map(|(one, theirs)| {
        let ours = own(one.work).filter(|_| one.who != TRUSTRELAY).map(|at| &rounds[at]);
        Row {
            work: one.work,
            connections,
            who: one.who.clone(),
            per_second: Spread::of(theirs.iter().map(Round::per_second)),
            p50_us: Spread::of(theirs.iter().map(|round| micros(round.p50))),
            p99_us: Spread::of(theirs.iter().map(|round| micros(round.p99))),
            times: ours.map(|ours| {
                let pairs = ours.iter().zip(theirs);
                Spread::of(pairs.map(|(ours, theirs)| ours.per_second() / theirs.per_second()))
            }),
        }
    });
    Ok(rows.collect())
}

impl Peer {
    fn shown(&self) -> String {
        match &self.took_part {
            Ok(version) => format!("{}, version {version}: {}.", self.name, self.settings.join("; ")),
            Err(why) => format!("{} is left out: {why}.", self.name),
        }
    }
}

impl Row {
    /// What is aimed at. A verification on one connection is for the most part the way there and
    /// back, the same for both.
    fn aim(&self) -> Option<Aim> {
        if self.work == Work::Verification && self.connections < MANY {
            return None;
        }
        let (work, who) = (self.work.name(), &self.who);
        let connections = number(self.connections, "connection");
        let what = format!("{work} to those of {who}, {connections}");
        self.times.map(|times| Aim::new(what, Bound::AtLeast(self.work.aim()), times, 0))
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.work.name().to_owned(),
            self.connections.to_string(),
            self.who.clone(),
            self.per_second.shown(0),
            self.p50_us.shown(0),
            self.p99_us.shown(0),
            self.times.map(|times| times.shown(0)).unwrap_or_default(),
        ]
    }

    fn bar(&self) -> Bar {
        let times = self.times.map(|times| format!(": TrustRelay {:.0} times", times.median));
        let said = format!("{:.0}{}", self.per_second.median, times.unwrap_or_default());
        Bar::spread(self.who.clone(), usize::from(self.who != TRUSTRELAY), self.per_second, said)
    }
}

impl report::Report for Report {
    const PART: &'static str = "peers";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let columns = [
            words("work"),
            figures("connections"),
            words("who"),
            figures("per second"),
            figures("p50 µs"),
            figures("p99 µs"),
            figures("TrustRelay's to it"),
        ];
        let (rounds, seconds) = (self.rounds, self.seconds);
        let mut sections: Vec<Section> = self.peers.iter().map(|peer| Section::Words(peer.shown())).collect();
        sections.push(Section::Words(format!(
            "{rounds} rounds of {seconds} s each. Median (least–greatest) of the rounds."
        )));
        sections.push(Section::Table(Table::new(columns, self.rows.iter().map(Row::cells))));
        sections
    }

    fn aims(&self) -> &[Aim] {
        &self.aims
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let mut groups: Vec<Group> = Vec::new();
        for row in &self.rows {
            let name = format!("{}, {}", row.work.name(), number(row.connections, "connection"));
            match groups.last_mut().filter(|group| group.name == name) {
                Some(group) => group.bars.push(row.bar()),
                None => groups.push(Group { name, bars: vec![row.bar()] }),
            }
        }
        let bars = Bars {
            title: "Others at the same work".into(),
            unit: format!("Per second; line: least to greatest of {}", number(self.rounds, "round")),
            legend: Vec::new(),
            groups,
        };
        let shows = "Verifications and tool calls a second of TrustRelay and of its peers".into();
        Ok(vec![Picture { name: "bench-peers", shows, svg: bars.svg() }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(work: Work, connections: usize, who: &str, times: Option<f64>) -> Row {
        let figure = Spread::of([1.0]);
        let (per_second, p50_us, p99_us) = (figure, figure, figure);
        let times = times.map(|times| Spread::of([times]));
        Row { work, connections, who: who.into(), per_second, p50_us, p99_us, times }
    }

    #[test]
    fn each_work_is_held_to_its_own_aim_and_trustrelay_is_not_compared_to_itself() {
        let met = |work, connections, times| {
            row(work, connections, "a peer", Some(times)).aim().map(|aim| aim.is_met())
        };
        assert_eq!(met(Work::Verification, 32, 20.0), Some(true));
        assert_eq!(met(Work::Verification, 32, 19.0), Some(false));
        assert_eq!(met(Work::Verification, 1, 19.0), None);
        assert_eq!(met(Work::ToolCall, 1, 50.0), Some(true));
        assert_eq!(met(Work::ToolCall, 32, 49.0), Some(false));
        assert_eq!(row(Work::ToolCall, 32, TRUSTRELAY, None).aim(), None);
    }

    #[test]
    fn a_peer_that_does_not_start_is_left_out_and_the_report_says_why() {
        let failed = Err(anyhow::anyhow!("it is not installed"));
        let (peer, started) = taken_part("Some Peer", vec!["tuned".into()], failed, |one: &String| one);
        assert!(started.is_none());
        assert_eq!(peer.shown(), "Some Peer is left out: it is not installed.");
        let (peer, started) = taken_part("Some Peer", vec!["tuned".into()], Ok("1.2".to_owned()), |one| one);
        assert!(started.is_some());
        assert_eq!(peer.shown(), "Some Peer, version 1.2: tuned.");
    }
}
