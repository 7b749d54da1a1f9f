//! `http`: requests with a credential over HTTP, beside the same requests to a bare hyper server,
//! in interleaved rounds of one run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use trustrelay_token::Token;

use crate::aim::{Aim, Bound};
use crate::load::{Callers, Expected, Requests};
use crate::machine::Machine;
use crate::measure::{Round, Spread, micros};
use crate::node::{Deployment, Owner, verification};
use crate::plot::{Bar, Bars, Group};
use crate::program::Program;
use crate::report::{self, Picture, Section, say};
use crate::server;
use crate::table::{Table, figures, number, words};

/// How many unknown tokens take turns: more than a run's connections, so that what is remembered of
/// one helps little with the next.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

struct Way {
    name: &'static str,
    whom: Whom,
    tokens: Tokens,
}

const fn way(name: &'static str, whom: Whom, tokens: Tokens) -> Way {
    Way { name, whom, tokens }
}

const WAYS: [Way; 9] = [
    way("bare", Whom::Bare, Tokens::Valid),
    way("guard", Whom::Guard, Tokens::Valid),
    way("guard, malformed", Whom::Guard, Tokens::Malformed),
    way("guard, unknown", Whom::Guard, Tokens::Unknown),
    way("guard, flooded", Whom::Guard, Tokens::Flooded),
    way("/api/user", Whom::TrustRelay, Tokens::Valid),
    way("/api/user, malformed", Whom::TrustRelay, Tokens::Malformed),
    way("/api/user, unknown", Whom::TrustRelay, Tokens::Unknown),
    way("/api/user, flooded", Whom::TrustRelay, Tokens::Flooded),
];

/// A running server and a token that it knows.
struct Server<'a> {
    whom: Whom,
    program: &'a Program,
    token: &'a HeaderValue,
}

