//! `cargo xtask tidy`: checks of the repository that the compiler does not make. They are few and
//! quick.

mod comments;
mod direction;
mod files;
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Says all that is untidy, not only the first.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut untidy = direction::check(root)?;
    let paths = all_files(root)?;
    untidy.extend(comments::check(root, &paths)?);
    untidy.extend(imports::check(root, &paths)?);
    for path in paths {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        untidy.extend(files::name(&name));
        // A picture has nothing but a name to be checked.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        untidy.extend(files::size(&name, &text));
        untidy.extend(files::places(&name, &text));
        untidy.extend(files::links(&name, &text, |link| root.join(link).exists()));
    }
    if untidy.is_empty() {
        return Ok(());
    }
    bail!("{} untidy:\n  {}", untidy.len(), untidy.join("\n  "))
}

/// Lists the imports between files of the same circle, one a line.
pub(crate) fn circles(root: &Path) -> Result<()> {
    let arrows = imports::arrows(root, &all_files(root)?)?;
    arrows.iter().for_each(|arrow| println!("{arrow}"));
    Ok(())
}

/// All files of the repository, but what is built or brought by others.
fn all_files(root: &Path) -> Result<Vec<PathBuf>> {
    const PASSED_OVER: [&str; 5] = [".git", "target", "node_modules", "trustrelay-data", "corpus"];
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            } else if entry.file_type()?.is_dir()
                && !PASSED_OVER.iter().any(|name| entry.file_name() == *name)
            {
                folders.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
