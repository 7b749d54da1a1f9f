//! The server's secret is rotated node by node, and no token is refused at any moment of it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::{Made, Run, Server};
use crate::{Shared, made};

const NODES: usize = 3;

/// Nodes with a copy of the key file each.
struct Fleet {
    shared: Shared,
    nodes: Vec<Server>,
    tokens: Vec<Made>,
}

impl Fleet {
    fn start() -> Self {
        let shared = Shared::with_account();
        shared.place.write("master.key", &shared.secret);
        let mut fleet = Self { shared, nodes: Vec::new(), tokens: Vec::new() };
        fleet.hand_out("master.key");
        fleet.nodes = (0..NODES).map(|at| fleet.node(at)).collect();
        fleet
    }

    fn key(&self, name: &str) -> PathBuf {
        let path = self.shared.place.path(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        path
    }

    /// Gives every node its copy of the file.
    fn hand_out(&self, from: &str) {
        for at in 0..NODES {
            let to = self.shared.place.path(&format!("{at}.key"));
            std::fs::copy(self.key(from), to).expect("copied");
        }
    }

    /// A command, or a node, with one of the key files.
    fn with(&self, key: &str, args: &[&str]) -> Run {
        let key = self.key(key).display().to_string();
        let args = [args, &["--secret-key-file", &key]].concat();
        self.shared.place.bare(&args).env("TRUSTRELAY_DATABASE_URL", &self.shared.url)
    }

    fn node(&self, at: usize) -> Server {
        let args = ["serve", "--listen", "127.0.0.1:0", "--log", "info"];
        Server::start(self.with(&format!("{at}.key"), &args))
    }

    /// Every token is good on every node.
    async fn all_good(&self) {
        for node in &self.nodes {
            for made in &self.tokens {
                assert_eq!(node.api(&made.token).whoami().await.0, 200);
            }
        }
    }

    /// Restarts the nodes one after the other. At each step tokens are made on every node, and all
    /// that there are are used.
    async fn roll(&mut self) {
        for at in 0..NODES {
            self.nodes[at].signal(Signal::TERM);
            let restarted = self.node(at);
            let (code, _, err) = std::mem::replace(&mut self.nodes[at], restarted).end();
            assert_eq!(code, Some(0), "{err:?}");
            for node in 0..NODES {
                let keeper = &self.tokens[0];
                let made = self.nodes[node].api(&keeper.token).create("api").await.expect("made");
                self.tokens.push(made);
            }
            self.all_good().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_node_by_node_and_no_token_is_refused() {
    let mut fleet = Fleet::start();
    let keeper = made(|args| fleet.with("master.key", args), "tokens api");
    fleet.tokens.push(keeper);
    fleet.all_good().await;

    fleet.with("master.key", &["secret", "rotate", "--prepare"]).done().good();
    fleet.hand_out("master.key");
    fleet.roll().await;
    fleet.with("master.key", &["secret", "rotate", "--activate"]).done().good();
    fleet.hand_out("master.key");
    fleet.roll().await;
    fleet.all_good().await;
    // What still waits is written down when the nodes stop.
    fleet.roll().await;

    let status = fleet.with("master.key", &["secret", "status"]).done().good();
    let old = status.lines().find(|line| line.contains("verifies")).expect("the old key");
    assert!(old.contains("\t0 tokens\t"), "all were used since: {status}");
    let old = old.split('\t').next().expect("a key");
    fleet.with("master.key", &["secret", "retire", old]).done().good();
    fleet.hand_out("master.key");
    fleet.roll().await;
    // What is revoked on one node is refused by all, whatever its digest was when they met it.
    let [keeper, first, ..] = &fleet.tokens[..] else { panic!("there are tokens") };
    fleet.nodes[1].api(&keeper.token).revoke(&first.id).await.expect("revoked");
    for node in &fleet.nodes {
        assert_eq!(node.api(&first.token).whoami().await.0, 401);
    }
}
