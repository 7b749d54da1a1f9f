//! `core`: what a verification costs in this process, part by part, beside a read of main memory;
//! what a second thread adds, also while tokens are revoked; what it allocates; what a token takes
//! in the index; and what a start over the same data takes.

mod figures;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::{JoinSet, spawn_blocking};
use trustrelay_authority::ServerSecret;
use trustrelay_token::{Denied, Token, Verifier as _};
use uuid::Uuid;

use crate::aim::{Aim, Bound};
use crate::bulk;
use crate::chase::{Chase, Disorder};
use crate::data::Data;
use crate::machine::{Machine, available_memory};
use crate::measure::Spread;
use crate::parts::{Times, Warm};
use crate::program::resident;
use crate::report::{self, say};
use crate::start::{self, Start};

use figures::Figures;
pub(crate) use figures::Report;

/// Up to so many tokens, what the index holds of them is in the processor's caches.
const FEW: usize = 1000;
/// So many are in the store where a start is held to something.
const MANY: usize = 1_000_000;
/// Largest buffer for the reads: a larger one would hardly be slower, and has to fit beside the
/// index.
const LARGEST_BUFFER: usize = 1 << 30;
/// What a token takes of memory here at most, in the index, in the store's caches and in the list
/// of those that are verified.
const TOKEN_BYTES: u64 = 1024;
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// With how many tokens. What does not fit into the memory at hand is left out; 10,000,000 take
    /// ten minutes.
    #[arg(long, value_delimiter = ',', default_values_t = [FEW, MANY, 10 * MANY])]
    tokens: Vec<usize>,
    /// How often each part is done in a round.
    #[arg(long, default_value_t = 200_000)]
    times: usize,
    /// How long one and two threads verify in a round, in seconds, without and with revocations.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How many tokens are revoked a second meanwhile.
    #[arg(long, default_value_t = 100)]
    revocations: u32,
    /// Below this folder the data is made, and removed at the end.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/core.json")]
    out: PathBuf,
}

/// Data whose tokens have all been seen, and what each round came to.
struct Corpus {
    data: Data,
    warm: Warm,
    /// What the process grew by when it took the tokens into its index.
    index: u64,
    times: Vec<Times>,
    threads: Vec<Threads>,
}

/// Verifications a second on one and two threads: quiet, and while tokens are revoked.
#[derive(Debug, Clone, Copy)]
struct Threads {
    quiet: [f64; 2],
    revoking: [f64; 2],
    /// How many revocations a second there were beside one and two threads.
    revoked: [f64; 2],
}

/// The same data after its authority has ended.
struct Closed {
    folder: TempDir,
    secret: ServerSecret,
    starts: Vec<Start>,
}

impl Corpus {
    async fn new(folder: &Path, number: usize) -> Result<Self> {
        let begun = Instant::now();
        let (data, mut tokens) = if number > FEW {
            let (folder, secret, tokens) = bulk::fill(folder, number).await?;
            (Data::open(folder, secret, number).await?, tokens)
        } else {
            let data = Data::new(folder, number).await?;
            let tokens = data.fill(number, |issued| issued.token).await?;
            (data, tokens)
        };
        let filled = begun.elapsed();
        let before = resident(std::process::id())?;
        data.know(tokens.iter()).await?;
        ensure!(data.authority.indexed() == number, "the index holds {}", data.authority.indexed());
        let index = resident(std::process::id())?.saturating_sub(before);
        let known = begun.elapsed() - filled;
        // Only now: else what is verified one after the other lies in memory one after the other.
        Disorder(1).shuffle(&mut tokens);
        let buffer = usize::try_from(index)?.clamp(1 << 16, LARGEST_BUFFER);
        let chase = Arc::new(spawn_blocking(move || Chase::through(buffer)).await?);
        say(&format!(
            "{number} tokens were made in {:.1} s, and taken into the index in {:.1} s.",
            filled.as_secs_f64(),
            known.as_secs_f64()
        ));
        let warm = Warm { authority: data.authority.clone(), tokens: Arc::new(tokens), chase };
        Ok(Self { data, warm, index, times: Vec::new(), threads: Vec::new() })
    }

    /// Each part so many times, from where the last round ended. On another thread: this one keeps
    /// the lease.
    async fn time(&self, round: usize, number: usize) -> Result<Times> {
        let warm = self.warm.clone();
        let from = round.wrapping_mul(number) % warm.tokens.len();
        spawn_blocking(move || warm.time(from, number)).await?
    }

