//! `relay`: the same tool calls asked of a fast upstream directly and through TrustRelay, in
//! interleaved rounds of one run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::aim::{Aim, Bound};
use crate::load::Clients;
use crate::machine::Machine;
use crate::mcp::{Client, Era};
use crate::measure::{Round, Spread, micros};
use crate::plot::{Bar, Bars, Group};
use crate::program::Program;
use crate::report::{self, Picture, Section, say};
use crate::server::{self, Server};
use crate::streams::{self, Streams};
use crate::table::{Table, figures, number, words};
use crate::upstream::SAID;

/// How many connections ask with one token: fewer than the sessions that one token may have in
/// memory.
const PER_TOKEN: usize = 32;

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each way is asked in a round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many connections ask at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 256])]
    connections: Vec<usize>,
    /// How many streams are opened for the memory of one; 0 opens none.
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/relay.json")]
    out: PathBuf,
}

/// One way to ask.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    path: &'static str,
    /// Whether the tool's name has the upstream's before it.
    prefix: bool,
    era: Era,
    whom: Whom,
}

/// The server that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Upstream {
    /// The bench's own: it answers a fixed body.
    Fixed,
    /// The official Rust SDK's.
    Sdk,
}

impl Upstream {
    const ALL: [Self; 2] = [Self::Fixed, Self::Sdk];

    fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed answer",
            Self::Sdk => "Rust SDK",
        }
    }

    async fn start(self) -> Result<Program> {
        match self {
            Self::Fixed => server::upstream().await,
            Self::Sdk => server::sdk_upstream().await,
        }
    }

    /// Its tool, by its own name and by the one on `/mcp`; and what that says.
    fn tool(self, prefixed: bool) -> (&'static str, &'static [u8]) {
        match (self, prefixed) {
            (Self::Fixed, false) => ("echo", SAID),
            (Self::Fixed, true) => ("fast__echo", SAID),
            (Self::Sdk, false) => ("test_simple_text", SDK_SAID),
            (Self::Sdk, true) => ("fast__test_simple_text", SDK_SAID),
        }
    }
}

/// What the tool of the SDK's server says.
const SDK_SAID: &[u8] = b"This is a simple text response for testing.";

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whom {
    Upstream,
    Proxy,
    TrustRelay,
}

const fn way(name: &'static str, path: &'static str, prefix: bool, era: Era, whom: Whom) -> Way {
    Way { name, path, prefix, era, whom }
}

/// Directly first: the others are compared to the way of their era.
const WAYS: [Way; 8] = [
    way("directly", "/mcp", false, Era::Session, Whom::Upstream),
    way("bare proxy", "/mcp", false, Era::Session, Whom::Proxy),
    way("/mcp/NAME", "/mcp/fast", false, Era::Session, Whom::TrustRelay),
    way("/mcp", "/mcp", true, Era::Session, Whom::TrustRelay),
    way("directly", "/mcp", false, Era::Stateless, Whom::Upstream),
    way("bare proxy", "/mcp", false, Era::Stateless, Whom::Proxy),
    way("/mcp/NAME", "/mcp/fast", false, Era::Stateless, Whom::TrustRelay),
    way("/mcp", "/mcp", true, Era::Stateless, Whom::TrustRelay),
];

impl Way {
    fn direct(self) -> usize {
        match self.era {
            Era::Session => 0,
            Era::Stateless => 4,
        }
    }

    fn client(self, upstream: Upstream, token: &HeaderValue) -> Client {
        let authorization = (self.whom == Whom::TrustRelay).then(|| token.clone());
        let (tool, said) = upstream.tool(self.prefix);
        Client { path: self.path, era: self.era, authorization, tool, said, session: None }
    }
}

/// What one way came to, over all rounds.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    upstream: Upstream,
    connections: usize,
    era: Era,
    way: String,
    whom: Whom,
    calls_per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// Of the calls asked directly in the same round.
    ratio: Spread,
    /// p50 beyond that of the calls asked directly in the same round.
    added_p50_us: Spread,
    /// Processor time of TrustRelay, or of the proxy, for one call.
    relay_cpu_us: Spread,
    /// The upstream's.
    upstream_cpu_us: Spread,
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    calls: Vec<Row>,
    streams: Vec<Streams>,
    aims: Vec<Aim>,
}

