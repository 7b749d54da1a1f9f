//! Nodes that share a database and a secret.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use trustrelay_e2e::process::{Process, free_port, output};
use trustrelay_e2e::server::{EMAIL, PASSWORD};
use trustrelay_e2e::until;
use trustrelay_e2e_conformance::programs::built;
use url::Url;

use crate::cluster::Cluster;

/// How the nodes of a fleet are set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The upstreams behind each: name, and address or command.
    pub upstreams: Vec<(&'static str, String)>,
    /// Whether they know how to reach each other.
    pub with_node_urls: bool,
    /// How long each goes on when it is told to stop.
    pub drain: &'static str,
}

impl Setup {
    /// Nodes that reach each other, with these upstreams behind them.
    pub fn with(upstreams: &[(&'static str, String)]) -> Self {
        Self { upstreams: upstreams.to_vec(), with_node_urls: true, drain: "0s" }
    }
}

/// What all nodes share, and what they have written.
struct Shared {
    dir: TempDir,
    database: String,
    secret: String,
    setup: Setup,
}

/// A running node.
pub struct Node {
    /// Its address.
    pub base: Url,
    process: Process,
    shared: Arc<Shared>,
}

/// Three of them.
pub struct Fleet {
    /// In the order of the balancer's configuration.
    pub nodes: Vec<Node>,
    shared: Arc<Shared>,
}

impl Shared {
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(built("trustrelay")?);
        command.current_dir(self.dir.path());
        command.env("TRUSTRELAY_DATABASE_URL", &self.database).env("TRUSTRELAY_SECRET_KEY", &self.secret);
        Ok(command)
    }
}

impl Fleet {
    /// Starts them on a database of their own, with the account [`EMAIL`].
    pub async fn start(setup: Setup) -> Result<Self> {
        let database = tokio::task::spawn_blocking(|| {
            let cluster = Cluster::shared();
            cluster.network_url(&cluster.database())
        });
        let secret =
            output("trustrelay", Command::new(built("trustrelay")?).args(["secret", "generate"])).await?;
        let shared = Shared {
            dir: TempDir::new()?,
            database: database.await?,
            secret: secret.trim().to_owned(),
            setup,
        };
        let mut add = shared.command()?;
        let mut add =
            Process::start("user add", add.args(["user", "add", EMAIL, "--admin", "--password-stdin"]))?;
        add.input()?.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        add.end_input();
        add.line().await.context("the account is not made")?;
        let shared = Arc::new(shared);
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(Node::start(&shared, free_port()?).await?);
        }
        Ok(Self { nodes, shared })
    }

    /// Their addresses.
    pub fn bases(&self) -> Vec<Url> {
        self.nodes.iter().map(|node| node.base.clone()).collect()
    }

    /// Makes a token by command; answers its id and the token.
    pub async fn token(&self, scope: &str) -> Result<(String, String)> {
        let run =
            async |arguments: &[&str]| output("trustrelay", self.shared.command()?.args(arguments)).await;
        let token = run(&["token", "create", "--user", EMAIL, "--name", "agent", "--scope", scope])
            .await?
            .trim()
            .to_owned();
        let list: serde_json::Value =
            serde_json::from_str(&run(&["token", "list", "--user", EMAIL, "--json"]).await?)?;
        let id = list[0]["pat_id"].as_str().context("no token")?.to_owned();
        Ok((id, token))
    }
}

impl Node {
    async fn start(shared: &Arc<Shared>, port: u16) -> Result<Self> {
        let mut serve = shared.command()?;
        let (address, log) = (format!("127.0.0.1:{port}"), shared.dir.path().join(format!("log-{port}")));
        let log_of_this = std::fs::File::options().create(true).append(true).open(&log)?;
        serve.args(["serve", "--listen", &address, "--drain", shared.setup.drain]).stderr(log_of_this);
        if shared.setup.with_node_urls {
            serve.args(["--node-url", &format!("http://{address}")]);
        }
        for (name, at) in &shared.setup.upstreams {
            serve.args(["--upstream", &format!("{name}={at}")]);
        }
        let mut process = Process::start("trustrelay serve", &mut serve)?;
        let base = loop {
            let line = process.line().await;
            let line = line.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
            if let Some(base) = line.strip_prefix("listening on ") {
                break Url::parse(base)?;
            }
        };
        process.drain();
        Ok(Self { base, process, shared: Arc::clone(shared) })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.process.pid().context("no process")?, signal)?)
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> Result<()> {
        let process = &mut self.process;
        until("the node's end", || {
            let ended = process.has_ended();
            async move { ended.then_some(()) }
        })
        .await
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) -> Result<()> {
        let port = self.base.port().context("no port")?;
        *self = Self::start(&Arc::clone(&self.shared), port).await?;
        Ok(())
    }
}
