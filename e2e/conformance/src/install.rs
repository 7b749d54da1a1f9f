//! The suite's npm package, and a Node that is new enough for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use trustrelay_e2e::tools::root;

/// Where the suite is.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The Node that runs it.
    pub node: PathBuf,
    /// The program.
    pub script: PathBuf,
    /// The folder of what each revision requires.
    pub requirements: PathBuf,
}

/// Installs the suite unless it is there; answers where it is. Tests of several processes may ask
/// at once.
pub fn install() -> Result<Installed> {
    let from = root().join("e2e/conformance");
    let to = root().join("target/e2e/conformance");
    fs::create_dir_all(&to).with_context(|| format!("{} cannot be made", to.display()))?;
    let lock = File::create(to.join("lock")).context("the lock of the installation cannot be made")?;
    lock.lock().context("the installation cannot be locked")?;
    let wanted = fs::read_to_string(from.join("package-lock.json"))?;
    let stamp = to.join("stamp");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(wanted.as_str()) {
        packages(&from, &to)?;
        // Written last, so that an installation that was broken off is made again.
        fs::write(&stamp, wanted)?;
    }
    let package = to.join("node_modules/@modelcontextprotocol/conformance");
    Ok(Installed {
        node: to.join("node_modules/node/bin/node"),
        script: package.join("dist/index.js"),
        requirements: package.join("requirements"),
    })
}

fn packages(from: &Path, to: &Path) -> Result<()> {
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("{file} cannot be copied"))?;
    }
    let installed = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(to)
        .stdin(Stdio::null())
        .output()
        .context("npm does not start; install it (`sudo apt-get install npm`)")?;
    if !installed.status.success() {
        bail!("npm installs no conformance suite:\n{}", String::from_utf8_lossy(&installed.stderr));
    }
    Ok(())
}
