//! `report`: from the figures of the last runs to the tables and pictures of a document. Nobody
//! copies a figure by hand.

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
    /// Into this folder it is written, with its pictures in `images`: `docs` to replace the
    /// document itself.
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
    fn figures_become_a_table_and_a_picture_in_a_copy_of_the_document() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (document, into) = (folder.path().join("REPORT.md"), folder.path().join("out"));
        fs::write(&document, DOCUMENT).expect("written");
        let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
        run(&Options { figures, document: document.clone(), into: into.clone() }).expect("a report");

        let report = read(&into.join("REPORT.md")).expect("the report");
        for line in [
            "A run of commit 1bd95a0 on 2026-11-24, 2 cores (Fast One), 24 GiB of memory.",
            "| 32 | guard | 38000 (36100–39900) | 800 (780–850) | 1500 (1400–1900) | 21.5 (21.0–22.0) | 0.95 (0.93–0.97) | 1.10 (1.00–1.30) | 1.00 (1.00–1.00) |",
            "| guard, 32 connections: throughput to bare's | at least 0.92 | 0.95 (0.93–0.97) | met |",
            "| guard, 32 connections: p99 to bare's | at most 1.25 | 1.30 (1.00–1.30) | missed |",
            "![Requests per second at a bare server, behind the guard and at /api/user](images/bench-http.svg)",
        ] {
            assert!(report.lines().any(|found| found == line), "no line {line} in {report}");
        }
        assert!(!report.contains("old") && report.contains("\nb\n"), "{report}");
        let picture = read(&into.join("images/bench-http.svg")).expect("the picture");
        assert!(picture.contains("38000, 0.95 of bare"), "{picture}");
        assert_eq!(read(&document).expect("the document"), DOCUMENT);
    }

    #[test]
    fn figures_of_another_version_are_refused_with_what_to_do() {
        let folder = tempfile::TempDir::new().expect("a folder");
        fs::write(folder.path().join("http.json"), r#"{"cores": 2}"#).expect("written");
        let refused = block::<edge::Report>(folder.path()).map(|_| ()).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|error| error.contains("run `cargo xtask bench http` again")));
    }

    #[test]
    fn the_document_of_the_repository_has_a_place_for_each_part() {
        let document = include_str!("../../docs/PERFORMANCE.md");
        for part in ["core", "http", "peers", "relay", "fence", "writes", "flame"] {
            assert!(fill(document, part, "").is_ok(), "{part}");
        }
    }
}
