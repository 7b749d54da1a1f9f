//! The unit and the container's file as they are shipped, with a data directory and with a
//! database.

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;
use trustrelay_e2e::process::{Process, output};
use trustrelay_e2e::tools::root;
use trustrelay_e2e_conformance::programs::built;
use trustrelay_e2e_nodes::cluster::Cluster;

/// The value behind `key` in a file below `deploy/`.
fn said(file: &str, key: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join("deploy").join(file))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    Ok(value.with_context(|| format!("{file} says nothing of {key}"))?.to_owned())
}

/// Starts the server with these arguments and variables; whether it listens.
async fn starts(arguments: &[String], variables: &[(&str, &str)], dir: &TempDir) -> Result<()> {
    let mut serve = Command::new(built("trustrelay")?);
    serve.args(arguments).current_dir(dir.path()).env_clear().envs(variables.iter().copied());
    let mut process = Process::start("trustrelay serve", &mut serve)?;
    while !process.line().await?.starts_with("listening on ") {}
    Ok(())
}

/// The variables of a node.
async fn node() -> Result<(String, String)> {
    let url =
        tokio::task::spawn_blocking(|| Cluster::shared().network_url(&Cluster::shared().database())).await?;
    let secret = output("secret", Command::new(built("trustrelay")?).args(["secret", "generate"])).await?;
    Ok((url, secret.trim().to_owned()))
}

#[tokio::test]
async fn the_unit_starts_with_a_data_directory_and_with_a_database() -> Result<()> {
    let (dir, (url, secret)) = (TempDir::new()?, node().await?);
    let config = dir.path().join("trustrelay.toml");
    let config_text = config.display().to_string();
    let line = said("trustrelay.service", "ExecStart=/usr/local/bin/trustrelay ")?;
    let line = line.replace("/etc/trustrelay/trustrelay.toml", &config_text);
    let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
    assert!(arguments.contains(&config_text), "{arguments:?}");
    std::fs::write(
        &config,
        format!("listen = \"127.0.0.1:0\"\ndata-dir = \"{}/data\"\n", dir.path().display()),
    )?;
    starts(&arguments, &[], &dir).await?;
    assert!(dir.path().join("data").is_dir());
    std::fs::write(&config, "listen = \"127.0.0.1:0\"\n")?;
    let variables = [("TRUSTRELAY_DATABASE_URL", &*url), ("TRUSTRELAY_SECRET_KEY", &secret)];
    starts(&arguments, &variables, &dir).await
}

#[tokio::test]
async fn the_container_starts_with_its_volume_and_with_a_database() -> Result<()> {
    let (dir, (url, secret)) = (TempDir::new()?, node().await?);
    let command: Vec<String> = serde_json::from_str(&said("Containerfile", "CMD ")?)?;
    let environment = said("Containerfile", "ENV ")?;
    // All addresses in the container; here, the loopback's.
    let environment = environment.replace("0.0.0.0:8080", "127.0.0.1:0");
    let mut variables: Vec<_> = environment.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    starts(&command, &variables, &dir).await?;
    assert!(dir.path().join("trustrelay-data").is_dir());
    variables.extend([("TRUSTRELAY_DATABASE_URL", &*url), ("TRUSTRELAY_SECRET_KEY", &secret)]);
    starts(&command, &variables, &dir).await
}
