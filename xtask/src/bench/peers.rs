//! What the bench is compared to, installed from the registries as pinned in `bench/peers/`, below `target/bench/peers/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tools::{npm_packages, python_packages};

/// Installs what can be installed. The bench goes on without the rest, and this says why.
pub(super) fn install(root: &Path) -> Result<()> {
    let (from, to) = (root.join("bench/peers"), root.join("target/bench/peers"));
    let both: [(&str, fn(&Path, &Path) -> Result<()>); 2] =
        [("better-auth", better_auth), ("contextforge", python_packages)];
    for (name, packages) in both {
        let to = to.join(name);
        fs::create_dir_all(&to).with_context(|| format!("{} cannot be made", to.display()))?;
        if let Err(error) = packages(&from.join(name), &to) {
            println!("{name} does not install, and is left out: {error:#}");
        }
    }
    Ok(())
}

fn better_auth(from: &Path, to: &Path) -> Result<()> {
    npm_packages(from, to)?;
    // Beside its packages, where Node looks for them.
    fs::copy(from.join("server.mjs"), to.join("server.mjs")).context("server.mjs cannot be copied")?;
    Ok(())
}
