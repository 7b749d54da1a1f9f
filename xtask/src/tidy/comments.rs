//! The language of comments, as far as it can be counted: how they begin, and how wide they are.
//!
//! A comment that begins with a pronoun hides its subject, and makes the reader look for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Beginnings that hide the subject.
const PRONOUNS: [&str; 12] = [
    "What", "Who", "Whose", "Whether", "Whatever", "Whoever", "Where", "Of", "Nobody", "None", "One", "That",
];
/// Columns of a line that holds nothing but a comment.
const MAX_WIDTH: usize = 100;

/// The comments of a package from before this was measured.
struct Known {
    package: &'static str,
    /// Comment lines that begin with a pronoun.
    hidden: usize,
    /// Comment lines that are too wide.
    wide: usize,
}

/// The packages that still have such comments. The numbers only ever go down; a package without
/// them leaves the list.
const KNOWN: [Known; 7] = [
    Known { package: "bench", hidden: 108, wide: 71 },
    Known { package: "crates/authority", hidden: 408, wide: 452 },
    Known { package: "crates/token", hidden: 43, wide: 25 },
    Known { package: "crates/trustrelay", hidden: 140, wide: 164 },
    Known { package: "crates/web", hidden: 178, wide: 143 },
    Known { package: "e2e", hidden: 85, wide: 81 },
    Known { package: "fence-model", hidden: 31, wide: 31 },
];

/// Reports comments that are too wide or begin with a pronoun, in packages that have more of them
/// than they are known to have.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut packages: BTreeMap<String, Found> = BTreeMap::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
        let found = packages.entry(package(&name).to_owned()).or_default();
        for (number, line) in (1..).zip(text.lines()) {
            let Some(comment) = comment(line) else { continue };
            if begins_with_pronoun(comment) {
                found.hidden.push(format!("{name}:{number}: begins with a pronoun: `{comment}`"));
            }
            let width = line.chars().count();
            if width > MAX_WIDTH {
                found.wide.push(format!("{name}:{number}: {width} columns; wrap comments at {MAX_WIDTH}"));
            }
        }
    }
    let mut untidy = Vec::new();
    for (package, found) in packages {
        let known = KNOWN.iter().find(|known| known.package == package);
        let (hidden, wide) = known.map_or((0, 0), |known| (known.hidden, known.wide));
        for (found, known) in [(found.hidden, hidden), (found.wide, wide)] {
            if found.len() > known {
                untidy.extend(found);
            } else if found.len() < known {
                untidy.push(format!(
                    "{package} has {} such comments, fewer than the {known} it is known to have: lower \
                     the number in xtask/src/tidy/comments.rs",
                    found.len()
                ));
            }
        }
    }
    Ok(untidy)
}

#[derive(Default)]
struct Found {
    hidden: Vec<String>,
    wide: Vec<String>,
}

/// Returns the package that a file belongs to: a folder, or one below `crates/`.
fn package(name: &str) -> &str {
    let below = name.strip_prefix("crates/").map_or(0, |_| "crates/".len());
    let end = name[below..].find('/').map_or(name.len(), |at| below + at);
    &name[..end]
}

/// Returns the text of a line that holds nothing but a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim())
}

fn begins_with_pronoun(comment: &str) -> bool {
    let word = comment.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    PRONOUNS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_of_a_comment_counts() {
        for hidden in ["/// What it is.", "    // Whose turn", "//! One thing", "// That, too"] {
            assert!(comment(hidden).is_some_and(begins_with_pronoun), "{hidden}");
        }
        for plain in ["/// The answer, whatever it is.", "// Onerous work", "//", "/// Offsets"] {
            assert!(comment(plain).is_some_and(|text| !begins_with_pronoun(text)), "{plain}");
        }
        assert!(comment("let what = 1; // What it is.").is_none());
    }
}
