//! HAProxy, as `deploy/haproxy.cfg` sets it up.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use trustrelay_e2e::process::{Process, free_port};
use trustrelay_e2e::{tools, until};
use url::Url;

/// Whether a session's requests go to the node that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// As it is shipped.
    BySession,
    /// Each request goes to the next node.
    None,
}

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    /// Its address.
    pub base: Url,
    _process: Process,
}

impl Balancer {
    /// Starts it in front of these three, and waits until it has found all of them ready.
    pub async fn start(nodes: &[Url], affinity: Affinity) -> Result<Self> {
        let [a, b, c] = nodes else { bail!("the configuration is for three nodes") };
        let port = free_port()?;
        let mut command = Command::new(tools::haproxy()?);
        command.args(["-db", "-f"]).arg(tools::root().join("deploy/haproxy.cfg")).stderr(Stdio::null());
        command.env_remove("TRUSTRELAY_CERT").env("TRUSTRELAY_BIND", format!("127.0.0.1:{port}"));
        for (name, node) in [("A", a), ("B", b), ("C", c)] {
            let address = node.socket_addrs(|| None)?.pop().context("no address")?;
            command.env(format!("TRUSTRELAY_{name}"), address.to_string());
        }
        if affinity == Affinity::None {
            command.env("TRUSTRELAY_WITHOUT_AFFINITY", "1");
        }
        let mut process = Process::start("haproxy", &mut command)?;
        process.drain();
        let base = Url::parse(&format!("http://127.0.0.1:{port}"))?;
        let (ready, client) = (base.join("/readyz")?, reqwest::Client::new());
        until("the balancer to answer", || async {
            client.get(ready.clone()).send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await?;
        ensure!(!process.has_ended(), "haproxy ended; was port {port} taken?");
        Ok(Self { base, _process: process })
    }
}
