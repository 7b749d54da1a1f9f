//! Development tasks. `cargo xtask` alone lists them.

// Tasks write to the terminal: there is no log to write to.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod counts;
mod run;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

/// Returns the list that `cargo xtask` alone prints.
fn tasks() -> String {
    format!(
        "\
Usage: cargo xtask TASK

  test          everything that a change must pass: format, tidy, clippy, tools, counts, tests
  tidy          the checks of the repository itself: direction of dependency, names, sizes, links
                  tidy circles   every import between files of the same circle
  tools         install what the end-to-end tests need (test does it too)
  counts        hold the instructions of a verification and of three requests to what is recorded of them
                  counts --record   record what they take now
  bench         everything below one after the other, and the report of it in target/bench
                  bench --quick   only to see that all of it runs: some minutes
                  bench --docs    the report goes into docs/PERFORMANCE.md and its pictures
  bench report  the report alone, of what is measured already; --docs as above
{}  screenshots   take the README's picture from the running program
                  screenshots DIR   every page in every state, for looking at",
        bench::list()
    )
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match task(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(arguments: &[&str]) -> Result<()> {
    let root = root();
    match arguments {
        [] | ["help" | "--help" | "-h"] => println!("{}", tasks()),
        ["test"] => test::everything(&root)?,
        ["tidy"] => tidy::check(&root)?,
        ["tidy", "circles"] => tidy::circles(&root)?,
        ["tools"] => tools::install(&root)?,
        ["counts", arguments @ ..] => counts::run(&root, arguments)?,
        ["bench", arguments @ ..] => bench::run(&root, arguments)?,
        ["screenshots"] => screenshots(&root, &[])?,
        ["screenshots", dir] => screenshots(&root, &[dir])?,
        other => bail!("there is no task `{}`; `cargo xtask` alone lists the tasks", other.join(" ")),
    }
    Ok(())
}

fn screenshots(root: &Path, arguments: &[&str]) -> Result<()> {
    tools::install(root)?;
    let run = ["run", "--quiet", "--package", "trustrelay-e2e", "--bin", "screenshots", "--"];
    run::cargo(root, &[&run[..], arguments].concat())
}

/// The repository's root: this package is a folder in it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
