//! `writes`: tokens made and revoked a second, each answered when it is on the disk, beside how
//! often a second the disk can be told to keep something at all.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use trustrelay_authority::By;
use uuid::Uuid;

use crate::aim::{Aim, Bound};
use crate::data::Data;
use crate::machine::Machine;
use crate::measure::Spread;
use crate::plot::{Bar, Bars, Group};
use crate::report::{self, Picture, Section, say};
use crate::table::{Table, figures, number, words};

/// How many callers the aim is for.
const MANY: usize = 64;
/// What is written before each fsync of the plain file: a page of the database.
const PAGE: [u8; 4096] = [0x5a; 4096];

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many callers there are at a time, each waiting for its answer.
    #[arg(long, value_delimiter = ',', default_values_t = [1, MANY])]
    callers: Vec<usize>,
    /// How many tokens each caller makes in a round, and revokes then: an account has at most
    /// 1,000.
    #[arg(long, default_value_t = 100)]
    each: usize,
    /// Below this folder the data is made, and removed at the end. Its disk is what is measured.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Where the figures go as JSON.
    #[arg(long, default_value = "target/bench/writes.json")]
    out: PathBuf,
}

/// What one kind of change came to in one round.
#[derive(Debug, Clone, Copy)]
struct Pace {
    per_second: f64,
    /// Of the fsync rate in the same round.
    ratio: f64,
    per_commit: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    change: String,
    callers: usize,
    per_second: Spread,
    /// Changes for each fsync that the plain file had in the same time.
    ratio_to_fsync: Spread,
    per_commit: Spread,
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    fsyncs_per_second: Spread,
    rows: Vec<Row>,
    aims: Vec<Aim>,
}

/// Does changes, and sets them beside the fsync rate.
async fn pace<T>(
    data: &Data,
    fsyncs: f64,
    number: usize,
    changes: impl Future<Output = Result<T>>,
) -> Result<(T, Pace)> {
    let (before, begun) = (data.store.commits(), Instant::now());
    let done = changes.await?;
    let (took, commits) = (begun.elapsed(), data.store.commits() - before);
    let per_second = number as f64 / took.as_secs_f64();
    Ok((done, Pace { per_second, ratio: per_second / fsyncs, per_commit: number as f64 / commits as f64 }))
}

/// All callers at once, each one token after the other.
async fn create(data: &Data, owners: &[By], each: usize) -> Result<Vec<Vec<Uuid>>> {
    try_join_all(owners.iter().map(|owner| async move {
        let mut made = Vec::with_capacity(each);
        for _ in 0..each {
            made.push(data.issue(owner).await?.record.pat_id);
        }
        Ok(made)
    }))
    .await
}

async fn revoke(data: &Data, tokens: &[Vec<Uuid>]) -> Result<()> {
    try_join_all(tokens.iter().map(|own| async move {
        for pat_id in own {
            data.authority.revoke_any(*pat_id).await?;
        }
        Ok::<_, anyhow::Error>(())
    }))
    .await
    .map(drop)
}

/// How often a second a page at the end of a plain file reaches the disk.
fn fsyncs(folder: &Path, times: usize) -> Result<f64> {
    let path = folder.join("plain");
    let mut file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    let begun = Instant::now();
    for _ in 0..times {
        file.write_all(&PAGE)?;
        file.sync_data()?;
    }
    let took = begun.elapsed().max(Duration::from_nanos(1));
    std::fs::remove_file(path)?;
    Ok(times as f64 / took.as_secs_f64())
}

