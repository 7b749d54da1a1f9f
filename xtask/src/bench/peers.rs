//! Installs the programs that the bench is compared to from the registries, as pinned in
//! `bench/peers/`, below `target/bench/peers/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tools::{npm_packages, python_packages};

/// Installs what can be installed. The bench goes on without the rest.
pub(super) fn install(root: &Path) -> Result<()> {
    try_one(root, "better-auth", better_auth)?;
    try_one(root, "contextforge", python_packages)
}

/// Installs one of them. What keeps it from that is said, and is no reason to stop.
fn try_one(root: &Path, name: &str, packages: impl Fn(&Path, &Path) -> Result<()>) -> Result<()> {
    let (from, to) = (root.join("bench/peers").join(name), root.join("target/bench/peers").join(name));
    fs::create_dir_all(&to).with_context(|| format!("{} cannot be made", to.display()))?;
    if let Err(error) = packages(&from, &to) {
        println!("{name} does not install, and is left out: {error:#}");
    }
    Ok(())
}

fn better_auth(from: &Path, to: &Path) -> Result<()> {
    npm_packages(from, to)?;
    // Beside its packages, where Node looks for them.
    fs::copy(from.join("server.mjs"), to.join("server.mjs")).context("server.mjs cannot be copied")?;
    Ok(())
}
