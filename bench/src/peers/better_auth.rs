//! Better Auth with its API-key plugin, in one process of Node:
//! `bench/peers/better-auth/server.mjs`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::mcp::full;
use crate::program::Program;

/// Where keys are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Storage {
    /// In SQLite, as is the plugin's default.
    Database,
    /// In a secondary storage in the server's own memory.
    Memory,
}

pub(super) const STORAGES: [Storage; 2] = [Storage::Database, Storage::Memory];

impl Storage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Database => "Better Auth",
            Self::Memory => "Better Auth, in memory",
        }
    }

    pub(super) fn settings(self) -> Vec<String> {
        let keys = match self {
            Self::Database => "keys in SQLite (`better-sqlite3`, WAL, `synchronous=NORMAL`)",
            Self::Memory => "keys in a secondary storage in its own memory",
        };
        [
            keys,
            "`deferUpdates`",
            "no rate limits, no telemetry, log level error",
            "`NODE_ENV=production`, one process",
        ]
        .map(ToOwned::to_owned)
        .into()
    }
}

/// A running server, and a key that it knows.
pub(super) struct BetterAuth {
    pub(super) program: Program,
    pub(super) storage: Storage,
    pub(super) version: String,
    key: String,
    /// Its data, which goes with it.
    _folder: TempDir,
}

impl BetterAuth {
    pub(super) async fn start(peers: &Path, storage: Storage) -> Result<Self> {
        let installed = peers.join("better-auth");
        let node = installed.join("node_modules/node/bin/node");
        ensure!(node.exists(), "it is not installed");
        let folder = TempDir::new()?;
        let how = match storage {
            Storage::Database => "database",
            Storage::Memory => "memory",
        };
        let mut command = Command::new(std::path::absolute(&node)?);
        command.arg(std::path::absolute(installed.join("server.mjs"))?).arg(folder.path()).arg(how);
        command.env_clear().env("NODE_ENV", "production").current_dir(folder.path());
        let program = Program::start("Better Auth", &mut command).await?;
        let key = std::fs::read_to_string(folder.path().join("key")).context("it made no key")?;
        let version = format!(
            "{} (`@better-auth/api-key` {}, Node {})",
            version(&installed, "better-auth")?,
            version(&installed, "@better-auth/api-key")?,
            version(&installed, "node")?
        );
        Ok(Self { program, storage, version, key, _folder: folder })
    }

    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>> {
        Ok(Request::get("/").header("x-api-key", &self.key).body(full(""))?)
    }
}

/// The version of an installed package.
fn version(installed: &Path, package: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Package {
        version: String,
    }
    let path = installed.join("node_modules").join(package).join("package.json");
    let text = std::fs::read(&path).with_context(|| format!("{package} has no package.json"))?;
    Ok(serde_json::from_slice::<Package>(&text)?.version)
}
