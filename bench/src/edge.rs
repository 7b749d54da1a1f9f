//! `http`: requests with a credential over HTTP, beside the same requests to a bare hyper server, in interleaved rounds of one run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::Command;
use trustrelay_token::Token;

use crate::bare::TOKEN_FILE;
use crate::load::{Callers, Expected, Requests};
use crate::measure::{Round, Spread, micros};
use crate::node::{Deployment, Owner, verification};
use crate::program::Program;
use crate::relay::{say, write};

/// How many unknown tokens take turns: more than a run's connections, so that what is remembered of one helps little with the next.
const UNKNOWN: usize = 16_384;

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long each way is asked in a round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many connections ask at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 256])]
    connections: Vec<usize>,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/http.json")]
    out: PathBuf,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Whom {
    /// hyper, which answers a fixed body.
    Bare,
    /// The same behind the guard.
    Guard,
    /// `trustrelay serve`: `GET /api/user`.
    TrustRelay,
}

/// With which credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tokens {
    Valid,
    /// Of the right form, with a wrong checksum: as much as can be read before it is refused.
    Malformed,
    /// Well-formed, each another one: not in the index, and not in the store.
    Unknown,
    /// Valid ones are counted, while as many other connections send unknown ones.
    Flooded,
}

/// What is wanted of the median.
#[derive(Debug, Clone, Copy, Serialize)]
struct Aim {
    /// Of the requests per second of this one.
    of: Reference,
    at_least: f64,
    /// Of bare's p99.
    p99_at_most: Option<f64>,
    /// From so many connections on.
    connections: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reference {
    Bare,
    /// Valid tokens, nothing else going on, at the same server.
    Valid,
}

struct Way {
    name: &'static str,
    whom: Whom,
    tokens: Tokens,
    aim: Option<Aim>,
}

const fn way(name: &'static str, whom: Whom, tokens: Tokens, aim: Option<Aim>) -> Way {
    Way { name, whom, tokens, aim }
}

const fn of_bare(at_least: f64, p99_at_most: Option<f64>) -> Option<Aim> {
    Some(Aim { of: Reference::Bare, at_least, p99_at_most, connections: 32 })
}

const fn of_valid(at_least: f64) -> Option<Aim> {
    Some(Aim { of: Reference::Valid, at_least, p99_at_most: None, connections: 1 })
}

const WAYS: [Way; 9] = [
    way("bare", Whom::Bare, Tokens::Valid, None),
    way("guard", Whom::Guard, Tokens::Valid, of_bare(0.92, Some(1.25))),
    way("guard, malformed", Whom::Guard, Tokens::Malformed, of_valid(1.0)),
    way("guard, unknown", Whom::Guard, Tokens::Unknown, None),
    way("guard, flooded", Whom::Guard, Tokens::Flooded, of_valid(0.5)),
    way("/api/user", Whom::TrustRelay, Tokens::Valid, of_bare(0.8, None)),
    way("/api/user, malformed", Whom::TrustRelay, Tokens::Malformed, of_valid(1.0)),
    way("/api/user, unknown", Whom::TrustRelay, Tokens::Unknown, None),
    way("/api/user, flooded", Whom::TrustRelay, Tokens::Flooded, of_valid(0.5)),
];

/// A running server and a token that it knows.
struct Server {
    whom: Whom,
    program: Program,
    token: HeaderValue,
}

impl Server {
    /// Opens its connections.
    async fn connect(&self, connections: usize, unknown: &Requests) -> Result<Asked<'_>> {
        let (valid, malformed) = (requests([&self.token])?, requests([&malformed(&self.token)?])?);
        let connect = |requests, expected| async move {
            // Bare looks at no token.
            let expected = if self.whom == Whom::Bare { ACCEPTED } else { expected };
            Callers::connect(self.program.address, connections, requests, expected).await
        };
        Ok(Asked {
            whom: self.whom,
            program: &self.program,
            valid: connect(&valid, ACCEPTED).await?,
            malformed: connect(&malformed, refused(b"checksum")).await?,
            unknown: connect(unknown, refused(b"not known here")).await?,
        })
    }
}

/// A server and the connections to it.
struct Asked<'a> {
    whom: Whom,
    program: &'a Program,
    valid: Callers,
    malformed: Callers,
    unknown: Callers,
}

impl Asked<'_> {
    async fn call(&mut self, tokens: Tokens, time: Duration) -> Result<Measured> {
        let before = self.program.cpu()?;
        let (round, flood) = match tokens {
            Tokens::Valid => (self.valid.call(time).await?, None),
            Tokens::Malformed => (self.malformed.call(time).await?, None),
            Tokens::Unknown => (self.unknown.call(time).await?, None),
            Tokens::Flooded => {
                let (round, flood) = self.valid.call_beside(&mut self.unknown, time).await?;
                (round, Some(flood))
            }
        };
        let answered = round.calls + flood.map_or(0, |flood| flood.calls);
        let cpu = micros(self.program.cpu()? - before) / answered.max(1) as f64;
        Ok(Measured { round, flood, cpu })
    }
}

