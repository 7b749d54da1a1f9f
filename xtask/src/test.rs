//! `cargo xtask test`: the steps, one after the other, to the first that fails.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::run::{self, cargo};
use crate::{counts, tidy, tools};

type Step = (&'static str, fn(&Path) -> Result<()>);

/// The quick ones first. The tests are last, so that their results close the output.
const STEPS: [Step; 7] = [
    ("format", |root| cargo(root, &["fmt", "--all", "--check"])),
    ("tidy", tidy::check),
    ("clippy", |root| {
        cargo(root, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    ("docs", run::documents),
    ("tools", tools::install),
    ("counts", |root| counts::run(root, &[])),
    ("tests", |root| cargo(root, &["test", "--locked", "--workspace", "--no-fail-fast"])),
];

/// Runs them all.
pub(crate) fn everything(root: &Path) -> Result<()> {
    steps(root, &STEPS)
}

fn steps(root: &Path, steps: &[Step]) -> Result<()> {
    let begun = Instant::now();
    for (at, (name, step)) in steps.iter().enumerate() {
        println!("== {}/{} {name}", at + 1, steps.len());
        let started = Instant::now();
        step(root).with_context(|| format!("step `{name}` failed"))?;
        println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    println!("== everything passed in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_that_fails_is_named_and_is_the_last_that_runs() {
        let failing: [Step; 3] = [
            ("one", |_| Ok(())),
            ("two", |_| anyhow::bail!("no")),
            ("three", |_| panic!("a step after a failed one must not run")),
        ];
        let error = steps(Path::new("."), &failing).expect_err("the second fails");
        assert_eq!(format!("{error:#}"), "step `two` failed: no");
        steps(Path::new("."), &failing[..1]).expect("the first alone passes");
    }
}
