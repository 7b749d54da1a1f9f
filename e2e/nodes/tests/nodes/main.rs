//! What clients see of three nodes behind a balancer: anything from any node, and what happens when
//! one of them goes.

// A test may fail.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod agents;
mod ends;
mod going;
mod policy;
mod sessions;
mod shipped;
mod talk;

use anyhow::Result;
use trustrelay_e2e_conformance::upstream::{Era, Upstream};
use trustrelay_e2e_nodes::balancer::{Affinity, Balancer};
use trustrelay_e2e_nodes::fleet::{Fleet, Setup};
use url::Url;

/// The upstreams' names: over HTTP and as a command, in either era.
const ALL: [&str; 4] = ["old", "old-pipe", "new", "new-pipe"];

/// A fleet in front of [`ALL`], and the balancer in front of it.
struct World {
    fleet: Fleet,
    balancer: Balancer,
    _upstreams: [Upstream; 2],
}

impl World {
    /// Nodes that reach each other, behind a balancer that sends each request to the next.
    async fn start() -> Result<Self> {
        Self::set_up(|_| {}, Affinity::None).await
    }

    async fn set_up(change: impl FnOnce(&mut Setup), affinity: Affinity) -> Result<Self> {
        let (old, new) = (Upstream::start(Era::Session).await?, Upstream::start(Era::Stateless).await?);
        let mut setup = Setup::with(&[
            ("old", old.url.to_string()),
            ("old-pipe", Upstream::command_line(Era::Session)?),
            ("new", new.url.to_string()),
            ("new-pipe", Upstream::command_line(Era::Stateless)?),
        ]);
        change(&mut setup);
        let fleet = Fleet::start(setup).await?;
        let balancer = Balancer::start(&fleet.bases(), affinity).await?;
        Ok(Self { fleet, balancer, _upstreams: [old, new] })
    }

    /// The nodes' addresses.
    fn nodes(&self) -> [Url; 3] {
        self.fleet.bases().try_into().expect("three")
    }
}

/// Each upstream's endpoints: with all others, and alone.
fn places() -> impl Iterator<Item = (&'static str, String)> {
    ALL.into_iter()
        .flat_map(|upstream| [(upstream, "/mcp".to_owned()), (upstream, format!("/mcp/{upstream}"))])
}