/// One round of one way.
struct Measured {
    round: Round,
    flood: Option<Round>,
    /// Processor time of the server for one request, in microseconds.
    cpu: f64,
}

/// What one way came to, over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    connections: usize,
    way: &'static str,
    server: Whom,
    tokens: Tokens,
    per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    cpu_us: Spread,
    /// Of bare's requests per second in the same round.
    of_bare: Spread,
    /// Of bare's p99 in the same round.
    p99_of_bare: Spread,
    /// Of the requests per second of valid tokens at the same server in the same round.
    of_valid: Spread,
    /// The unknown tokens that were refused meanwhile.
    flood_per_second: Option<Spread>,
    aim: Option<Aim>,
    is_reached: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Report {
    cores: usize,
    rounds: usize,
    seconds: f64,
    requests: Vec<Row>,
}

/// Measures, prints the table and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!(options.seconds > 0.0, "--seconds is {}; it must be above 0", options.seconds);
    ensure!(!options.connections.contains(&0), "--connections must each be at least 1");
    let unknown = unknown()?;
    let folder = TempDir::new()?;
    let deployment = Deployment::new(None).await?;
    let guard = start("guarded", Some(&folder)).await?;
    let token = std::fs::read_to_string(folder.path().join(TOKEN_FILE)).context("no token")?;
    let token = HeaderValue::from_str(&format!("Bearer {token}"))?;
    let node = deployment.node(&[]).await?;
    let known = Owner::sign_in(&node).await?.create("bench").await?.authorization;
    let servers = [
        Server { whom: Whom::Bare, program: start("bare", None).await?, token: token.clone() },
        Server { whom: Whom::Guard, program: guard, token },
        Server { whom: Whom::TrustRelay, program: node, token: known },
    ];
    let mut report = Report {
        cores: std::thread::available_parallelism()?.get(),
        rounds: options.rounds,
        seconds: options.seconds,
        requests: Vec::new(),
    };
    say(&format!(
        "Requests with a token, {} rounds of {} s each, on {} cores. Median (least–greatest) of the rounds.\n",
        report.rounds, report.seconds, report.cores
    ));
    say(HEAD);
    for &connections in &options.connections {
        let rows = measure(options, &servers, connections, &unknown).await?;
        rows.iter().for_each(|row| say(&row.shown()));
        report.requests.extend(rows);
    }
    for server in servers {
        server.program.stop().await?;
    }
    write(&options.out, &report)
}

/// A server of the bench's own, as a process of its own.
async fn start(name: &str, folder: Option<&TempDir>) -> Result<Program> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    Program::start(name, Command::new(own).arg(name).args(folder.map(TempDir::path))).await
}

async fn measure(
    options: &Options,
    servers: &[Server],
    connections: usize,
    unknown: &Requests,
) -> Result<Vec<Row>> {
    let mut asked = Vec::new();
    for server in servers {
        asked.push(server.connect(connections, unknown).await?);
    }
    let time = Duration::from_secs_f64(options.seconds);
    let mut rounds: Vec<Vec<Measured>> = WAYS.iter().map(|_| Vec::new()).collect();
    // The first round is not counted: what is done once is done before it is measured.
    for round in 0..=options.rounds {
        for (way, measured) in WAYS.iter().zip(&mut rounds) {
            let server = asked.iter_mut().find(|one| one.whom == way.whom).context("no server")?;
            let time = if round == 0 { time / 4 } else { time };
            let one = server.call(way.tokens, time).await?;
            if round > 0 {
                measured.push(one);
            }
        }
    }
    let of = |whom, tokens| {
        let at = WAYS.iter().position(|way| way.whom == whom && way.tokens == tokens);
        at.map(|at| &*rounds[at]).context("no way to compare to")
    };
    let bare = of(Whom::Bare, Tokens::Valid)?;
    WAYS.iter()
        .zip(&rounds)
        .map(|(way, own)| Ok(Row::of(way, connections, own, bare, of(way.whom, Tokens::Valid)?)))
        .collect()
}

impl Row {
    fn of(way: &Way, connections: usize, own: &[Measured], bare: &[Measured], valid: &[Measured]) -> Self {
        let over = |figure: fn(&Measured) -> f64| Spread::of(own.iter().map(figure));
        let to = |other: &[Measured], figure: fn(&Round) -> f64| {
            let pairs = own.iter().zip(other);
            Spread::of(pairs.map(|(own, other)| figure(&own.round) / figure(&other.round)))
        };
        let (of_bare, of_valid) = (to(bare, Round::per_second), to(valid, Round::per_second));
        let p99_of_bare = to(bare, |round| micros(round.p99));
        let flood: Vec<f64> =
            own.iter().filter_map(|one| one.flood.map(|flood| flood.per_second())).collect();
        let aim = way.aim.filter(|aim| connections >= aim.connections);
        Self {
            connections,
            way: way.name,
            server: way.whom,
            tokens: way.tokens,
            per_second: over(|one| one.round.per_second()),
            p50_us: over(|one| micros(one.round.p50)),
            p99_us: over(|one| micros(one.round.p99)),
            cpu_us: over(|one| one.cpu),
            of_bare,
            p99_of_bare,
            of_valid,
            flood_per_second: (!flood.is_empty()).then(|| Spread::of(flood)),
            aim,
            is_reached: aim.map(|aim| aim.is_reached(of_bare, of_valid, p99_of_bare)),
        }
    }

