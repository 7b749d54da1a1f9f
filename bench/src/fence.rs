//! `fence`: what it takes until a revocation is true on every node, while tokens are verified on
//! all of them; and what the fence costs a verification.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::aim::{Aim, Bound};
use crate::http::Connection;
use crate::load::{Callers, Expected};
use crate::machine::Machine;
use crate::measure::{Round, Spread, micros};
use crate::node::{Deployment, Owner, Token, is_accepted, verification};
use crate::plot::{Bar, Bars, Group};
use crate::postgres::Cluster;
use crate::program::Program;
use crate::report::{self, Picture, Section, say};
use crate::table::{Table, figures, number, words};

/// Connections that verify on one node, at a pace of their own.
const PACERS: u32 = 8;
/// Connections that verify as fast as they can.
const CONNECTIONS: usize = 32;
/// The lease that nodes have if nothing else is said: what a dead one costs at most.
const LEASE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many tokens are revoked in each round, one after the other, on each kind of deployment.
    #[arg(long, default_value_t = 100)]
    revocations: usize,
    /// How many verifications a second each node has meanwhile.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// How long verifications are counted in each round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/fence.json")]
    out: PathBuf,
}

/// Revocations on one kind of deployment.
#[derive(Debug, Serialize, Deserialize)]
struct Latency {
    deployment: String,
    p50_ms: Spread,
    p99_ms: Spread,
    /// What was kept up of the verifications, per node and second.
    verified_per_second: Spread,
}

/// Verifications on one node.
#[derive(Debug, Serialize, Deserialize)]
struct Throughput {
    node: String,
    per_second: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// Of the single node on SQLite in the same round.
    ratio: Spread,
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    rate: u32,
    latencies: Vec<Latency>,
    /// The first revocation after a node was killed, and the one after it.
    dead_first_ms: Spread,
    dead_next_ms: Spread,
    throughput: Vec<Throughput>,
    aims: Vec<Aim>,
}

/// A deployment whose nodes run.
struct Fleet {
    name: &'static str,
    deployment: Deployment,
    nodes: Vec<Program>,
    owners: Vec<Owner>,
    /// What is verified all the time.
    standing: Token,
}

impl Fleet {
    async fn start(name: &'static str, database: Option<String>, nodes: usize) -> Result<Self> {
        let deployment = Deployment::new(database).await?;
        let mut running = Vec::new();
        for _ in 0..nodes {
            running.push(deployment.node(&[]).await?);
        }
        let mut owners = Vec::new();
        for node in &running {
            owners.push(Owner::sign_in(node).await?);
        }
        let standing = owners.first_mut().context("no node")?.create("standing").await?;
        Ok(Self { name, deployment, nodes: running, owners, standing })
    }

    /// Revokes so many tokens while all nodes verify: how long each answer took, and how many
    /// verifications a second each node had.
    async fn revoke(&mut self, number: usize, rate: u32) -> Result<(Vec<Duration>, f64)> {
        let mut tokens = Vec::new();
        for at in 0..number {
            let made_by = at % self.owners.len();
            tokens.push(self.owners[made_by].create("to be revoked").await?);
        }
        let mut asking = Vec::new();
        for node in &self.nodes {
            asking.push(Connection::open(node.address).await?);
        }
        // Each node knows each token before it is revoked.
        for token in &tokens {
            for connection in &mut asking {
                ensure!(is_accepted(connection, token).await?, "a token that stands is refused");
            }
        }
        let load = Load::start(&self.nodes, &self.standing, rate).await?;
        let mut took = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let begun = Instant::now();
            let by = at % self.owners.len();
            self.owners[by].revoke(token).await?;
            took.push(begun.elapsed());
            for connection in &mut asking {
                ensure!(
                    !is_accepted(connection, token).await?,
                    "a token is accepted after its revocation's answer"
                );
            }
        }
        Ok((took, load.stop().await? / self.nodes.len() as f64))
    }

    /// Kills the last node and revokes twice; then there is a new node in its place.
    async fn lose_a_node(&mut self, rate: u32) -> Result<[Duration; 2]> {
        let tokens = [self.owners[0].create("first").await?, self.owners[0].create("next").await?];
        let lost = self.nodes.pop().context("no node")?;
        self.owners.pop();
        let load = Load::start(&self.nodes, &self.standing, rate).await?;
        lost.kill().await?;
        let mut took = [Duration::ZERO; 2];
        for (token, took) in tokens.iter().zip(&mut took) {
            let begun = Instant::now();
            self.owners[0].revoke(token).await?;
            *took = begun.elapsed();
        }
        load.stop().await?;
        let node = self.deployment.node(&[]).await?;
        self.owners.push(Owner::sign_in(&node).await?);
        self.nodes.push(node);
        Ok(took)
    }

    async fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.stop().await?;
        }
        Ok(())
    }
}

