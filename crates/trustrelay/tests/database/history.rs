//! Three nodes under load, while they are stopped, killed and cut off from a database that crashes: the history of every verification
//! is held against that of every revocation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::support::{Api, Made, Server};
use crate::{Shared, made};

const LEASE: &str = "1s";
/// Longer than the lease: the others go on without a node that is stopped for so long.
const STOPPED: Duration = Duration::from_millis(1500);
const TOKENS: usize = 48;
/// How many verify at a time on each node.
const CLIENTS: usize = 3;
/// A request to a stopped node waits for it; to one that is gone it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A verification that was accepted: of which token, and when it began.
type Accepted = (usize, Instant);

struct World {
    client: Client,
    /// Where the nodes are; one that was killed comes back elsewhere.
    bases: Mutex<Vec<String>>,
    tokens: Vec<Made>,
    accepted: Mutex<Vec<Accepted>>,
    refused: AtomicUsize,
    over: AtomicBool,
}

impl World {
    fn base(&self, node: usize) -> String {
        self.bases.lock().expect("whole")[node].clone()
    }

    async fn status(&self, node: usize, token: &str) -> Option<u16> {
        let api = Api::new(self.client.clone(), &self.base(node), token);
        let answer = api.request(Method::GET, "/api/user").timeout(PATIENCE).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    async fn verify(self: Arc<Self>, node: usize, mut at: usize) {
        while !self.over.load(Ordering::SeqCst) {
            // Each client goes through the tokens in an order of its own.
            at = (at + 7) % TOKENS;
            let begun = Instant::now();
            match self.status(node, &self.tokens[at].token).await {
                Some(200) => self.accepted.lock().expect("whole").push((at, begun)),
                Some(401 | 503) => drop(self.refused.fetch_add(1, Ordering::SeqCst)),
                Some(other) => panic!("{other}"),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Revokes one token after the other through whichever node answers; when each was answered.
    async fn revoke(self: Arc<Self>, keeper: Made) -> Vec<Option<Instant>> {
        let mut answered = vec![None; TOKENS];
        // A third of them stay, so that there is always something to accept.
        for (at, slot) in answered.iter_mut().enumerate().filter(|(at, _)| at % 3 != 0) {
            let mut node = at;
            while slot.is_none() && !self.over.load(Ordering::SeqCst) {
                node += 1;
                let api = Api::new(self.client.clone(), &self.base(node % 3), &keeper.token);
                let path = format!("/api/user/personal-access-tokens/{}", self.tokens[at].id);
                let answer = api.request(Method::DELETE, &path).timeout(PATIENCE).send().await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    *slot = Some(Instant::now());
                }
            }
            // Some 200 ms for each, so that they are spread over all that happens.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        answered
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verification_that_starts_after_a_revocation_was_answered_is_accepted() {
    let mut database = Cluster::start();
    let shared = Shared::on(&database);
    let keeper = made(|args| shared.run(args), "tokens api");
    let mut nodes: Vec<Option<Server>> = (0..3).map(|_| Some(shared.serve(&["--lease", LEASE]))).collect();
    let base = |node: &Option<Server>| node.as_ref().expect("it runs").base.clone();
    let first = nodes[0].as_ref().expect("it runs").api(&keeper.token);
    let mut tokens = Vec::new();
    for _ in 0..TOKENS {
        tokens.push(first.create("api").await.expect("made"));
    }
    let world = Arc::new(World {
        client: Client::new(),
        bases: Mutex::new(nodes.iter().map(base).collect()),
        tokens,
        accepted: Mutex::default(),
        refused: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..3 * CLIENTS)
        .map(|client| tokio::spawn(Arc::clone(&world).verify(client % 3, client * 5)))
        .collect();
    let revoking = tokio::spawn(Arc::clone(&world).revoke(keeper));

    let pause = async || tokio::time::sleep(Duration::from_millis(500)).await;
    for round in 0..2 {
        let node = nodes[1].as_ref().expect("it runs");
        node.signal(Signal::STOP);
        tokio::time::sleep(STOPPED).await;
        node.signal(Signal::CONT);
        pause().await;
        drop(nodes[2].take());
        pause().await;
        nodes[2] = Some(shared.serve(&["--lease", LEASE]));
        world.bases.lock().expect("whole")[2] = base(&nodes[2]);
        pause().await;
        database.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'relay'");
        pause().await;
        if round == 0 {
            database.crash();
            tokio::time::sleep(STOPPED).await;
            database.begin();
        }
        pause().await;
    }

    let answered = revoking.await.expect("revokes");
    world.over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("verifies");
    }
    let accepted = std::mem::take(&mut *world.accepted.lock().expect("whole"));
    let late: Vec<_> = accepted
        .iter()
        .filter_map(|(token, begun)| Some((token, begun.checked_duration_since(answered[*token]?)?)))
        .collect();
    assert_eq!(late, [], "accepted although they started so long after the revocation's answer");

    // The history says something: there were revocations, acceptances before and refusals after them.
    let revoked = answered.iter().flatten().count();
    assert_eq!(revoked, TOKENS - TOKENS.div_ceil(3));
    let before = accepted.iter().filter(|(token, _)| answered[*token].is_some()).count();
    assert!(before > revoked, "{before} of tokens that were to be revoked");
    assert!(world.refused.load(Ordering::SeqCst) > revoked);
    // Nothing answered was lost, and nothing else with it.
    for (token, answered) in world.tokens.iter().zip(&answered) {
        let expected = if answered.is_some() { 401 } else { 200 };
        for node in 0..3 {
            assert_eq!(world.status(node, &token.token).await, Some(expected), "node {node}");
        }
    }
}
