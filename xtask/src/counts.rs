//! `cargo xtask counts`: the instructions that a request takes, beside the recorded numbers.

use std::path::Path;

use anyhow::Result;

use crate::run::cargo;

/// Counts, in the profile that is shipped.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let run = ["run", "--locked", "--profile", "dist", "--quiet", "--package", "trustrelay-counts", "--"];
    cargo(root, &[&run[..], arguments].concat())
}
