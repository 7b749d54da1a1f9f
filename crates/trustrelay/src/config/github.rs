//! The keys of GitHub's secret scanning.

use std::path::Path;

use anyhow::Context;
use trustrelay_web::GithubKeys;

/// Reads the file, as `GET https://api.github.com/meta/public_keys/secret_scanning` answers it.
pub(super) fn github_keys(file: &Path) -> anyhow::Result<GithubKeys> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the file of --github-keys, {}, cannot be read", file.display()))?;
    GithubKeys::parse(&text).with_context(|| format!("the file of --github-keys, {}", file.display()))
}