/// Verifications at a pace, on all nodes.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Result<()>>>,
    begun: Instant,
}

impl Load {
    async fn start(nodes: &[Program], token: &Token, rate: u32) -> Result<Self> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for node in nodes {
            for _ in 0..PACERS {
                let mut connection = Connection::open(node.address).await?;
                let request = verification(&token.authorization)?;
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                tasks.push(tokio::spawn(async move {
                    let mut pace = tokio::time::interval(Duration::from_secs(1) * PACERS / rate.max(1));
                    while !stop.load(Ordering::Relaxed) {
                        pace.tick().await;
                        connection.ask(request.clone()).await?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                }));
            }
        }
        Ok(Self { stop, done, tasks, begun: Instant::now() })
    }

    /// Ends it: how many a second there were on all nodes together.
    async fn stop(self) -> Result<f64> {
        let per_second = self.done.load(Ordering::Relaxed) as f64 / self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        Ok(per_second)
    }
}

/// As many verifications on a node as it can do in this time.
async fn verify(node: &Program, token: &Token, time: Duration) -> Result<Round> {
    let requests = [verification(&token.authorization)?].into();
    let expected = Expected { status: StatusCode::OK, part: b"" };
    Callers::connect(node.address, CONNECTIONS, &requests, expected).await?.call(time).await
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of these times, the one that so many hundredths are not above, in milliseconds.
fn percentile(times: &mut [Duration], hundredth: usize) -> f64 {
    times.sort_unstable();
    times
        .get((times.len() * hundredth / 100).min(times.len().saturating_sub(1)))
        .copied()
        .map_or(f64::NAN, millis)
}

/// Measures, prints the tables and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!(options.revocations > 0, "--revocations must be at least 1");
    ensure!(options.seconds > 0.0, "--seconds is {}; it must be above 0", options.seconds);
    // Commits go to the disk: what is measured has to survive a loss of power.
    let cluster = tokio::task::spawn_blocking(Cluster::durable).await?;
    let mut fleets = [
        Fleet::start("1 node, SQLite", None, 1).await?,
        Fleet::start("1 node, PostgreSQL", Some(cluster.url(&cluster.database())), 1).await?,
        Fleet::start("3 nodes, PostgreSQL", Some(cluster.url(&cluster.database())), 3).await?,
    ];
    let mut latencies: Vec<[Vec<f64>; 3]> = fleets.iter().map(|_| Default::default()).collect();
    let mut dead: [Vec<f64>; 2] = Default::default();
    let mut rounds: Vec<Vec<Round>> = fleets.iter().map(|_| Vec::new()).collect();
    let time = Duration::from_secs_f64(options.seconds);
    for fleet in &fleets {
        verify(&fleet.nodes[0], &fleet.standing, time / 4).await?;
    }
    for round in 0..options.rounds {
        say(&format!("Round {} of {}: revocations, verifications, a lost node.", round + 1, options.rounds));
        for (fleet, figures) in fleets.iter_mut().zip(&mut latencies) {
            let (mut took, verified) = fleet.revoke(options.revocations, options.rate).await?;
            figures[0].push(percentile(&mut took, 50));
            figures[1].push(percentile(&mut took, 99));
            figures[2].push(verified);
        }
        // Each begins a round in its turn: what a machine has just done it may still feel.
        for at in 0..fleets.len() {
            let at = (at + round) % fleets.len();
            rounds[at].push(verify(&fleets[at].nodes[0], &fleets[at].standing, time).await?);
        }
        let took = fleets[2].lose_a_node(options.rate).await?;
        dead.iter_mut().zip(took).for_each(|(figures, took)| figures.push(millis(took)));
    }
    let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
    let mut report = Report {
        machine: Machine::here()?,
        rounds: options.rounds,
        rate: options.rate,
        latencies: fleets
            .iter()
            .zip(&latencies)
            .map(|(fleet, [p50, p99, verified])| Latency {
                deployment: fleet.name.to_owned(),
                p50_ms: spread(p50),
                p99_ms: spread(p99),
                verified_per_second: spread(verified),
            })
            .collect(),
        dead_first_ms: spread(&dead[0]),
        dead_next_ms: spread(&dead[1]),
        throughput: fleets
            .iter()
            .zip(&rounds)
            .map(|(fleet, own)| Throughput {
                node: fleet.name.to_owned(),
                per_second: Spread::of(own.iter().map(Round::per_second)),
                p50_us: Spread::of(own.iter().map(|round| micros(round.p50))),
                p99_us: Spread::of(own.iter().map(|round| micros(round.p99))),
                ratio: Spread::of(
                    own.iter().zip(&rounds[0]).map(|(own, one)| own.per_second() / one.per_second()),
                ),
            })
            .collect(),
        aims: Vec::new(),
    };
    report.aims = report.what_is_aimed_at();
    for fleet in fleets {
        fleet.stop().await?;
    }
    report::finish(&report, &options.out)
}

