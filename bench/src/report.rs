//! What a part of the bench came to: said on the terminal, written as JSON, and drawn.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aim::{self, Aim};
use crate::machine::Machine;
use crate::table::Table;

/// The figures of one part.
pub(crate) trait Report: Serialize + DeserializeOwned {
    /// The part: the name of its file, and of its place in the documents.
    const PART: &'static str;

    fn machine(&self) -> &Machine;
    /// What is said of them, in words and tables.
    fn sections(&self) -> Vec<Section>;
    /// What was aimed at.
    fn aims(&self) -> &[Aim];
    fn pictures(&self) -> Result<Vec<Picture>>;
}

/// A piece of a report.
#[derive(Debug, Clone)]
pub(crate) enum Section {
    Words(String),
    Table(Table),
}

/// A drawing for the documents.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Its file's name, without the ending.
    pub(crate) name: &'static str,
    /// What it shows, for those who cannot see it.
    pub(crate) shows: String,
    pub(crate) svg: String,
}

/// Says the report, writes its JSON, and says where.
pub(crate) fn finish(report: &impl Report, out: &Path) -> Result<()> {
    say("");
    for section in all_sections(report) {
        match section {
            Section::Words(words) => say(&words),
            Section::Table(table) => say(&format!("\n{}", table.text())),
        }
    }
    let folder = out.parent().context("--out names no file")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    std::fs::write(out, serde_json::to_vec_pretty(report)?)
        .with_context(|| format!("{} cannot be written", out.display()))?;
    say(&format!("The figures are in {}.", out.display()));
    Ok(())
}

/// The same for a document; pictures are in the folder `images` beside it.
pub(crate) fn markdown(report: &impl Report, pictures: &[Picture]) -> String {
    let sections = all_sections(report).into_iter().map(|section| match section {
        Section::Words(words) => words + "\n",
        Section::Table(table) => table.markdown(),
    });
    let pictures =
        pictures.iter().map(|picture| format!("![{}](images/{}.svg)\n", picture.shows, picture.name));
    sections.chain(pictures).collect::<Vec<_>>().join("\n")
}

fn all_sections(report: &impl Report) -> Vec<Section> {
    let mut sections = vec![Section::Words(report.machine().shown())];
    sections.extend(report.sections());
    if !report.aims().is_empty() {
        sections.push(Section::Table(aim::table(report.aims())));
    }
    sections
}

#[allow(clippy::print_stdout, reason = "what is said is what the command is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
