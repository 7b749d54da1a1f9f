//! Checks of each file: its name, its size, the places that it names, its links.

/// From here on a source file is asked for the second thing that it does.
const MAX_LINES: usize = 500;

/// Files that were longer when this was written, with their lines. An entry may only shrink.
const LONGER: [(&str, usize); 0] = [];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = ["manager", "helper", "helpers", "util", "utils", "common", "misc", "shared"];

/// A source file or folder with a name that says nothing.
pub(crate) fn name(path: &str) -> Option<String> {
    let parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let empty = parts.into_iter().find(|part| {
        part.split(['-', '_']).any(|word| EMPTY_NAMES.contains(&word.to_ascii_lowercase().as_str()))
    })?;
    Some(format!("{path}: `{empty}` does not say what it does; name it after that"))
}

/// A source file that is too long.
pub(crate) fn size(path: &str, text: &str) -> Option<String> {
    size_of(path, text.lines().count(), &LONGER)
}

fn size_of(path: &str, lines: usize, longer: &[(&str, usize)]) -> Option<String> {
    if !path.ends_with(".rs") {
        return None;
    }
    match longer.iter().find(|(listed, _)| *listed == path) {
        Some(_) if lines <= MAX_LINES => {
            Some(format!("{path} has {lines} lines now; take it off the list of longer files"))
        }
        Some((_, listed)) if lines > *listed => {
            Some(format!("{path} grew to {lines} lines; it may only shrink from {listed}"))
        }
        None if lines > MAX_LINES => Some(format!(
            "{path} has {lines} lines (at most {MAX_LINES}); look for the second thing that it does"
        )),
        _ => None,
    }
}

/// Places that only one machine knows, and package registries' hosts: the machine's settings say
/// which one is used.
pub(crate) fn places(path: &str, text: &str) -> Vec<String> {
    // In pieces, so that this file passes its own check.
    const PLACES: [&str; 7] = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
        concat!("registry.npm", "js.org"),
        concat!("pypi", ".org/simple"),
        concat!("files.python", "hosted.org"),
        concat!("index.crates", ".io"),
    ];
    let lines = text.lines().enumerate();
    let found = lines.filter_map(|(at, line)| {
        let place = PLACES.iter().find(|place| line.contains(**place))?;
        Some(format!("{path}:{}: `{place}` is of one machine, not of the project", at + 1))
    });
    found.collect()
}

/// Links of a Markdown file to files of the repository that are not there.
pub(crate) fn links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let files = files.map(|target| target.split('#').next().unwrap_or(target));
    files
        .filter(|file| !exists(format!("{folder}/{file}").trim_start_matches('/')))
        .map(|file| format!("{path} links to {file}, and there is no such file"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_says_nothing_is_refused_and_one_that_does_is_not() {
        for bad in ["crates/web/src/utils.rs", "crates/common/src/lib.rs", "crates/session-manager/x.rs"] {
            assert!(name(bad).is_some(), "{bad}");
        }
        for good in ["crates/web/src/router.rs", "crates/web/src/communal.rs", "README.md"] {
            assert!(name(good).is_none(), "{good}");
        }
    }

    #[test]
    fn a_long_file_is_refused_and_a_listed_one_may_only_shrink() {
        let listed = [("listed.rs", 600)];
        for (path, lines, says) in [
            ("new.rs", 501, "at most 500"),
            ("listed.rs", 601, "may only shrink"),
            ("listed.rs", 500, "take it off"),
        ] {
            let untidy = size_of(path, lines, &listed).expect(says);
            assert!(untidy.contains(says), "{untidy}");
        }
        for (path, lines) in [("new.rs", 500), ("listed.rs", 600), ("listed.rs", 501), ("Cargo.lock", 4000)] {
            assert!(size_of(path, lines, &listed).is_none(), "{path} {lines}");
        }
    }

    #[test]
    fn a_place_of_one_machine_is_named_with_its_line() {
        let text = format!("fine\nsee {}ada/x\n", concat!("/Us", "ers/"));
        assert!(places("a.md", &text)[0].starts_with("a.md:2:"));
        assert!(places("a.md", "/usr/local/bin/trustrelay and https://crates.io/crates/axum").is_empty());
    }

    #[test]
    fn a_link_to_a_file_that_is_not_there_is_named() {
        let text = "[a](ARCHITECTURE.md) ![b](images/x.png) [c](https://example.org/no.md) [d](#here) [e](y.md#part)";
        let there = |file: &str| file == "docs/ARCHITECTURE.md" || file == "docs/y.md";
        assert_eq!(
            links("docs/a.md", text, there),
            ["docs/a.md links to images/x.png, and there is no such file"]
        );
        assert!(links("docs/a.rs", text, there).is_empty());
    }
}
