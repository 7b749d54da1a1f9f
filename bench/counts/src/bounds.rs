//! The recorded bounds, and what goes beyond them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// How many per cent more than recorded it may be: other versions of the C library copy memory
/// otherwise.
const TOLERANCE: u64 = 3;

/// Instructions by the name of what they were counted for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds(BTreeMap<String, u64>);

impl Bounds {
    pub(crate) fn set(&mut self, name: &str, instructions: u64) {
        self.0.insert(name.to_owned(), instructions);
    }

    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not as it was written", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let parsed = lines.map(|line| {
            let (name, number) = line.split_once(char::is_whitespace).context("a line without a number")?;
            let number = number.trim().parse().with_context(|| format!("`{number}` is no number"))?;
            Ok((name.to_owned(), number))
        });
        Ok(Self(parsed.collect::<Result<_>>()?))
    }

    fn text(&self) -> String {
        let mut text = String::from("# Instructions each takes; written by `cargo xtask counts --record`.\n");
        for (name, instructions) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<24} {instructions}");
        }
        text
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.text()).with_context(|| format!("{} cannot be written", file.display()))
    }

    /// What was counted and is more than these allow, and what they don't know or know in vain; a
    /// sentence each.
    pub(crate) fn beyond(&self, counted: &Self) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, now) in &counted.0 {
            match self.0.get(name) {
                None => findings
                    .push(format!("`{name}` takes {now} instructions, and nothing is recorded for it")),
                Some(recorded) if *now > recorded + recorded * TOLERANCE / 100 => {
                    let more = (now - recorded) * 100 / recorded.max(&1);
                    findings.push(format!(
                        "`{name}` takes {now} instructions, {more} % more than the {recorded} that are recorded"
                    ));
                }
                Some(_) => {}
            }
        }
        let gone = self.0.keys().filter(|name| !counted.0.contains_key(*name));
        findings.extend(gone.map(|name| format!("`{name}` is recorded and was not counted")));
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(all: &[(&str, u64)]) -> Bounds {
        Bounds(all.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect())
    }

    #[test]
    fn what_is_recorded_reads_back() {
        let some = bounds(&[("a", 1), ("b-c", 12_345)]);
        assert_eq!(Bounds::parse(&some.text()).expect("it reads"), some);
        for bad in ["a", "a b"] {
            Bounds::parse(bad).expect_err("it is refused");
        }
    }

    #[test]
    fn a_few_per_cent_more_are_within_the_bounds_and_any_less_is() {
        let recorded = bounds(&[("a", 1000)]);
        for (now, within) in [(1, true), (1000, true), (1030, true), (1031, false), (2000, false)] {
            let findings = recorded.beyond(&bounds(&[("a", now)]));
            assert_eq!(findings.is_empty(), within, "{now}: {findings:?}");
            assert!(findings.iter().all(|finding| finding.contains("`a`") && finding.contains("1000")));
        }
    }

    #[test]
    fn what_is_not_recorded_and_what_is_not_counted_is_named() {
        let findings = bounds(&[("gone", 1)]).beyond(&bounds(&[("new", 1)]));
        assert!(findings.len() == 2 && findings[0].contains("`new`") && findings[1].contains("`gone`"));
    }
}
