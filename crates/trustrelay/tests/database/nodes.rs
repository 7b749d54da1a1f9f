//! Three nodes on a database with a synchronous standby; between each of them and each host is a
//! network that can fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use rustix::process::Signal;
use tokio::task::block_in_place;

use crate::cluster::{Cluster, PATIENCE, ROLE};
use crate::load::NODES;
use crate::network::{Network, Way};
use crate::support::{EMAIL, PASSWORD, Server};
use crate::{Shared, cluster};

pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// Who connects from this machine is let in: to check a password takes a test's build longer than
/// all the rest.
const ACCESS: &str = "local all all trust\nhost all all 127.0.0.1/32 trust\nlocal replication all trust\n";
/// A clock of the database's that can be set, in place of its own: whoever asks for the time
/// without saying whose gets this one.
const CLOCK: &str = "CREATE TABLE public.clock AS SELECT interval '0' AS ahead; GRANT SELECT ON public.clock TO PUBLIC; \
     CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
     'SELECT pg_catalog.clock_timestamp() + ahead FROM public.clock'; \
     ALTER DATABASE NAME SET search_path = public, pg_catalog";
/// How long nodes may take to be as good as before once a fault is over. What was lost on the way
/// is given up after 5 s, and nodes that come back do so at the same time on a busy machine.
pub(crate) const RECOVERY: Duration = Duration::from_secs(20);

/// A primary and its synchronous standby.
pub(crate) struct Database {
    primary: Cluster,
    standby: Option<Cluster>,
    name: String,
}

impl Database {
    pub(crate) async fn start() -> Self {
        let primary = block_in_place(|| {
            let primary = Cluster::start();
            primary.put("pg_hba.conf", ACCESS);
            primary.sql("SELECT pg_reload_conf()");
            primary
        });
        let name = primary.database();
        block_in_place(|| primary.sql_in(&name, &CLOCK.replace("NAME", &name)));
        let mut database = Self { primary, standby: None, name };
        database.add_standby().await;
        database
    }

    fn ports(&self) -> [u16; 2] {
        [self.primary.port, self.standby.as_ref().expect("it follows").port]
    }

    /// A standby that every commit waits for, in place of the one that there is.
    async fn add_standby(&mut self) {
        block_in_place(|| {
            self.standby = Some(Cluster::standby_of(&self.primary));
            self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
            self.primary.sql("SELECT pg_reload_conf()");
        });
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        until(PATIENCE, "the standby is synchronous", async || {
            block_in_place(|| self.primary.sql(sql)) == "1"
        })
        .await;
    }

    fn crash(&mut self) {
        block_in_place(|| self.primary.crash());
    }

    fn begin_again(&mut self) {
        block_in_place(|| self.primary.begin());
    }

    /// The standby takes over; the primary is gone for good.
    fn fail_over(&mut self) {
        block_in_place(|| {
            self.primary.crash();
            let mut standby = self.standby.take().expect("it follows");
            standby.promote();
            self.primary = standby;
        });
    }

    /// Sets its clock: so many seconds ahead of what it is, or behind.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.sql(&format!("UPDATE public.clock SET ahead = interval '{ahead} s'"));
    }

    /// Asks the primary.
    pub(crate) fn sql(&self, sql: &str) -> String {
        block_in_place(|| self.primary.sql_in(&self.name, sql))
    }
}