/// Measures, says the report and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let seconds = options.seconds;
    ensure!(seconds > 0.0, "--seconds is {seconds}; it must be above 0");
    ensure!(
        options.streams == 0 || options.streams > streams::WARM,
        "--streams is {}; the first {} are not measured: ask for more, or for 0",
        options.streams,
        streams::WARM
    );
    let mut calls = Vec::new();
    for which in Upstream::ALL {
        let upstream = which.start().await?;
        let proxy = server::proxy(&upstream).await?;
        let server = Server::start(&upstream).await?;
        for &connections in &options.connections {
            let on = number(connections, "connection");
            say(&format!("Tool calls on {on}, {}: {} ways.", which.name(), WAYS.len()));
            calls.extend(measure(options, which, &upstream, &proxy, &server, connections).await?);
        }
        server.stop().await?;
        proxy.stop().await?;
        upstream.stop().await?;
    }
    let mut open = Vec::new();
    if options.streams > 0 {
        let upstream = Upstream::Fixed.start().await?;
        for kind in streams::KINDS {
            say(&format!("{} open streams: {}.", options.streams, kind.name));
            open.push(streams::measure(&upstream, kind, options.streams).await?);
        }
        upstream.stop().await?;
    }
    let aims = calls.iter().flat_map(Row::aims).chain(open.iter().map(Streams::aim)).collect();
    let (rounds, machine) = (options.rounds, Machine::here()?);
    report::finish(&Report { machine, rounds, seconds, calls, streams: open, aims }, &options.out)
}

/// One round of one way: what the calls came to, and the processor time that they took.
struct Measured {
    round: Round,
    relay: Duration,
    upstream: Duration,
}

async fn measure(
    options: &Options,
    which: Upstream,
    upstream: &Program,
    proxy: &Program,
    server: &Server,
    connections: usize,
) -> Result<Vec<Row>> {
    let asked = |way: Way| match way.whom {
        Whom::Upstream => upstream,
        Whom::Proxy => proxy,
        Whom::TrustRelay => &server.program,
    };
    let tokens = server.tokens(connections.div_ceil(PER_TOKEN)).await?;
    let mut ways = Vec::new();
    for way in WAYS {
        let address = asked(way).address;
        let clients = (0..connections).map(|at| way.client(which, &tokens[at / PER_TOKEN]));
        ways.push(Clients::connect(address, clients).await?);
    }
    let time = Duration::from_secs_f64(options.seconds);
    // What is done once is done before it is measured.
    for clients in &mut ways {
        clients.call(time / 4).await?;
    }
    let mut rounds: Vec<Vec<Measured>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for ((way, clients), measured) in WAYS.iter().zip(&mut ways).zip(&mut rounds) {
            let between = if way.whom == Whom::Proxy { proxy } else { &server.program };
            let before = (between.cpu()?, upstream.cpu()?);
            let round = clients.call(time).await?;
            let (relay, upstream) = (between.cpu()? - before.0, upstream.cpu()? - before.1);
            measured.push(Measured { round, relay, upstream });
        }
    }
    for clients in ways {
        clients.end().await?;
    }
    Ok(WAYS
        .iter()
        .zip(&rounds)
        .map(|(way, own)| Row::of(which, *way, connections, own, &rounds[way.direct()]))
        .collect())
}

