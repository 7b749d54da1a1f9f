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

/// The packages that still have comments that begin with a pronoun, and how many. The numbers only
/// ever go down; a package without them leaves the list.
const KNOWN: [(&str, usize); 6] = [
    ("bench", 108),
    ("crates/authority", 410),
    ("crates/trustrelay", 140),
    ("crates/web", 179),
    ("e2e", 85),
    ("fence-model", 30),
];

/// Reports comments that are too wide, and those that begin with a pronoun in packages that have
/// more of them than they are known to have.
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
        untidy.extend(found.wide);
        let known = KNOWN.iter().find(|(name, _)| *name == package).map_or(0, |(_, hidden)| *hidden);
        if found.hidden.len() < known {
            untidy.push(format!(
                "{package} has {} comments that begin with a pronoun, fewer than the {known} it is known \
                 to have: lower the number in xtask/src/tidy/comments.rs",
                found.hidden.len()
            ));
        } else if found.hidden.len() > known {
            untidy.extend(found.hidden);
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
