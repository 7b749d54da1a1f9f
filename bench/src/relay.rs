//! `relay`: the same tool calls asked of a fast upstream directly and through TrustRelay, in interleaved rounds of one run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::HeaderValue;
use serde::Serialize;

use crate::load::Clients;
use crate::mcp::{Client, Era};
use crate::measure::{Round, Spread, micros};
use crate::program::Program;
use crate::server::{self, Server};
use crate::streams::{self, Streams};

/// How many connections ask with one token: fewer than the sessions that one token may have in memory.
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
    tool: &'static str,
    era: Era,
    whom: Whom,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Upstream,
    Proxy,
    TrustRelay,
}

const fn way(name: &'static str, path: &'static str, tool: &'static str, era: Era, whom: Whom) -> Way {
    Way { name, path, tool, era, whom }
}

/// Directly first: the others are compared to the way of their era.
const WAYS: [Way; 8] = [
    way("directly", "/mcp", "echo", Era::Session, Whom::Upstream),
    way("bare proxy", "/mcp", "echo", Era::Session, Whom::Proxy),
    way("/mcp/NAME", "/mcp/fast", "echo", Era::Session, Whom::TrustRelay),
    way("/mcp", "/mcp", "fast__echo", Era::Session, Whom::TrustRelay),
    way("directly", "/mcp", "echo", Era::Stateless, Whom::Upstream),
    way("bare proxy", "/mcp", "echo", Era::Stateless, Whom::Proxy),
    way("/mcp/NAME", "/mcp/fast", "echo", Era::Stateless, Whom::TrustRelay),
    way("/mcp", "/mcp", "fast__echo", Era::Stateless, Whom::TrustRelay),
];

impl Way {
    fn direct(self) -> usize {
        match self.era {
            Era::Session => 0,
            Era::Stateless => 4,
        }
    }

    fn client(self, token: &HeaderValue) -> Client {
        let authorization = (self.whom == Whom::TrustRelay).then(|| token.clone());
        Client { path: self.path, era: self.era, authorization, tool: self.tool, session: None }
    }
}

/// What one way came to, over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    connections: usize,
    era: Era,
    way: &'static str,
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

#[derive(Debug, Serialize)]
struct Report {
    cores: usize,
    rounds: usize,
    seconds: f64,
    calls: Vec<Row>,
    streams: Vec<Streams>,
}

/// Measures, prints the tables and writes the file.
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
    let upstream = server::upstream().await?;
    let proxy = server::proxy(&upstream).await?;
    let mut report = Report {
        cores: std::thread::available_parallelism()?.get(),
        rounds: options.rounds,
        seconds: options.seconds,
        calls: Vec::new(),
        streams: Vec::new(),
    };
    say(&format!(
        "Tool calls, {} rounds of {} s each, on {} cores. Median (least–greatest) of the rounds.\n",
        report.rounds, report.seconds, report.cores
    ));
    say(HEAD);
    let server = Server::start(&upstream).await?;
    for &connections in &options.connections {
        let rows = calls(options, &upstream, &proxy, &server, connections).await?;
        rows.iter().for_each(|row| say(&row.shown()));
        report.calls.extend(rows);
    }
    server.stop().await?;
    proxy.stop().await?;
    if options.streams > 0 {
        say("\nOpen streams.\n");
        for kind in streams::KINDS {
            let streams = streams::measure(&upstream, kind, options.streams).await?;
            say(&streams.shown());
            report.streams.push(streams);
        }
    }
    upstream.stop().await?;
    write(&options.out, &report)
}

/// Writes a report, and says where.
pub(crate) fn write(out: &Path, report: &impl Serialize) -> Result<()> {
    let folder = out.parent().context("--out names no file")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    std::fs::write(out, serde_json::to_vec_pretty(report)?)
        .with_context(|| format!("{} cannot be written", out.display()))?;
    say(&format!("\nThe figures are in {}.", out.display()));
    Ok(())
}

/// One round of one way: what the calls came to, and the processor time that they took.
struct Measured {
    round: Round,
    relay: Duration,
    upstream: Duration,
}

async fn calls(
    options: &Options,
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
        let clients = (0..connections).map(|at| way.client(&tokens[at / PER_TOKEN]));
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
        .map(|(way, own)| Row::of(*way, connections, own, &rounds[way.direct()]))
        .collect())
}

impl Row {
    fn of(way: Way, connections: usize, own: &[Measured], direct: &[Measured]) -> Self {
        let over = |figure: fn(&Measured) -> f64| Spread::of(own.iter().map(figure));
        let pairs = || own.iter().zip(direct).map(|(own, direct)| (&own.round, &direct.round));
        let per_call = |cpu: Duration, round: &Round| micros(cpu) / round.calls.max(1) as f64;
        Self {
            connections,
            era: way.era,
            way: way.name,
            calls_per_second: over(|one| one.round.per_second()),
            p50_us: over(|one| micros(one.round.p50)),
            p99_us: over(|one| micros(one.round.p99)),
            ratio: Spread::of(pairs().map(|(own, direct)| own.per_second() / direct.per_second())),
            added_p50_us: Spread::of(pairs().map(|(own, direct)| micros(own.p50) - micros(direct.p50))),
            relay_cpu_us: Spread::of(own.iter().map(|one| per_call(one.relay, &one.round))),
            upstream_cpu_us: Spread::of(own.iter().map(|one| per_call(one.upstream, &one.round))),
        }
    }

    fn shown(&self) -> String {
        let era = match self.era {
            Era::Session => "session",
            Era::Stateless => "stateless",
        };
        format!(
            "{:>4} {era:<9} {:<10} {:>22} {:>18} {:>20} {:>18} {:>18} {:>16} {:>16}",
            self.connections,
            self.way,
            self.calls_per_second.shown(0),
            self.p50_us.shown(0),
            self.p99_us.shown(0),
            self.ratio.shown(2),
            self.added_p50_us.shown(0),
            self.relay_cpu_us.shown(1),
            self.upstream_cpu_us.shown(1),
        )
    }
}

const HEAD: &str = "conn era       way                 calls per second             p50 µs               p99 µs    ratio to direct       p50 added µs      its CPU µs    upstream CPU µs";

#[allow(clippy::print_stdout, reason = "the tables are what the command is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