impl Row {
    fn of(upstream: Upstream, way: Way, connections: usize, own: &[Measured], direct: &[Measured]) -> Self {
        let over = |figure: fn(&Measured) -> f64| Spread::of(own.iter().map(figure));
        let pairs = || own.iter().zip(direct).map(|(own, direct)| (&own.round, &direct.round));
        let per_call = |cpu: Duration, round: &Round| micros(cpu) / round.calls.max(1) as f64;
        Self {
            upstream,
            connections,
            era: way.era,
            way: way.name.to_owned(),
            whom: way.whom,
            calls_per_second: over(|one| one.round.per_second()),
            p50_us: over(|one| micros(one.round.p50)),
            p99_us: over(|one| micros(one.round.p99)),
            ratio: Spread::of(pairs().map(|(own, direct)| own.per_second() / direct.per_second())),
            added_p50_us: Spread::of(pairs().map(|(own, direct)| micros(own.p50) - micros(direct.p50))),
            relay_cpu_us: Spread::of(own.iter().map(|one| per_call(one.relay, &one.round))),
            upstream_cpu_us: Spread::of(own.iter().map(|one| per_call(one.upstream, &one.round))),
        }
    }

    /// What is aimed at, of the calls that go through TrustRelay.
    fn aims(&self) -> Vec<Aim> {
        if self.whom != Whom::TrustRelay {
            return Vec::new();
        }
        let (upstream, on) = (self.upstream.name(), number(self.connections, "connection"));
        let called = format!("{upstream}, {}, {}, {on}", self.way, self.era.name());
        let ratio = Aim::new(format!("{called}: throughput to direct"), Bound::AtLeast(0.5), self.ratio, 2);
        let added = Aim::new(format!("{called}: p50 added, µs"), Bound::AtMost(150.0), self.added_p50_us, 0);
        if self.connections == 1 { vec![ratio, added] } else { vec![ratio] }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.upstream.name().to_owned(),
            self.connections.to_string(),
            self.era.name().to_owned(),
            self.way.clone(),
            self.calls_per_second.shown(0),
            self.p50_us.shown(0),
            self.p99_us.shown(0),
            self.ratio.shown(2),
            self.added_p50_us.shown(0),
            self.relay_cpu_us.shown(1),
            self.upstream_cpu_us.shown(1),
        ]
    }

    fn bar(&self) -> Bar {
        let tone = usize::from(self.whom != Whom::TrustRelay);
        let said = format!("{:.0}, {:.2} of direct", self.calls_per_second.median, self.ratio.median);
        Bar::spread(self.way.clone(), tone, self.calls_per_second, said)
    }
}

impl report::Report for Report {
    const PART: &'static str = "relay";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let columns = [
            words("upstream"),
            figures("connections"),
            words("era"),
            words("way"),
            figures("calls/s"),
            figures("p50 µs"),
            figures("p99 µs"),
            figures("ratio to direct"),
            figures("p50 added, µs"),
            figures("its CPU per call, µs"),
            figures("upstream's CPU, µs"),
        ];
        let (rounds, seconds) = (self.rounds, self.seconds);
        let mut sections = vec![
            Section::Words(format!(
                "Tool calls, {rounds} rounds of {seconds} s each. Median (least–greatest) of the rounds."
            )),
            Section::Table(Table::new(columns, self.calls.iter().map(Row::cells))),
        ];
        if !self.streams.is_empty() {
            sections.push(Section::Table(streams::table(&self.streams)));
        }
        sections
    }

    fn aims(&self) -> &[Aim] {
        &self.aims
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let kind = |row: &Row| (row.upstream, row.connections, row.era);
        let alike = |one: &Row, next: &Row| kind(one) == kind(next);
        let groups = self.calls.chunk_by(alike).map(|rows| Group {
            name: format!(
                "{}, {}, {} era",
                rows[0].upstream.name(),
                number(rows[0].connections, "connection"),
                rows[0].era.name()
            ),
            bars: rows.iter().map(Row::bar).collect(),
        });
        let bars = Bars {
            title: "Tool calls, directly and through the relay".into(),
            unit: format!("Calls per second; line: least to greatest of {}", number(self.rounds, "round")),
            legend: Vec::new(),
            groups: groups.collect(),
        };
        let shows = "Tool calls per second directly, through a bare proxy and through TrustRelay".into();
        Ok(vec![Picture { name: "bench-relay", shows, svg: bars.svg() }])
    }
}
