//! How many instructions it takes to pass: a verification from memory, a malformed token, a request
//! behind the guard, and `GET /api/user`. Unlike times, instructions come out alike however busy
//! the machine is, so that a change that costs a few per cent is seen.
//!
//! `cargo xtask counts` holds them to `bench/counts/bounds.txt`; with `--record` it writes that
//! file anew. Counted is by Valgrind, which has no SHA instructions: the keyed hash is some 7,000,
//! and would hide what is done around it. So it is counted by itself and taken off.

mod bounds;
mod callgrind;
mod world;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::bounds::Bounds;
use crate::world::Case;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often each is done while it is counted.
const TIMES: u64 = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let bounds = Path::new(env!("CARGO_MANIFEST_DIR")).join("bounds.txt");
    let done = match arguments[..] {
        [] => count().and_then(|counted| compare(&bounds, &counted)),
        ["--record"] => count().and_then(|counted| counted.write(&bounds)),
        // Below Valgrind.
        ["--do", name] => act(name),
        _ => Err(anyhow::anyhow!("it takes no argument, or `--record`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the end of a command that failed")]
            {
                eprintln!("counts: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn count() -> Result<Bounds> {
    let mut counted = Bounds::default();
    let hash = each(Case::Hash)?;
    say(&format!("{:<24} {hash:>8} instructions, taken off where it is done", Case::Hash.name()));
    for case in Case::BOUND {
        let instructions = each(case)?;
        let instructions = if case.hashes() { instructions.saturating_sub(hash) } else { instructions };
        say(&format!("{:<24} {instructions:>8} instructions", case.name()));
        counted.set(case.name(), instructions);
    }
    Ok(counted)
}

fn each(case: Case) -> Result<u64> {
    let counted = callgrind::count(&["--do", case.name()]);
    Ok(counted.with_context(|| format!("`{}` cannot be counted", case.name()))? / TIMES)
}

fn compare(file: &Path, counted: &Bounds) -> Result<()> {
    let findings = Bounds::read(file)?.beyond(counted);
    if findings.is_empty() {
        return Ok(());
    }
    let findings = findings.join("\n  ");
    bail!(
        "\n  {findings}\nIf that is meant, record it with `cargo xtask counts --record` and say why in the commit. Else find what \
         costs with `cargo xtask counts` before and after"
    )
}

fn act(name: &str) -> Result<()> {
    let case = Case::BOUND.into_iter().chain([Case::Hash]).find(|case| case.name() == name);
    case.with_context(|| format!("there is no `{name}`"))?.run(TIMES)
}

#[allow(clippy::print_stdout, reason = "what it is asked for")]
fn say(line: &str) {
    println!("{line}");
}
