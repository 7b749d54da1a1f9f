//! `report`: from the figures of the last runs to the tables and pictures of a document. Nobody copies a figure by hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::report::{Picture, Report, markdown, say};
use crate::{edge, fence, flame, in_process, peers, relay, writes};

#[derive(Args)]
pub(crate) struct Options {
    /// Where the parts wrote their figures.
    #[arg(long, default_value = "target/bench")]
    figures: PathBuf,
    /// The document whose places are filled.
    #[arg(long, default_value = "docs/PERFORMANCE.md")]
    document: PathBuf,
    /// Into this folder it is written, with its pictures in `images`: `docs` to replace the document itself.
    #[arg(long, default_value = "target/bench")]
    into: PathBuf,
}

/// What a part came to, for the document.
struct Block {
    part: &'static str,
    text: String,
    pictures: Vec<Picture>,
}

/// Fills the document with what there are figures of; the rest of it stays as it is.
pub(crate) fn run(options: &Options) -> Result<()> {
    let name = options.document.file_name().context("--document names no file")?;
    let mut text = read(&options.document)?;
    let images = options.into.join("images");
    fs::create_dir_all(&images).with_context(|| format!("{} cannot be made", images.display()))?;
    for block in blocks(&options.figures)? {
        text = fill(&text, block.part, &block.text)?;
        for picture in block.pictures {
            write(&images.join(format!("{}.svg", picture.name)), &picture.svg)?;
        }
    }
    let out = options.into.join(name);
    write(&out, &text)?;
    say(&format!("The report is {}.", out.display()));
    Ok(())
}

fn blocks(figures: &Path) -> Result<Vec<Block>> {
    let blocks = [
        block::<in_process::Report>(figures)?,
        block::<edge::Report>(figures)?,
        block::<peers::Report>(figures)?,
        block::<relay::Report>(figures)?,
        block::<fence::Report>(figures)?,
        block::<writes::Report>(figures)?,
        block::<flame::Report>(figures)?,
    ];
    Ok(blocks.into_iter().flatten().collect())
}

/// What one part came to, if it has been run.
fn block<R: Report>(figures: &Path) -> Result<Option<Block>> {
    let path = figures.join(format!("{}.json", R::PART));
    if !path.exists() {
        say(&format!("There are no figures of `{}`: its place stays as it is.", R::PART));
        return Ok(None);
    }
    let report: R = serde_json::from_str(&read(&path)?).with_context(|| {
        let part = R::PART;
        format!("{} is not of this version; run `cargo xtask bench {part}` again", path.display())
    })?;
    let pictures = report.pictures()?;
    Ok(Some(Block { part: R::PART, text: markdown(&report, &pictures), pictures }))
}

/// Puts the text between the marks of its place, of which there has to be one.
fn fill(document: &str, place: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- figures: {place} -->\n"), "<!-- end of figures -->");
    ensure!(
        document.matches(&begin).count() == 1,
        "the document has to have one line `{}`, and has {}",
        begin.trim_end(),
        document.matches(&begin).count()
    );
    let (before, rest) = document.split_once(&begin).context("no place")?;
    let (_, after) =
        rest.split_once(end).with_context(|| format!("`{}` has no `{end}`", begin.trim_end()))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "a\n<!-- figures: http -->\nold\n<!-- end of figures -->\nb\n<!-- figures: core -->\n<!-- end of figures -->\n";

    #[test]
    fn a_place_is_filled_again_and_again_and_nothing_else_changes() {
        let once = fill(DOCUMENT, "http", "new\n").expect("a place");
        assert_eq!(
            once,
            "a\n<!-- figures: http -->\n\nnew\n\n<!-- end of figures -->\nb\n<!-- figures: core -->\n<!-- end of figures -->\n"
        );
        assert_eq!(fill(&once, "http", "new\n").expect("a place"), once);
    }

    #[test]
    fn a_document_without_the_place_or_with_two_of_them_is_refused() {
        let refused = |document: &str, place| fill(document, place, "new").map_err(|error| error.to_string());
        assert!(
            refused(DOCUMENT, "relay")
                .is_err_and(|error| error.contains("figures: relay --> ` ") || error.contains("and has 0"))
        );
        assert!(refused(&DOCUMENT.repeat(2), "http").is_err_and(|error| error.contains("and has 2")));
        assert!(refused("<!-- figures: http -->\n", "http").is_err_and(|error| error.contains("has no")));
    }

    #[test]
    fn the_document_of_the_repository_has_a_place_for_each_part() {
        let document = include_str!("../../docs/PERFORMANCE.md");
        for part in ["core", "http", "peers", "relay", "fence", "writes", "flame"] {
            assert!(fill(document, part, "").is_ok(), "{part}");
        }
    }
}
