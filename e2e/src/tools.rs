//! Where the tools are that `cargo xtask tools` installs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The repository's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The folder with the npm packages.
pub fn node_modules() -> Result<PathBuf> {
    present(root().join("target/e2e/node_modules"), "the npm packages")
}

/// The Node that came with them: the Inspector asks for a newer one than many systems have.
pub fn node() -> Result<PathBuf> {
    present(node_modules()?.join("node/bin/node"), "Node")
}

/// The Python with the official SDK.
pub fn python() -> Result<PathBuf> {
    present(root().join("target/e2e/venv/bin/python"), "the Python packages")
}

/// Schemathesis, which came with the Python packages.
pub fn schemathesis() -> Result<PathBuf> {
    present(root().join("target/e2e/venv/bin/schemathesis"), "Schemathesis")
}

/// The script of axe-core, which came with the npm packages.
pub fn axe() -> Result<PathBuf> {
    present(node_modules()?.join("axe-core/axe.min.js"), "axe-core")
}

/// ChromeDriver; it finds Chromium itself.
pub fn chromedriver() -> Result<PathBuf> {
    on_path("chromedriver", "ChromeDriver")
}

/// HAProxy. Debian has it where only root's path leads.
pub fn haproxy() -> Result<PathBuf> {
    on_path("haproxy", "HAProxy").or_else(|_| present("/usr/sbin/haproxy".into(), "HAProxy"))
}

/// Chromium.
pub fn chromium() -> Result<PathBuf> {
    on_path("chromium", "Chromium")
}

fn on_path(program: &str, what: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    present(file.unwrap_or_default(), what)
}

fn present(path: PathBuf, what: &str) -> Result<PathBuf> {
    if !path.exists() {
        bail!(
            "{what} cannot be found: run `cargo xtask tools` (or `cargo xtask test`), which installs what is missing"
        );
    }
    Ok(path)
}
