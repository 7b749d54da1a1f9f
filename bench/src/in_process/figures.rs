//! What a verification in this process came to.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::MIB;
use crate::aim::Aim;
use crate::machine::Machine;
use crate::measure::Spread;
use crate::plot::{Bar, Bars, Group};
use crate::report::{self, Picture, Section};
use crate::table::{Table, figures, number, words};

/// With one number of tokens.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) tokens: usize,
    /// Nanoseconds each.
    pub(super) hash: Spread,
    pub(super) parse: Spread,
    pub(super) clocks: Spread,
    pub(super) judgment: Spread,
    pub(super) look_up: Spread,
    pub(super) verify: Spread,
    pub(super) whole: Spread,
    pub(super) one_read: Spread,
    pub(super) three_reads: Spread,
    /// How large the buffer of the reads was.
    pub(super) buffer_bytes: usize,
    /// Millions a second.
    pub(super) quiet: [Spread; 2],
    pub(super) revoking: [Spread; 2],
    pub(super) revoked_per_second: Spread,
    pub(super) resident_bytes_per_token: f64,
    pub(super) start_ms: Spread,
    pub(super) resident_mib_at_start: Spread,
}

/// See [`report::Report`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) allocations_per_verification: f64,
    pub(super) figures: Vec<Figures>,
    pub(super) aims: Vec<Aim>,
}

impl Figures {
    fn parts(&self) -> [(&'static str, Spread); 9] {
        [
            ("keyed hash", self.hash),
            ("look-up, and the rest of `verify`", self.look_up),
            ("both clocks", self.clocks),
            ("judgment", self.judgment),
            ("`verify`: these together", self.verify),
            ("parse", self.parse),
            ("parse and `verify`", self.whole),
            ("1 random read of main memory", self.one_read),
            ("3 of them, each after the other", self.three_reads),
        ]
    }

    fn threads(&self) -> [(&'static str, Spread); 4] {
        [
            ("1 thread", self.quiet[0]),
            ("2 threads", self.quiet[1]),
            ("1 thread, revocations", self.revoking[0]),
            ("2 threads, revocations", self.revoking[1]),
        ]
    }

    fn others(&self) -> [(&'static str, String); 5] {
        [
            ("revoked a second meanwhile", self.revoked_per_second.shown(0)),
            ("buffer of the random reads, MiB", format!("{:.0}", self.buffer_bytes as f64 / MIB)),
            ("resident bytes of a token in the index", format!("{:.0}", self.resident_bytes_per_token)),
            ("start until ready, ms", self.start_ms.shown(0)),
            ("resident then, MiB", self.resident_mib_at_start.shown(1)),
        ]
    }

    fn name(&self) -> String {
        format!("{} tokens", self.tokens)
    }

    /// What a request pays, beside the keyed hash and three reads of main memory.
    fn group(&self) -> Group {
        let of = |tone, spread: Spread| (tone, spread.median);
        let pieces = vec![
            of(0, self.hash),
            of(1, self.look_up),
            of(2, self.clocks),
            of(3, self.judgment),
            of(4, self.parse),
        ];
        let whole = format!(
            "{:.0} ns",
            self.hash.median
                + self.look_up.median
                + self.clocks.median
                + self.judgment.median
                + self.parse.median
        );
        let least = self.hash.median + self.three_reads.median;
        let bars = vec![
            Bar::stacked("parse and verify", pieces, whole),
            Bar::stacked(
                "hash and 3 reads",
                vec![of(0, self.hash), of(1, self.three_reads)],
                format!("{least:.0} ns"),
            ),
        ];
        Group { name: self.name(), bars }
    }

    fn group_of_threads(&self) -> Group {
        let bars = self.threads().into_iter().enumerate().map(|(at, (name, millions))| {
            Bar::spread(name, at / 2, millions, format!("{:.2} M", millions.median))
        });
        Group { name: self.name(), bars: bars.collect() }
    }
}

impl Report {
    /// A line for each name, a column for each number of tokens.
    fn table<const N: usize>(
        &self,
        title: &str,
        cells: impl Fn(&Figures) -> [(&'static str, String); N],
    ) -> Table {
        let columns = [words(title)].into_iter().chain(self.figures.iter().map(|one| figures(one.name())));
        let of_each: Vec<[(&str, String); N]> = self.figures.iter().map(cells).collect();
        let rows = (0..N).map(|at| {
            let name = of_each.first().map_or("", |one| one[at].0);
            [name.to_owned()].into_iter().chain(of_each.iter().map(|one| one[at].1.clone())).collect()
        });
        Table::new(columns, rows)
    }
}

impl report::Report for Report {
    const PART: &'static str = "core";

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn sections(&self) -> Vec<Section> {
        let shown = |decimals| move |(name, spread): (&'static str, Spread)| (name, spread.shown(decimals));
        vec![
            Section::Words(format!("{} rounds. Median (least–greatest).", self.rounds)),
            Section::Table(self.table("nanoseconds of one", |one| one.parts().map(shown(1)))),
            Section::Table(self.table("millions a second", |one| one.threads().map(shown(3)))),
            Section::Table(self.table("besides", Figures::others)),
            Section::Words(format!(
                "Allocations of a warm verification: {}.",
                self.allocations_per_verification
            )),
        ]
    }

    fn aims(&self) -> &[Aim] {
        &self.aims
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let legend = ["keyed hash", "look-up, or reads", "clocks", "judgment", "parse"];
        let parts = Bars {
            title: "A verification in one process".into(),
            unit: format!("Nanoseconds, medians of {} rounds", self.rounds),
            legend: legend.map(ToOwned::to_owned).into(),
            groups: self.figures.iter().map(Figures::group).collect(),
        };
        let threads = Bars {
            title: "Verifications on one and two threads".into(),
            unit: format!("Millions per second; line: least to greatest of {}", number(self.rounds, "round")),
            legend: Vec::new(),
            groups: self.figures.iter().map(Figures::group_of_threads).collect(),
        };
        let shows =
            "What a verification consists of, in nanoseconds, beside three reads of main memory".into();
        let also = "Verifications a second on one and two threads, quiet and while tokens are revoked".into();
        Ok(vec![
            Picture { name: "bench-core", shows, svg: parts.svg() },
            Picture { name: "bench-threads", shows: also, svg: threads.svg() },
        ])
    }
}