    async fn on_threads(&self, options: &Options) -> Result<Threads> {
        let time = Duration::from_secs_f64(options.seconds);
        let mut found = Threads { quiet: [0.0; 2], revoking: [0.0; 2], revoked: [0.0; 2] };
        for threads in 1..=2 {
            let warm = self.warm.clone();
            found.quiet[threads - 1] = spawn_blocking(move || warm.together(threads, time)).await??;
            let victims = self.victims(options).await?;
            let warm = self.warm.clone();
            let verified = spawn_blocking(move || warm.together(threads, time));
            found.revoked[threads - 1] = self.revoke(&victims, options.revocations).await?;
            found.revoking[threads - 1] = verified.await??;
        }
        Ok(found)
    }

    /// Tokens that the index knows, to be revoked.
    async fn victims(&self, options: &Options) -> Result<Vec<(Uuid, Token)>> {
        let number = (f64::from(options.revocations) * options.seconds) as usize;
        let victims = self.data.fill(number, |issued| (issued.record.pat_id, issued.token)).await?;
        self.data.know(victims.iter().map(|(_, token)| token)).await?;
        Ok(victims)
    }

    /// Revokes them at a pace, and sees that they are refused: how many a second there were.
    async fn revoke(&self, victims: &[(Uuid, Token)], per_second: u32) -> Result<f64> {
        let begun = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
        let mut revocations = JoinSet::new();
        for (pat_id, _) in victims {
            pace.tick().await;
            let (authority, pat_id) = (self.data.authority.clone(), *pat_id);
            revocations.spawn(async move { authority.revoke_any(pat_id).await });
        }
        while let Some(revoked) = revocations.join_next().await {
            revoked??;
        }
        let took = begun.elapsed();
        for (_, token) in victims {
            match self.data.authority.verify(token.clone()).wait().await {
                Err(Denied::Revoked(_)) => {}
                other => bail!("a revoked token is answered {other:?}"),
            }
        }
        Ok(victims.len() as f64 / took.as_secs_f64())
    }

    /// The figures so far, and the data without its authority. Memory goes back before programs are
    /// started.
    async fn close(self) -> (Figures, Closed) {
        let of = |part: fn(&Times) -> f64| Spread::of(self.times.iter().map(part));
        let millions = |part: fn(&Threads) -> f64| Spread::of(self.threads.iter().map(|of| part(of) / 1e6));
        let nothing = Spread::of([]);
        let figures = Figures {
            tokens: self.warm.tokens.len(),
            hash: of(|times| times.hash),
            parse: of(|times| times.parse),
            clocks: of(|times| times.clocks),
            judgment: of(|times| times.judgment),
            look_up: of(Times::look_up),
            verify: of(|times| times.verify),
            whole: of(|times| times.whole),
            one_read: of(|times| times.one_read),
            three_reads: of(|times| times.three_reads),
            buffer_bytes: self.warm.chase.bytes(),
            quiet: [millions(|of| of.quiet[0]), millions(|of| of.quiet[1])],
            revoking: [millions(|of| of.revoking[0]), millions(|of| of.revoking[1])],
            revoked_per_second: Spread::of(self.threads.iter().flat_map(|of| of.revoked)),
            resident_bytes_per_token: self.index as f64 / self.warm.tokens.len() as f64,
            start_ms: nothing,
            resident_mib_at_start: nothing,
        };
        drop(self.warm);
        let (folder, secret) = self.data.close().await;
        (figures, Closed { folder, secret, starts: Vec::new() })
    }

    fn aims(&self) -> Vec<Aim> {
        let number = self.warm.tokens.len();
        let of = |ratio: fn(&Times) -> f64| Spread::of(self.times.iter().map(ratio));
        let on = |ratio: fn(&Threads) -> f64| Spread::of(self.threads.iter().map(ratio));
        let mut aims = if number <= FEW {
            vec![Aim::new(
                format!("{number} tokens: verify / keyed hash"),
                Bound::AtMost(2.0),
                of(|times| times.verify / times.hash),
                2,
            )]
        } else {
            vec![
                Aim::new(
                    format!("{number} tokens: verify / (keyed hash + 3 dependent random reads)"),
                    Bound::AtMost(1.0),
                    of(|times| times.verify / (times.hash + times.three_reads)),
                    2,
                ),
                Aim::new(
                    format!("{number} tokens: resident bytes of one in the index"),
                    Bound::AtMost(160.0),
                    Spread::of([self.index as f64 / number as f64]),
                    0,
                ),
            ]
        };
        aims.push(Aim::new(
            format!("{number} tokens: 2 threads / 1"),
            Bound::AtLeast(1.8),
            on(|of| of.quiet[1] / of.quiet[0]),
            2,
        ));
        aims.push(Aim::new(
            format!("{number} tokens: 2 threads / 1, while tokens are revoked"),
            Bound::AtLeast(1.8),
            on(|of| of.revoking[1] / of.revoking[0]),
            2,
        ));
        aims
    }
}

