//! The direction of dependency. The crates that each crate may depend on are read from
//! ARCHITECTURE.md, so that the map stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A crate's folder below `crates/`, and the ones that it depends on (or may depend on).
type Map = BTreeMap<String, BTreeSet<String>>;

/// Reports dependencies that the map does not allow.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md cannot be read")?;
    let metadata = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("`cargo metadata` does not start")?;
    if !metadata.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&metadata.stderr));
    }
    Ok(compare(&allowed(&text), &actual(&serde_json::from_slice(&metadata.stdout)?)))
}

/// Reads the rows of the table under "The house": the first column names the crate, the last the
/// crates that it may depend on.
fn allowed(architecture: &str) -> Map {
    let rows = architecture.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let name = cells.first()?.strip_prefix("`crates/")?.strip_suffix('`')?;
        Some((name.to_owned(), (*cells.last()?).to_owned()))
    });
    let rows: BTreeMap<String, String> = rows.collect();
    let knows = |text: &str| match text {
        "all" => rows.keys().cloned().collect(),
        "nothing of ours" => BTreeSet::new(),
        some => some.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    rows.iter().map(|(name, text)| (name.clone(), knows(text))).collect()
}

/// Returns the dependencies of the manifests. Tests may use any crate, because nothing that is
/// shipped contains them.
fn actual(metadata: &Value) -> Map {
    let short = |name: &str| match name {
        "trustrelay" => Some("trustrelay".to_owned()),
        other => other.strip_prefix("trustrelay-").map(str::to_owned),
    };
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let crates = packages.iter().filter(|package| {
        package["manifest_path"].as_str().is_some_and(|path| path.replace('\\', "/").contains("/crates/"))
    });
    crates
        .filter_map(|package| {
            let on = package["dependencies"].as_array()?.iter();
            let on = on.filter(|on| on["kind"] != "dev").filter_map(|on| short(on["name"].as_str()?));
            Some((short(package["name"].as_str()?)?, on.collect()))
        })
        .collect()
}

fn compare(allowed: &Map, actual: &Map) -> Vec<String> {
    let mut untidy = Vec::new();
    for (name, on) in actual {
        let Some(may) = allowed.get(name) else {
            untidy.push(format!(
                "crates/{name} has no row in ARCHITECTURE.md's table: say there what it may know"
            ));
            continue;
        };
        for other in on.difference(may) {
            untidy.push(format!(
                "crates/{name} depends on crates/{other}; by ARCHITECTURE.md's table it may not"
            ));
        }
    }
    for name in allowed.keys().filter(|name| !actual.contains_key(*name)) {
        untidy
            .push(format!("ARCHITECTURE.md's table has a row for crates/{name}, and there is no such crate"));
    }
    untidy
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "\
| crate | what it is | knows |
|---|---|---|
| `crates/token` | text | nothing of ours |
| `crates/web` | pages | token, relay |
| `crates/relay` | MCP | token |
| `crates/trustrelay` | the program | all |
| `xtask` | tasks | |";

    /// A dependency's name and kind, as cargo tells them.
    type Edge<'a> = (&'a str, Option<&'a str>);

    fn metadata(edges: &[(&str, &[Edge<'_>])]) -> Value {
        let packages: Vec<_> = edges
            .iter()
            .map(|(name, on)| {
                let on: Vec<_> =
                    on.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
                json!({ "name": name, "manifest_path": format!("/x/crates/{name}/Cargo.toml"), "dependencies": on })
            })
            .collect();
        json!({ "packages": packages })
    }

    fn untidy(web: &[Edge<'_>]) -> Vec<String> {
        let metadata = metadata(&[
            ("trustrelay-token", &[("sha2", None)]),
            ("trustrelay-relay", &[("trustrelay-token", None)]),
            ("trustrelay-web", web),
            ("trustrelay", &[("trustrelay-web", None), ("trustrelay-token", None)]),
        ]);
        compare(&allowed(TABLE), &actual(&metadata))
    }

    #[test]
    fn what_the_table_allows_passes_and_so_does_what_only_tests_use() {
        assert_eq!(untidy(&[("trustrelay-relay", None), ("trustrelay", Some("dev"))]), [""; 0]);
    }

    #[test]
    fn a_dependency_against_the_table_is_named_also_in_a_build_script() {
        for kind in [None, Some("build")] {
            let untidy = untidy(&[("trustrelay", kind)]);
            assert_eq!(untidy.len(), 1);
            assert!(untidy[0].starts_with("crates/web depends on crates/trustrelay"), "{untidy:?}");
        }
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_named() {
        let metadata = metadata(&[("trustrelay-new", &[])]);
        let untidy = compare(&allowed("| `crates/gone` | was | token |"), &actual(&metadata));
        assert_eq!(untidy.len(), 2);
        assert!(
            untidy[0].contains("crates/new has no row") && untidy[1].contains("crates/gone"),
            "{untidy:?}"
        );
    }
}