    fn shown(&self) -> String {
        let aim = self.aim.as_ref().map_or_else(String::new, Aim::shown);
        let reached = match self.is_reached {
            Some(true) => "reached",
            Some(false) => "not reached",
            None => "",
        };
        let line = format!(
            "{:>4} {:<20} {:>22} {:>18} {:>20} {:>18} {:>18} {:>18} {:>18}  {aim:<26} {reached}",
            self.connections,
            self.way,
            self.per_second.shown(0),
            self.p50_us.shown(0),
            self.p99_us.shown(0),
            self.cpu_us.shown(1),
            self.of_bare.shown(2),
            self.p99_of_bare.shown(2),
            self.of_valid.shown(2),
        );
        line.trim_end().to_owned()
    }
}

const HEAD: &str = "conn way                       requests per second             p50 µs               p99 µs  its CPU µs/request      ratio to bare        p99 to bare     ratio to valid  aim";

impl Aim {
    fn is_reached(&self, of_bare: Spread, of_valid: Spread, p99_of_bare: Spread) -> bool {
        let ratio = match self.of {
            Reference::Bare => of_bare,
            Reference::Valid => of_valid,
        };
        ratio.median >= self.at_least && self.p99_at_most.is_none_or(|most| p99_of_bare.median <= most)
    }

    fn shown(&self) -> String {
        let of = match self.of {
            Reference::Bare => "bare",
            Reference::Valid => "valid",
        };
        let p99 = self.p99_at_most.map(|most| format!(", p99 ≤ {most:.2}")).unwrap_or_default();
        format!("≥ {:.2} of {of}{p99}", self.at_least)
    }
}

const ACCEPTED: Expected = Expected { status: StatusCode::OK, part: b"\"credential\"" };

const fn refused(because: &'static [u8]) -> Expected {
    Expected { status: StatusCode::UNAUTHORIZED, part: because }
}

fn requests<'a>(tokens: impl IntoIterator<Item = &'a HeaderValue>) -> Result<Requests> {
    tokens.into_iter().map(verification).collect::<Result<Vec<_>>>().map(Arc::from)
}

fn unknown() -> Result<Requests> {
    let tokens: Vec<HeaderValue> = (0..UNKNOWN)
        .map(|_| Ok(HeaderValue::from_str(&format!("Bearer {}", Token::generate()?.expose()))?))
        .collect::<Result<_>>()?;
    requests(&tokens)
}

/// The same with another last character, which is the checksum's.
fn malformed(token: &HeaderValue) -> Result<HeaderValue> {
    let mut text = token.to_str()?.to_owned();
    let last = text.pop().context("an empty token")?;
    text.push(if last == '0' { '1' } else { '0' });
    Ok(HeaderValue::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread::of([median])
    }

    #[test]
    fn an_aim_is_reached_by_the_ratio_it_is_about_and_by_the_tail() {
        let aim = Aim { of: Reference::Bare, at_least: 0.92, p99_at_most: Some(1.25), connections: 32 };
        assert!(aim.is_reached(spread(0.92), spread(0.1), spread(1.25)));
        assert!(!aim.is_reached(spread(0.91), spread(2.0), spread(1.25)));
        assert!(!aim.is_reached(spread(0.92), spread(2.0), spread(1.26)));
        assert_eq!(aim.shown(), "≥ 0.92 of bare, p99 ≤ 1.25");
        let aim = Aim { of: Reference::Valid, at_least: 0.5, p99_at_most: None, connections: 1 };
        assert!(aim.is_reached(spread(0.1), spread(0.5), spread(9.0)));
        assert!(!aim.is_reached(spread(2.0), spread(0.49), spread(1.0)));
    }

    #[test]
    fn a_malformed_token_is_the_valid_one_with_a_wrong_checksum() {
        let token = Token::generate().expect("random");
        let valid = HeaderValue::from_str(&format!("Bearer {}", token.expose())).expect("a header value");
        let refused = malformed(&valid).expect("made");
        let text = refused.to_str().expect("text").strip_prefix("Bearer ").expect("a scheme").to_owned();
        assert_eq!(text.len(), token.expose().len());
        let error = Token::from_bytes(text.as_bytes()).map(drop).expect_err("refused");
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