/// Waits until `done` says so; how long that took.
pub(crate) async fn until(patience: Duration, what: &str, done: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < patience, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// A node: its process, unless it was killed, and the ways from it to the database's hosts.
struct Node {
    server: Option<Server>,
    networks: [Network; 2],
}

/// All of it.
pub(crate) struct Nodes {
    shared: Arc<Shared>,
    pub(crate) database: Database,
    nodes: Vec<Node>,
    upstream: String,
    client: Client,
    /// Which of each node's networks leads to the primary.
    to_primary: usize,
}

impl Nodes {
    /// `upstream`: as `--upstream` has it.
    pub(crate) async fn start(upstream: &str) -> Self {
        let database = Database::start().await;
        let [primary, standby] = database.ports();
        let shared = block_in_place(|| {
            let (password, name) = (cluster::PASSWORD, &database.name);
            let hosts = format!("127.0.0.1:{primary},127.0.0.1:{standby}");
            let url = format!("postgres://{ROLE}:{password}@{hosts}/{name}");
            let shared = Arc::new(Shared { url, ..Shared::new() });
            shared.run(&["user", "add", EMAIL, "--password-stdin"]).stdin(PASSWORD).done().good();
            shared
        });
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let networks = [Network::to(primary).await, Network::to(standby).await];
            nodes.push(Node { server: None, networks });
        }
        let upstream = upstream.to_owned();
        let mut all = Self { shared, database, nodes, upstream, client: Client::new(), to_primary: 0 };
        for node in 0..NODES {
            all.begin(node);
        }
        all
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn base(&self, node: usize) -> String {
        self.nodes[node].server.as_ref().expect("it runs").base.clone()
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].server.as_ref().expect("it runs").signal(signal);
    }

    pub(crate) fn kill(&mut self, node: usize) {
        drop(self.nodes[node].server.take());
    }

    /// Starts a node; its database URL names both hosts, of which it has to find the primary.
    pub(crate) fn begin(&mut self, node: usize) {
        let [one, other] = &self.nodes[node].networks;
        let (password, name) = (cluster::PASSWORD, &self.database.name);
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", one.port, other.port);
        let url = format!("postgres://{ROLE}:{password}@{hosts}/{name}");
        let lease = format!("{}ms", LEASE.as_millis());
        let args = ["serve", "--listen", "127.0.0.1:0", "--lease", &lease, "--upstream", &self.upstream];
        let run = self.shared.run(&args).env("TRUSTRELAY_DATABASE_URL", &url);
        self.nodes[node].server = Some(block_in_place(|| Server::start(run)));
    }

    pub(crate) fn set_network(&self, node: usize, up: Way, down: Way) {
        self.nodes[node].networks.iter().for_each(|network| network.set(up, down));
    }

    pub(crate) fn refuse(&self, node: usize, refuses: bool) {
        self.nodes[node].networks.iter().for_each(|network| network.refuse(refuses));
    }

    pub(crate) fn cut(&self, node: usize) {
        self.nodes[node].networks.iter().for_each(Network::cut);
    }

    /// The database crashes and comes back after a while.
    pub(crate) async fn restart_database(&mut self, after: Duration) {
        self.database.crash();
        tokio::time::sleep(after).await;
        self.database.begin_again();
    }

    pub(crate) fn fail_over(&mut self) {
        self.database.fail_over();
        self.to_primary = 1 - self.to_primary;
    }

    /// Another standby, if there is none any more; nodes find it where the old primary was.
    pub(crate) async fn complete(&mut self) {
        if self.database.standby.is_some() {
            return;
        }
        self.database.add_standby().await;
        let [_, standby] = self.database.ports();
        for node in &self.nodes {
            node.networks[1 - self.to_primary].lead_to(standby);
        }
    }

    /// Waits until a node holds a lease and verifies from its index again; how long that took.
    pub(crate) async fn recovered(&self, node: usize) -> Duration {
        let base = self.base(node);
        let get = async |path: &str| {
            let request = self.client.get(format!("{base}{path}")).timeout(PATIENCE);
            let answer = request.send().await.ok()?.error_for_status().ok()?;
            answer.text().await.ok()
        };
        let what = format!("node {node} holds a lease");
        let ready = until(RECOVERY, &what, async || get("/readyz").await.is_some()).await;
        let from_index = async || {
            let metrics = get("/metrics").await?;
            let name = "trustrelay_verifications_by_path_total{path=\"index\"} ";
            metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok())
        };
        let before = from_index().await.unwrap_or(0);
        let what = format!("node {node} verifies from its index");
        ready + until(RECOVERY, &what, async || from_index().await.is_some_and(|now| now > before)).await
    }
}
