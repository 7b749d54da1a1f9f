//! `cargo xtask bench`: what is shipped, measured. Built with the profile that is shipped.

mod peers;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::run::cargo;

/// A part of the bench.
struct Part {
    name: &'static str,
    does: &'static str,
    /// The options of a quick run: enough to see that all of it runs, too little for a figure.
    quick: &'static [&'static str],
}

const fn part(name: &'static str, does: &'static str, quick: &'static [&'static str]) -> Part {
    Part { name, does, quick }
}

/// In the order in which they run.
const PARTS: [Part; 7] = [
    part(
        "core",
        "a verification in one process, part by part; threads, allocations, the index's memory, a start",
        &["--rounds", "2", "--tokens", "1000,50000", "--times", "20000", "--seconds", "0.3"],
    ),
    part(
        "http",
        "requests with tokens at a bare server, at the same behind the guard, and at GET /api/user",
        &["--rounds", "2", "--seconds", "0.3"],
    ),
    part(
        "peers",
        "verifications beside Better Auth's, tool calls beside ContextForge's",
        &["--rounds", "2", "--seconds", "0.5"],
    ),
    part(
        "relay",
        "tool calls through the relay and asked directly, side by side; the memory of open streams",
        &["--rounds", "2", "--seconds", "0.3", "--streams", "500"],
    ),
    part(
        "fence",
        "revocations over one and three nodes under load; verifications behind the fence",
        &["--rounds", "1", "--revocations", "20", "--seconds", "0.5"],
    ),
    part(
        "writes",
        "tokens made and revoked a second, beside the disk's own fsync rate",
        &["--rounds", "2", "--each", "20"],
    ),
    part("flame", "where the time of one request goes, as flame graphs", &["--seconds", "2"]),
];

/// Into the documents themselves, instead of a copy beside the figures.
const DOCUMENTS: &str = "docs";

/// The request of `cargo xtask bench`.
#[derive(Debug, PartialEq, Eq)]
enum Task<'a> {
    /// All parts, and the report.
    Everything { is_quick: bool, into: &'static str },
    /// The report of what is measured already.
    Report { into: &'static str },
    /// A single part, with its own options.
    Part { name: &'a str, options: &'a [&'a str] },
}

impl<'a> Task<'a> {
    fn of(arguments: &'a [&'a str]) -> Result<Self> {
        let (is_report, options) = match arguments {
            ["report", options @ ..] => (true, options),
            [name, options @ ..] if PARTS.iter().any(|part| part.name == *name) => {
                return Ok(Self::Part { name, options });
            }
            options => (false, options),
        };
        let (mut is_quick, mut into) = (false, "target/bench");
        for option in options {
            match *option {
                "--docs" => into = DOCUMENTS,
                "--quick" if !is_report => is_quick = true,
                other => {
                    let parts: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
                    bail!(
                        "`bench` does not know `{other}`; it takes --quick, --docs, `report`, or a part: {}",
                        parts.join(", ")
                    );
                }
            }
        }
        if is_quick && into == DOCUMENTS {
            bail!("a quick run has no figures for the documents; leave out --quick or --docs");
        }
        Ok(if is_report { Self::Report { into } } else { Self::Everything { is_quick, into } })
    }
}

/// `cargo xtask bench ARGUMENTS`.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let task = Task::of(arguments)?;
    build(root)?;
    match task {
        Task::Report { into } => bench(root, &["report", "--into", into]),
        Task::Part { name, options } => measure(root, name, options),
        Task::Everything { is_quick, into } => {
            everything(root, is_quick)?;
            bench(root, &["report", "--into", into])
        }
    }
}

/// Runs the parts in turn; all of them, also if one fails.
fn everything(root: &Path, is_quick: bool) -> Result<()> {
    let begun = Instant::now();
    let mut failed = Vec::new();
    for part in &PARTS {
        // Results of an earlier run are not this run's.
        let _ = fs::remove_file(root.join("target/bench").join(part.name).with_extension("json"));
        println!("\n== {}: {} ({} s so far)\n", part.name, part.does, begun.elapsed().as_secs());
        let options = if is_quick { part.quick } else { &[] };
        if let Err(error) = measure(root, part.name, options) {
            println!("{}: {error:#}", part.name);
            failed.push(part.name);
        }
    }
    println!("\n== {} s in all\n", begun.elapsed().as_secs());
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "failed: {}; the others' figures are in target/bench, `cargo xtask bench report` shows them",
        failed.join(", ")
    )
}

/// The program and the bench, as they are shipped.
fn build(root: &Path) -> Result<()> {
    let packages = ["trustrelay", "trustrelay-bench", "trustrelay-e2e-upstream"];
    let packages = packages.map(|package| ["--package", package]).concat();
    cargo(root, &[&["build", "--locked", "--profile", "dist"], &packages[..]].concat())
}

fn measure(root: &Path, part: &str, options: &[&str]) -> Result<()> {
    if part == "peers" {
        peers::install(root)?;
    }
    bench(root, &[&[part], options].concat())
}

/// The bench finds the program beside itself.
fn bench(root: &Path, arguments: &[&str]) -> Result<()> {
    let run = ["run", "--locked", "--profile", "dist", "--quiet", "--package", "trustrelay-bench", "--"];
    cargo(root, &[&run[..], arguments].concat())
}

/// A line for each part, for the list of tasks.
pub(crate) fn list() -> String {
    PARTS.iter().map(|part| format!("  bench {:<7} {}\n", part.name, part.does)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_everything_runs_and_the_documents_stay_as_they_are() {
        let beside = "target/bench";
        let task = |arguments| Task::of(arguments).expect("a task");
        assert_eq!(task(&[]), Task::Everything { is_quick: false, into: beside });
        assert_eq!(task(&["--quick"]), Task::Everything { is_quick: true, into: beside });
        assert_eq!(task(&["--docs"]), Task::Everything { is_quick: false, into: "docs" });
        assert_eq!(task(&["report", "--docs"]), Task::Report { into: "docs" });
    }

    #[test]
    fn a_part_takes_its_own_options_and_everything_else_is_refused_by_name() {
        let part = Task::Part { name: "core", options: &["--rounds", "2"] };
        assert_eq!(Task::of(&["core", "--rounds", "2"]).expect("a part"), part);
        let refused = |arguments| Task::of(arguments).expect_err("refused").to_string();
        assert!(refused(&["--rounds", "2"]).contains("`--rounds`"));
        assert!(refused(&["cores"]).contains("`cores`") && refused(&["cores"]).contains("core, http"));
        assert!(refused(&["report", "--quick"]).contains("`--quick`"));
        assert!(refused(&["--quick", "--docs"]).contains("no figures for the documents"));
    }
}
