//! One run of the suite.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;
use url::Url;

use crate::install::{Installed, install};
use crate::report::Report;
use crate::requirements::{Requirements, Revision};

/// How long a run may take. One takes six seconds; a server that lets every request wait would take
/// minutes.
pub const RUN_TIME: Duration = Duration::from_secs(180);

/// How much of what the suite said is shown when it has left no results.
const SHOWN: usize = 2000;

/// Runs every scenario of a revision against the server at `url`, and reads what the suite found.
pub async fn run_suite(url: &Url, revision: Revision) -> Result<Report> {
    let Installed { node, script, requirements } = tokio::task::spawn_blocking(install).await??;
    let file = requirements.join(format!("{}.yaml", revision.as_str()));
    let required =
        fs::read_to_string(&file).with_context(|| format!("no requirements in {}", file.display()))?;
    let requirements = Requirements::parse(&required);
    if requirements.required.is_empty() {
        bail!("{} requires nothing: has its form changed?", file.display());
    }

    let dir = TempDir::new()?;
    let (results, log) = (dir.path().join("results"), dir.path().join("log"));
    let said = File::create(&log)?;
    let mut run = Command::new(node)
        .arg(script)
        .args(["server", "--url", url.as_str(), "--requirements", revision.as_str(), "--output-dir"])
        .arg(&results)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("the suite does not start")?;
    // Its exit code says whether a check has failed; so do the results, and they say which.
    let ended = tokio::time::timeout(RUN_TIME, run.wait()).await;
    let tail = || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let from = said.len().saturating_sub(SHOWN);
        said.get(said.ceil_char_boundary(from)..).unwrap_or_default().to_owned()
    };
    ended
        .with_context(|| format!("the suite has not ended after {} s:\n{}", RUN_TIME.as_secs(), tail()))??;
    let report = Report::read(&results, requirements).with_context(tail)?;
    if report.scenarios.is_empty() {
        bail!("the suite has left no results:\n{}", tail());
    }
    Ok(report)
}
