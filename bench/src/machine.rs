//! On what, and when, figures were taken.

use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{Clock as _, SystemClock};

/// The machine and the state of the sources at the time of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The day of the run.
    date: String,
    /// What was measured, where that is known.
    commit: Option<String>,
    pub(crate) cores: usize,
    processor: Option<String>,
    memory_gib: Option<f64>,
}

impl Machine {
    pub(crate) fn here() -> Result<Self> {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Ok(Self {
            date: SystemClock.now().strftime("%Y-%m-%d").to_string(),
            commit: commit(),
            cores: std::thread::available_parallelism()?.get(),
            processor: entry(&processors, "model name").map(ToOwned::to_owned),
            memory_gib: kib(&memory, "MemTotal").map(|kib| kib as f64 / f64::from(1 << 20)),
        })
    }

    /// One line of a report.
    pub(crate) fn shown(&self) -> String {
        let commit = self.commit.as_ref().map(|commit| format!(" of commit {commit}")).unwrap_or_default();
        let processor = self.processor.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let memory = self.memory_gib.map(|gib| format!(", {gib:.0} GiB of memory")).unwrap_or_default();
        format!("A run{commit} on {}, {} cores{processor}{memory}.", self.date, self.cores)
    }
}

/// How much memory can be had at present, in bytes, where that is known.
pub(crate) fn available_memory() -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable").map(|kib| kib * 1024)
}

/// The value of the first line `name: value`.
fn entry<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn kib(memory: &str, name: &str) -> Option<u64> {
    entry(memory, name)?.strip_suffix(" kB")?.parse().ok()
}

/// The commit that is checked out, marked where files of it have been changed.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).output().ok();
    let described = git(&["describe", "--always", "--dirty=, with changes", "--exclude=*"])?;
    let text = String::from_utf8(described.stdout).ok()?.trim().to_owned();
    (described.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_found_by_its_name() {
        let memory = "MemTotal:       24645192 kB\nMemFree: 1 kB\nMemAvailable:   23068672 kB\n";
        assert_eq!(kib(memory, "MemAvailable"), Some(23_068_672));
        assert_eq!(kib(memory, "Mem"), None);
        assert_eq!(
            entry("processor\t: 0\nmodel name\t: Fast One\nmodel name\t: Slow", "model name"),
            Some("Fast One")
        );
    }

    #[test]
    fn a_report_says_where_it_comes_from_and_leaves_out_what_is_not_known() {
        let known = Machine {
            date: "2026-11-24".into(),
            commit: Some("1bd95a0".into()),
            cores: 2,
            processor: Some("Fast One".into()),
            memory_gib: Some(23.5),
        };
        assert_eq!(
            known.shown(),
            "A run of commit 1bd95a0 on 2026-11-24, 2 cores (Fast One), 24 GiB of memory."
        );
        let bare = Machine { commit: None, processor: None, memory_gib: None, ..known };
        assert_eq!(bare.shown(), "A run on 2026-11-24, 2 cores.");
    }
}
