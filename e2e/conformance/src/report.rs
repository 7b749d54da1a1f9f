//! What a run of the suite found, and how two runs compare.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::requirements::Requirements;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Passed.
    Success,
    /// Failed.
    Failure,
    /// Passed what must be, but not what should be.
    Warning,
    /// Does not apply.
    Skipped,
    /// Noted for a reader, and not judged.
    Info,
}

/// One check of a scenario. A scenario may make the same check several times.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why it did not pass.
    #[serde(default)]
    pub error_message: Option<String>,
}

/// The results of one run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The checks of every scenario that came to its end.
    pub scenarios: BTreeMap<String, Vec<Check>>,
    /// What the run consisted of.
    pub requirements: Requirements,
}

/// The length of what the suite puts after a scenario's name: `-2026-07-28T00-00-00-000Z`.
const TIMESTAMP_LEN: usize = 25;

impl Report {
    /// Reads the result files of a run: `server-SCENARIO-TIME/checks.json`.
    pub fn read(results: &Path, requirements: Requirements) -> Result<Self> {
        let mut scenarios = BTreeMap::new();
        let entries =
            std::fs::read_dir(results).with_context(|| format!("no results in {}", results.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(scenario) = scenario(&name) else { continue };
            let file = entry.path().join("checks.json");
            // A scenario that broke off leaves its folder empty.
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let checks =
                serde_json::from_str(&text).with_context(|| format!("{} is no result", file.display()))?;
            scenarios.insert(scenario.to_owned(), checks);
        }
        Ok(Self { scenarios, requirements })
    }

    /// How many checks of a scenario passed.
    pub fn passed(&self, scenario: &str) -> usize {
        self.count(scenario, Status::Success)
    }

    /// How many checks of a scenario failed.
    pub fn failed(&self, scenario: &str) -> usize {
        self.count(scenario, Status::Failure)
    }

    /// How many checks passed, those of extensions left out.
    pub fn passed_in_all(&self) -> usize {
        let core = self.scenarios.keys().filter(|scenario| !self.requirements.extensions.contains(*scenario));
        core.map(|scenario| self.passed(scenario)).sum()
    }

    /// Everything that keeps this run from full marks, extensions left out: scenarios that broke
    /// off, and checks that failed, gave a warning or were skipped.
    pub fn blemishes(&self) -> Vec<String> {
        let Requirements { required, informative, .. } = &self.requirements;
        let mut blemishes = Vec::new();
        for scenario in required.iter().chain(informative) {
            match self.scenarios.get(scenario) {
                None => blemishes.push(format!("{scenario}: broke off")),
                Some(_) if self.passed(scenario) == 0 => {
                    blemishes.push(format!("{scenario}: passed nothing"))
                }
                Some(checks) => blemishes.extend(
                    checks
                        .iter()
                        .filter(|check| !matches!(check.status, Status::Success | Status::Info))
                        .map(|check| format!("{scenario}: {check}")),
                ),
            }
        }
        blemishes
    }

    fn count(&self, scenario: &str, status: Status) -> usize {
        let checks = self.scenarios.get(scenario).into_iter().flatten();
        checks.filter(|check| check.status == status).count()
    }
}

/// What passed directly and does not, or not as often, through the relay. Empty means that the
/// relay took nothing away.
pub fn fewer_than(direct: &Report, relayed: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    for (scenario, checks) in &direct.scenarios {
        let Some(through) = relayed.scenarios.get(scenario) else {
            differences.push(format!("{scenario}: broke off through the relay"));
            continue;
        };
        let (before, after) = (successes(checks), successes(through));
        for (check, times) in before {
            let remaining = after.get(&check).copied().unwrap_or(0);
            if remaining < times {
                let said: Vec<_> = through
                    .iter()
                    .filter(|found| found.status != Status::Success && found.is(check))
                    .map(ToString::to_string)
                    .collect();
                let said = if said.is_empty() { "it was not made".to_owned() } else { said.join("; ") };
                differences.push(format!(
                    "{scenario}: {} passed {times} times directly and {remaining} through the relay: {said}",
                    check.0
                ));
            }
        }
    }
    differences
}

type Identity<'a> = (&'a str, &'a str);

fn successes(checks: &[Check]) -> BTreeMap<Identity<'_>, usize> {
    let mut times = BTreeMap::new();
    for check in checks.iter().filter(|check| check.status == Status::Success) {
        *times.entry((check.id.as_str(), check.name.as_str())).or_default() += 1;
    }
    times
}

impl Check {
    fn is(&self, (id, name): Identity<'_>) -> bool {
        self.id == id && self.name == name
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Success => "passed",
            Status::Failure => "failed",
            Status::Warning => "gave a warning",
            Status::Skipped => "was skipped",
            Status::Info => "noted",
        };
        write!(f, "{} ({}) {status}", self.id, self.name)?;
        self.error_message.iter().try_for_each(|why| write!(f, ": {why}"))
    }
}