/// Measures, says the report and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!(options.times > 0, "--times must be at least 1");
    ensure!(options.seconds > 0.0, "--seconds is {}; it must be above 0", options.seconds);
    ensure!(options.tokens.iter().all(|number| *number > 0), "--tokens must each be at least 1");
    // Counters count as they do in the program.
    metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let allocations = allocations().await?;
    let mut corpora = Vec::new();
    for number in options.tokens.iter().filter(|number| fits(**number)) {
        corpora.push(Corpus::new(&options.folder, *number).await?);
    }
    ensure!(!corpora.is_empty(), "--tokens: not even the fewest of them fit into memory");
    for corpus in &corpora {
        corpus.time(0, options.times / 4 + 1).await?;
    }
    for round in 0..options.rounds {
        say(&format!("Round {} of {}: the parts, then one and two threads.", round + 1, options.rounds));
        for corpus in &mut corpora {
            corpus.times.push(corpus.time(round, options.times).await?);
        }
        for corpus in &mut corpora {
            corpus.threads.push(corpus.on_threads(options).await?);
        }
    }
    let mut aims = vec![Aim::new(
        "allocations of a warm verification",
        Bound::AtMost(0.0),
        Spread::of([allocations]),
        2,
    )];
    aims.extend(corpora.iter().flat_map(Corpus::aims));
    let (mut figures, mut closed) = (Vec::new(), Vec::new());
    for corpus in corpora {
        let (own, data) = corpus.close().await;
        figures.push(own);
        closed.push(data);
    }
    for _ in 0..options.rounds {
        for data in &mut closed {
            data.starts.push(start::measure(data.folder.path(), &data.secret).await?);
        }
    }
    for (figures, data) in figures.iter_mut().zip(&closed) {
        figures.start_ms = Spread::of(data.starts.iter().map(|start| start.took.as_secs_f64() * 1e3));
        figures.resident_mib_at_start =
            Spread::of(data.starts.iter().map(|start| start.resident as f64 / MIB));
        if figures.tokens >= MANY {
            let stored = format!("{} tokens in the store", figures.tokens);
            aims.push(Aim::new(
                format!("{stored}: ready after, ms"),
                Bound::AtMost(1000.0),
                figures.start_ms,
                0,
            ));
            aims.push(Aim::new(
                format!("{stored}: resident before use, MiB"),
                Bound::AtMost(64.0),
                figures.resident_mib_at_start,
                1,
            ));
        }
    }
    let (machine, rounds) = (Machine::here()?, options.rounds);
    let report = Report { machine, rounds, allocations_per_verification: allocations, figures, aims };
    report::finish(&report, &options.out)
}

/// Whether so many tokens fit into memory. If they do not, it says so: they are left out.
fn fits(number: usize) -> bool {
    let needed = LARGEST_BUFFER as u64 + number as u64 * TOKEN_BYTES;
    let Some(available) = available_memory().filter(|available| *available < needed) else { return true };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    say(&format!(
        "{number} tokens are left out: they take up to {:.1} GiB of memory, and {:.1} GiB can be had.",
        gib(needed),
        gib(available)
    ));
    false
}

/// How many allocations a warm verification makes, as the program beside this one counts them.
async fn allocations() -> Result<f64> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    let counted = Command::new(own.with_file_name("trustrelay-bench-allocations")).output().await;
    let counted = counted.context("the program that counts allocations does not start")?;
    ensure!(counted.status.success(), "{}", String::from_utf8_lossy(&counted.stderr).trim());
    let text = String::from_utf8(counted.stdout)?;
    let (allocations, verifications) = text.trim().split_once(' ').context("no count of allocations")?;
    Ok(allocations.parse::<f64>()? / verifications.parse::<f64>()?)
}