/// Measures, says the report and writes the file.
pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    ensure!((1..=1000).contains(&options.each), "--each is {}; it must be 1 to 1000", options.each);
    ensure!(options.callers.iter().all(|callers| *callers > 0), "--callers must each be at least 1");
    let data = Data::new(&options.folder, 0).await?;
    let plain = tempfile::TempDir::new_in(&options.folder)?;
    let most = options.callers.iter().copied().max().unwrap_or_default();
    let owners = data.owners(most).await?;
    let mut disk = Vec::new();
    let mut paces: Vec<[Vec<Pace>; 2]> = options.callers.iter().map(|_| Default::default()).collect();
    for round in 0..options.rounds {
        say(&format!("Round {} of {}: fsyncs, creations, revocations.", round + 1, options.rounds));
        for (callers, [created, revoked]) in options.callers.iter().zip(&mut paces) {
            let (folder, times) = (plain.path().to_owned(), options.each);
            let rate = spawn_blocking(move || fsyncs(&folder, times)).await??;
            let number = callers * options.each;
            let creations = create(&data, &owners[..*callers], options.each);
            let (tokens, creations) = pace(&data, rate, number, creations).await?;
            let ((), revocations) = pace(&data, rate, number, revoke(&data, &tokens)).await?;
            created.push(creations);
            revoked.push(revocations);
            disk.push(rate);
        }
    }
    data.close().await;
    let mut rows = Vec::new();
    for (callers, paces) in options.callers.iter().zip(&paces) {
        for (change, paces) in ["creations", "revocations"].into_iter().zip(paces) {
            let of = |part: fn(&Pace) -> f64| Spread::of(paces.iter().map(part));
            rows.push(Row {
                change: change.to_owned(),
                callers: *callers,
                per_second: of(|pace| pace.per_second),
                ratio_to_fsync: of(|pace| pace.ratio),
                per_commit: of(|pace| pace.per_commit),
            });
        }
    }
    let aims = rows.iter().filter(|row| row.change == "creations" && row.callers == MANY).map(|row| {
        Aim::new(format!("creations a commit, {MANY} callers"), Bound::AtLeast(25.0), row.per_commit, 1)
    });
    let report = Report {
        machine: Machine::here()?,
        rounds: options.rounds,
        fsyncs_per_second: Spread::of(disk),
        aims: aims.collect(),
        rows,
    };
    report::finish(&report, &options.out)
}

impl Row {
    fn cells(&self) -> Vec<String> {
        vec![
            self.change.clone(),
            self.callers.to_string(),
            self.per_second.shown(0),
            self.ratio_to_fsync.shown(2),
            self.per_commit.shown(1),
        ]
    }
}

impl report::Report for Report {
    const PART: &'static str = "writes";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let columns = [
            words("change"),
            figures("callers"),
            figures("per second"),
            figures("for each plain fsync"),
            figures("per commit"),
        ];
        vec![
            Section::Words(format!(
                "Tokens made and revoked in one process on SQLite, {} rounds. Median (least–greatest). \
                 Fsyncs of a plain file a second: {}.",
                self.rounds,
                self.fsyncs_per_second.shown(0)
            )),
            Section::Table(Table::new(columns, self.rows.iter().map(Row::cells))),
        ]
    }

    fn aims(&self) -> &[Aim] {
        &self.aims
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let bar =
            |label: &str, tone, rate: Spread| Bar::spread(label, tone, rate, format!("{:.0}", rate.median));
        let disk = bar("plain fsyncs", 1, self.fsyncs_per_second);
        let disk = Group { name: "The disk".into(), bars: vec![disk] };
        let groups = self.rows.chunk_by(|one, next| one.callers == next.callers).map(|rows| Group {
            name: number(rows[0].callers, "caller"),
            bars: rows.iter().map(|row| bar(&row.change, 0, row.per_second)).collect(),
        });
        let bars = Bars {
            title: "Durable changes, beside the disk's own pace".into(),
            unit: format!("Per second; line: least to greatest of {}", number(self.rounds, "round")),
            legend: Vec::new(),
            groups: [disk].into_iter().chain(groups).collect(),
        };
        let shows = "Tokens made and revoked a second, beside plain fsyncs a second".into();
        Ok(vec![Picture { name: "bench-writes", shows, svg: bars.svg() }])
    }
}
