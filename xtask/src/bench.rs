//! `cargo xtask bench`: what is shipped, measured. Built with the profile that is shipped.

use std::path::Path;

use anyhow::Result;

use crate::run::cargo;

/// Builds the program and the bench, and runs one part of it.
pub(crate) fn run(root: &Path, part: &str, options: &[&str]) -> Result<()> {
    let built = ["--locked", "--profile", "dist"];
    cargo(
        root,
        &[&["build"], &built[..], &["--package", "trustrelay", "--package", "trustrelay-bench"]].concat(),
    )?;
    // The bench finds the program beside itself.
    let bench = ["--quiet", "--package", "trustrelay-bench", "--", part];
    cargo(root, &[&["run"], &built[..], &bench[..], options].concat())
}