/// The scenario whose results a folder has.
fn scenario(folder: &str) -> Option<&str> {
    let name = folder.strip_prefix("server-")?;
    name.get(..name.len().checked_sub(TIMESTAMP_LEN)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, status: Status) -> Check {
        Check { id: id.to_owned(), name: id.to_owned(), status, error_message: None }
    }

    fn report(scenarios: &[(&str, &[(&str, Status)])]) -> Report {
        let scenarios: BTreeMap<String, Vec<Check>> = scenarios
            .iter()
            .map(|(name, checks)| {
                ((*name).to_owned(), checks.iter().map(|(id, status)| check(id, *status)).collect())
            })
            .collect();
        let required = scenarios.keys().cloned().collect();
        Report { scenarios, requirements: Requirements { required, ..Requirements::default() } }
    }

    #[test]
    fn a_relay_that_takes_nothing_away_differs_in_nothing_and_may_even_add() {
        let direct = report(&[("ping", &[("pong", Status::Success), ("order", Status::Warning)])]);
        let relayed = report(&[("ping", &[("pong", Status::Success), ("order", Status::Success)])]);
        assert_eq!(fewer_than(&direct, &direct), Vec::<String>::new());
        assert_eq!(fewer_than(&direct, &relayed), Vec::<String>::new());
    }

    #[test]
    fn a_check_that_fails_or_warns_or_is_no_longer_made_is_named() {
        let direct = report(&[("ping", &[("pong", Status::Success)])]);
        for (status, said) in [(Status::Failure, "failed"), (Status::Warning, "gave a warning")] {
            let differences = fewer_than(&direct, &report(&[("ping", &[("pong", status)])]));
            assert_eq!(differences.len(), 1);
            assert!(
                differences[0].starts_with("ping: pong") && differences[0].ends_with(said),
                "{differences:?}"
            );
        }
        let differences = fewer_than(&direct, &report(&[("ping", &[])]));
        assert!(differences[0].ends_with("it was not made"), "{differences:?}");
    }

    #[test]
    fn a_check_that_is_made_several_times_has_to_pass_as_often() {
        let direct = report(&[("headers", &[("reject", Status::Success), ("reject", Status::Success)])]);
        let relayed = report(&[("headers", &[("reject", Status::Success), ("reject", Status::Failure)])]);
        let differences = fewer_than(&direct, &relayed);
        assert_eq!(differences.len(), 1);
        assert!(differences[0].contains("2 times directly and 1"), "{differences:?}");
    }

    #[test]
    fn a_scenario_that_broke_off_is_named() {
        let direct = report(&[("ping", &[("pong", Status::Success)])]);
        assert_eq!(fewer_than(&direct, &report(&[])), ["ping: broke off through the relay"]);
    }

    #[test]
    fn full_marks_have_no_blemish_and_everything_else_is_one() {
        let full = report(&[("ping", &[("pong", Status::Success), ("note", Status::Info)])]);
        assert_eq!(full.blemishes(), Vec::<String>::new());
        assert_eq!((full.passed("ping"), full.failed("ping"), full.passed_in_all()), (1, 0, 1));

        let mut broken = report(&[("a", &[("x", Status::Success), ("y", Status::Skipped)]), ("b", &[])]);
        broken.requirements.required.insert("c".to_owned());
        assert_eq!(broken.blemishes(), ["a: y (y) was skipped", "b: passed nothing", "c: broke off"]);
    }

    #[test]
    fn what_an_extension_lacks_is_no_blemish() {
        let mut with_tasks = report(&[("tasks", &[("get", Status::Failure), ("list", Status::Success)])]);
        with_tasks.requirements.required.clear();
        with_tasks.requirements.extensions.insert("tasks".to_owned());
        assert_eq!(with_tasks.blemishes(), Vec::<String>::new());
        assert_eq!(with_tasks.passed_in_all(), 0);
    }

    #[test]
    fn result_files_are_read_and_an_empty_folder_is_a_scenario_that_broke_off() -> Result<()> {
        let results = tempfile::tempdir()?;
        let folder = |name: &str| results.path().join(format!("server-{name}-2026-07-28T00-00-00-000Z"));
        std::fs::create_dir(folder("ping"))?;
        std::fs::create_dir(folder("tools-list"))?;
        let checks =
            r#"[{"id":"ping","name":"Ping","description":"","status":"FAILURE","errorMessage":"late"}]"#;
        std::fs::write(folder("ping").join("checks.json"), checks)?;
        let requirements = Requirements::parse("server:\n  - ping\n  - tools-list\n");
        let read = Report::read(results.path(), requirements.clone())?;
        assert_eq!((read.passed("ping"), read.failed("ping")), (0, 1));
        assert_eq!(read.blemishes(), ["ping: passed nothing", "tools-list: broke off"]);

        std::fs::write(folder("tools-list").join("checks.json"), "no JSON")?;
        let error = Report::read(results.path(), requirements).expect_err("a result is JSON").to_string();
        assert!(error.contains("tools-list") && error.ends_with("is no result"), "{error}");
        Ok(())
    }
}