impl<'a> Server<'a> {
    /// Opens its connections.
    async fn connect(&self, connections: usize, unknown: &Requests) -> Result<Asked<'a>> {
        let (valid, malformed) = (requests([self.token])?, requests([&malformed(self.token)?])?);
        let connect = |requests, expected| async move {
            // Bare looks at no token.
            let expected = if self.whom == Whom::Bare { ACCEPTED } else { expected };
            Callers::connect(self.program.address, connections, requests, expected).await
        };
        Ok(Asked {
            whom: self.whom,
            program: self.program,
            valid: connect(&valid, ACCEPTED).await?,
            malformed: connect(&malformed, refused(b"checksum")).await?,
            unknown: connect(unknown, refused(b"not known to this server")).await?,
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
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    connections: usize,
    way: String,
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
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    requests: Vec<Row>,
    aims: Vec<Aim>,
}

/// Measures, says the report and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!(options.seconds > 0.0, "--seconds is {}; it must be above 0", options.seconds);
    ensure!(!options.connections.contains(&0), "--connections must each be at least 1");
    let unknown = unknown()?;
    let deployment = Deployment::new(None).await?;
    let node = deployment.node(&[]).await?;
    let known = Owner::sign_in(&node).await?.create("bench").await?.authorization;
    let (bare, guarded) = (server::bare().await?, server::guarded().await?);
    let servers = [
        Server { whom: Whom::Bare, program: &bare, token: &guarded.token },
        Server { whom: Whom::Guard, program: &guarded.program, token: &guarded.token },
        Server { whom: Whom::TrustRelay, program: &node, token: &known },
    ];
    let mut requests = Vec::new();
    for &connections in &options.connections {
        say(&format!("Requests with a token on {}: {} ways.", number(connections, "connection"), WAYS.len()));
        requests.extend(measure(options, &servers, connections, &unknown).await?);
    }
    for program in [bare, guarded.program, node] {
        program.stop().await?;
    }
    let (rounds, seconds) = (options.rounds, options.seconds);
    let aims = requests.iter().flat_map(Row::aims).collect();
    let report = Report { machine: Machine::here()?, rounds, seconds, requests, aims };
    report::finish(&report, &options.out)
}

async fn measure(
    options: &Options,
    servers: &[Server<'_>],
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
        Self {
            connections,
            way: way.name.to_owned(),
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
        }
    }

    /// What is aimed at. One connection alone waits for itself for the most part: there is none of
    /// bare's throughput for it.
    fn aims(&self) -> Vec<Aim> {
        let aim = |of: &str, bound, measured| {
            Aim::new(
                format!("{}, {}: {of}", self.way, number(self.connections, "connection")),
                bound,
                measured,
                2,
            )
        };
        let throughput = |least| aim("throughput to bare's", Bound::AtLeast(least), self.of_bare);
        let of_valid = |least| aim("throughput to a valid token's", Bound::AtLeast(least), self.of_valid);
        match (self.server, self.tokens) {
            (Whom::Guard, Tokens::Valid) if self.connections >= 32 => {
                vec![throughput(0.92), aim("p99 to bare's", Bound::AtMost(1.25), self.p99_of_bare)]
            }
            (Whom::TrustRelay, Tokens::Valid) if self.connections >= 32 => vec![throughput(0.8)],
            (_, Tokens::Malformed) => vec![of_valid(1.0)],
            (_, Tokens::Flooded) => vec![of_valid(0.5)],
            _ => Vec::new(),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.connections.to_string(),
            self.way.clone(),
            self.per_second.shown(0),
            self.p50_us.shown(0),
            self.p99_us.shown(0),
            self.cpu_us.shown(1),
            self.of_bare.shown(2),
            self.p99_of_bare.shown(2),
            self.of_valid.shown(2),
        ]
    }

    fn bar(&self) -> Bar {
        let tone = match (self.server, self.tokens) {
            (Whom::Bare, _) => 1,
            (_, Tokens::Valid) => 0,
            _ => 2,
        };
        let said = format!("{:.0}, {:.2} of bare", self.per_second.median, self.of_bare.median);
        Bar::spread(self.way.clone(), tone, self.per_second, said)
    }
}

impl report::Report for Report {
    const PART: &'static str = "http";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let columns = [
            figures("connections"),
            words("way"),
            figures("requests/s"),
            figures("p50 µs"),
            figures("p99 µs"),
            figures("its CPU µs/request"),
            figures("ratio to bare"),
            figures("p99 to bare"),
            figures("ratio to valid"),
        ];
        let (rounds, seconds) = (self.rounds, self.seconds);
        vec![
            Section::Words(format!(
                "Requests with a token, {rounds} rounds of {seconds} s each. Median (least–greatest) of the rounds."
            )),
            Section::Table(Table::new(columns, self.requests.iter().map(Row::cells))),
        ]
    }

    fn aims(&self) -> &[Aim] {
        &self.aims
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let groups =
            self.requests.chunk_by(|one, next| one.connections == next.connections).map(|rows| Group {
                name: number(rows[0].connections, "connection"),
                bars: rows.iter().map(Row::bar).collect(),
            });
        let bars = Bars {
            title: "Requests with a token over HTTP".into(),
            unit: format!("Requests per second; line: least to greatest of {}", number(self.rounds, "round")),
            legend: Vec::new(),
            groups: groups.collect(),
        };
        let shows = "Requests per second at a bare server, behind the guard and at /api/user".into();
        Ok(vec![Picture { name: "bench-http", shows, svg: bars.svg() }])
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

    fn row(server: Whom, tokens: Tokens, connections: usize) -> Row {
        let spread = |median| Spread::of([median]);
        Row {
            connections,
            way: "way".into(),
            server,
            tokens,
            per_second: spread(1.0),
            p50_us: spread(1.0),
            p99_us: spread(1.0),
            cpu_us: spread(1.0),
            of_bare: spread(0.85),
            p99_of_bare: spread(1.3),
            of_valid: spread(0.6),
            flood_per_second: None,
        }
    }

    #[test]
    fn each_way_is_held_to_its_own_aims() {
        let met = |server, tokens, connections| -> Vec<bool> {
            row(server, tokens, connections).aims().iter().map(Aim::is_met).collect()
        };
        assert_eq!(met(Whom::Guard, Tokens::Valid, 32), [false, false]);
        assert_eq!(met(Whom::TrustRelay, Tokens::Valid, 256), [true]);
        assert_eq!(met(Whom::TrustRelay, Tokens::Malformed, 1), [false]);
        assert_eq!(met(Whom::Guard, Tokens::Flooded, 1), [true]);
        for (server, tokens) in
            [(Whom::Bare, Tokens::Valid), (Whom::Guard, Tokens::Valid), (Whom::Guard, Tokens::Unknown)]
        {
            assert_eq!(met(server, tokens, 1), [false; 0]);
        }
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
