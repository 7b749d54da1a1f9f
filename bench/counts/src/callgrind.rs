//! Counts instructions: starts this program anew below Valgrind's callgrind, which counts within
//! [`counted`] alone.

use std::hint::black_box;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Does something so many times, and is what is counted.
#[inline(never)]
pub(crate) fn counted(times: u64, mut act: impl FnMut()) {
    for _ in 0..times {
        act();
    }
    black_box(times);
}

/// The instructions within [`counted`] when this program is started with these arguments.
pub(crate) fn count(arguments: &[&str]) -> Result<u64> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    let out = tempfile::NamedTempFile::new()?;
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*callgrind*counted*"])
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(own)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("Valgrind does not start; Debian's package `valgrind` brings it")?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr).trim());
    let text = std::fs::read_to_string(out.path())?;
    let counted = total(&text).context("callgrind wrote no total")?;
    ensure!(counted > 0, "nothing was counted: the function that is to be counted was not found");
    Ok(counted)
}

/// The line `totals: 123` of callgrind's format.
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_number_of_its_line() {
        assert_eq!(total("summary: 5\nfn=x\n1 2\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("summary: 5\n"), None);
        assert_eq!(total("totals: many\n"), None);
    }
}