impl Report {
    fn what_is_aimed_at(&self) -> Vec<Aim> {
        let lease = LEASE.as_secs_f64() * 1e3;
        let p99 = |one: &Latency| {
            Aim::new(
                format!("{}: p99 of a revocation, ms", one.deployment),
                Bound::AtMost(25.0),
                one.p99_ms,
                1,
            )
        };
        let ratio = |one: &Throughput| {
            Aim::new(format!("{}: verifications to SQLite's", one.node), Bound::AtLeast(0.97), one.ratio, 2)
        };
        let dead = Aim::new(
            "a revocation with a dead node, ms",
            Bound::AtMost(lease + 500.0),
            self.dead_first_ms,
            0,
        );
        let (latencies, nodes) = (self.latencies.iter().map(p99), self.throughput.iter().skip(1).map(ratio));
        latencies.chain([dead]).chain(nodes).collect()
    }
}

impl report::Report for Report {
    const PART: &'static str = "fence";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let columns = [
            words("revocations on"),
            figures("p50 ms"),
            figures("p99 ms"),
            figures("verifications/s on each node"),
        ];
        let latencies = self.latencies.iter().map(|one| {
            let figures = [one.p50_ms.shown(1), one.p99_ms.shown(1), one.verified_per_second.shown(0)];
            [one.deployment.clone()].into_iter().chain(figures).collect()
        });
        let revocations = Table::new(columns, latencies);
        let columns = [
            words("verifications on one node of"),
            figures("per second"),
            figures("p50 µs"),
            figures("p99 µs"),
            figures("ratio to SQLite alone"),
        ];
        let nodes = self.throughput.iter().map(|one| {
            let (per_second, ratio) = (one.per_second.shown(0), one.ratio.shown(2));
            vec![one.node.clone(), per_second, one.p50_us.shown(0), one.p99_us.shown(0), ratio]
        });
        let verifications = Table::new(columns, nodes);
        vec![
            Section::Words(format!(
                "Revocations, one after the other, {} rounds, with {} verifications a second wanted on each node. \
                 Median (least–greatest) of the rounds.",
                self.rounds, self.rate
            )),
            Section::Table(revocations),
            Section::Words(format!(
                "Of 3 nodes one is killed: the next revocation takes {} ms (a lease is {} ms), the one after it {} ms.",
                self.dead_first_ms.shown(0),
                LEASE.as_millis(),
                self.dead_next_ms.shown(1)
            )),
            Section::Words(format!(
                "Verifications (`GET /api/user`) on {CONNECTIONS} connections to one node, as fast as they come."
            )),
            Section::Table(verifications),
        ]
    }

    fn aims(&self) -> &[Aim] {
        &self.aims
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let bar = |label: &str, tone, time: Spread| {
            Bar::spread(label, tone, time, format!("{:.1} ms", time.median))
        };
        let groups = self.latencies.iter().map(|one| Group {
            name: one.deployment.clone(),
            bars: vec![bar("p50", 0, one.p50_ms), bar("p99", 1, one.p99_ms)],
        });
        let bars = Bars {
            title: "Until a revocation is true on every node".into(),
            unit: format!("Milliseconds; line: least to greatest of {}", number(self.rounds, "round")),
            legend: Vec::new(),
            groups: groups.collect(),
        };
        let shows = "How long a revocation takes on one node and on three".into();
        Ok(vec![Picture { name: "bench-fence", shows, svg: bars.svg() }])
    }
}
