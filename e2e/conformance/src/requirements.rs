//! What a revision of the protocol requires, as the suite says it.

use std::collections::BTreeSet;

/// A revision whose requirements the suite knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// The last of the session era.
    V2025_11_25,
    /// The first of the stateless era.
    V2026_07_28,
}

impl Revision {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }
}

/// The scenarios for servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Those that a server has to pass.
    pub required: BTreeSet<String>,
    /// Those of extensions, which a server may lack.
    pub extensions: BTreeSet<String>,
    /// Those that are run for information: they came later, or the suite's own server does not pass
    /// them.
    pub informative: BTreeSet<String>,
}

impl Requirements {
    /// Reads the suite's file, which is simple YAML: `server:` is a list of names, `not_scored:` a
    /// list of maps with `scenario`, `leg` and `reason`.
    pub fn parse(text: &str) -> Self {
        let mut requirements = Self::default();
        let mut section = "";
        let (mut scenario, mut leg) = ("", "");
        for line in text.lines() {
            if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with([' ', '#'])) {
                section = name;
                continue;
            }
            let item = line.trim();
            match section {
                "server" => {
                    if let Some(name) = item.strip_prefix("- ") {
                        requirements.required.insert(name.to_owned());
                    }
                }
                "not_scored" => {
                    if let Some(name) = item.strip_prefix("- scenario: ") {
                        (scenario, leg) = (name, "");
                    } else if let Some(name) = item.strip_prefix("leg: ") {
                        leg = name;
                    } else if let Some(reason) = item.strip_prefix("reason: ").filter(|_| leg == "server") {
                        let kind = if reason == "extension" {
                            &mut requirements.extensions
                        } else {
                            &mut requirements.informative
                        };
                        kind.insert(scenario.to_owned());
                    }
                }
                _ => {}
            }
        }
        requirements
    }

    /// All scenarios that a run consists of.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.required.iter().chain(&self.extensions).chain(&self.informative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# server:
#   - a comment names nothing
server:
  - ping
  - tools-list

client:
  - initialize

not_scored:
  - scenario: auth/dpop
    leg: client
    reason: extension
  - scenario: tasks-lifecycle
    leg: server
    reason: extension
    note: >-
      pending against the reference fixture
  - scenario: server-sse-polling
    leg: server
    reason: pending
";

    #[test]
    fn scenarios_for_servers_are_found_and_those_for_clients_are_not() {
        let found = Requirements::parse(FILE);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(found.required, set(&["ping", "tools-list"]));
        assert_eq!(found.extensions, set(&["tasks-lifecycle"]));
        assert_eq!(found.informative, set(&["server-sse-polling"]));
        assert_eq!(found.all().count(), 4);
    }

    #[test]
    fn a_file_without_scenarios_requires_nothing() {
        assert_eq!(Requirements::parse("client:\n  - initialize\n"), Requirements::default());
    }
}
