//! Nodes that stop, die or hang while clients work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;
use trustrelay_e2e::until;
use trustrelay_e2e_nodes::balancer::Affinity;
use trustrelay_e2e_nodes::client::{Client, Era};
use url::Url;

use crate::World;

/// Clients that call one tool after the other through the balancer.
struct Work {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: JoinSet<Vec<String>>,
}

impl Work {
    async fn begin(base: &Url, token: &str) -> Result<Self> {
        let (stop, done, mut workers) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), JoinSet::new());
        for number in 0..6 {
            let client = match number % 2 {
                0 => Client::new(Era::Stateless, token, "/mcp")?,
                _ => Client::begin(base, token, "/mcp").await?,
            };
            let (base, stop, done) = (base.clone(), Arc::clone(&stop), Arc::clone(&done));
            workers.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match client.call(&base, "new__test_simple_text", json!({})).await {
                        Ok(_) => drop(done.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => failed.push(format!("{error:#}")),
                    }
                }
                failed
            });
        }
        Ok(Self { stop, done, workers })
    }

    /// Waits for so many more calls that went well.
    async fn goes_on(&self, calls: u64) -> Result<()> {
        let enough = self.done.load(Ordering::SeqCst) + calls;
        until("more calls", || async { (self.done.load(Ordering::SeqCst) >= enough).then_some(()) }).await
    }

    /// How the calls failed that did.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.workers.join_all().await.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn a_node_that_is_drained_costs_no_request() -> Result<()> {
    tokio::try_join!(is_drained(Affinity::None), is_drained(Affinity::BySession))?;
    Ok(())
}

async fn is_drained(affinity: Affinity) -> Result<()> {
    let mut world = World::set_up(|setup| setup.drain = "3s", affinity).await?;
    let (_, token) = world.fleet.token("mcp").await?;
    let nodes = world.nodes();
    let work = Work::begin(&world.balancer.base, &token).await?;
    work.goes_on(30).await?;
    // A call is under way on the node when it is told to stop: it may end.
    let client = Client::new(Era::Stateless, &token, "/mcp")?;
    let progress = json!({ "name": "old__test_tool_with_progress", "_meta": { "progressToken": 1 } });
    let (_, mut running) = client.open(&nodes[1], "tools/call", progress).await?;
    running.until("notifications/progress").await?;
    world.fleet.nodes[1].signal(Signal::TERM)?;
    running.last().await?;
    let not_ready = reqwest::get(nodes[1].join("/readyz")?).await?;
    assert_eq!(not_ready.status(), 503);
    world.fleet.nodes[1].ended().await?;
    work.goes_on(30).await?;
    world.fleet.nodes[1].restart().await?;
    work.goes_on(30).await?;
    assert_eq!(work.end().await, Vec::<String>::new(), "{affinity:?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_dies_costs_what_was_under_way_on_it_and_its_sessions_go_on() -> Result<()> {
    let mut world = World::start().await?;
    let ((_, token), nodes) = (world.fleet.token("mcp").await?, world.nodes());
    let session = Client::begin(&nodes[1], &token, "/mcp").await?;
    let wait = json!({ "name": "old__test_wait", "_meta": { "progressToken": 1 } });
    let (_, mut through_another) = session.open(&nodes[0], "tools/call", wait).await?;
    through_another.until("notifications/progress").await?;
    let mut stream = session.listen(&nodes[2], None).await?;
    let work = Work::begin(&world.balancer.base, &token).await?;
    work.goes_on(30).await?;

    world.fleet.nodes[1].signal(Signal::KILL)?;
    world.fleet.nodes[1].ended().await?;
    assert!(through_another.last().await.is_err(), "the call was there, and is gone");
    stream.end().await.context("so is the stream")?;
    // The id says what is needed to go on elsewhere.
    for node in [&nodes[0], &nodes[2], &world.balancer.base] {
        assert_eq!(session.call(node, "new__test_simple_text", json!({})).await?.len(), 43);
    }
    work.goes_on(60).await?;
    let failed = work.end().await;
    // At most what each of the six had under way at that moment.
    assert!(failed.len() <= 6, "{failed:?}");

    // When it is there again, it is the session's home again.
    world.fleet.nodes[1].restart().await?;
    for node in &nodes {
        assert_eq!(session.call(node, "new__test_simple_text", json!({})).await?.len(), 43);
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_hangs_is_not_waited_for() -> Result<()> {
    let world = World::start().await?;
    let ((_, token), nodes) = (world.fleet.token("mcp").await?, world.nodes());
    let session = Client::begin(&nodes[1], &token, "/mcp").await?;
    let mut stream = session.listen(&nodes[2], None).await?;
    world.fleet.nodes[1].signal(Signal::STOP)?;
    let call = json!({ "name": "new__test_simple_text", "arguments": {} });
    let (asked, ended) = tokio::join!(session.ask(&nodes[0], "tools/call", call), stream.end());
    let (status, refused) = asked?;
    assert_eq!((status, &refused["error"]["code"]), (502, &json!(-32603)), "{refused}");
    assert!(
        refused["error"]["message"].to_string().contains("may or may not have been carried out"),
        "{refused}"
    );
    ended?;
    // Others have nothing to do with it.
    let free = Client::new(Era::Stateless, &token, "/mcp")?;
    free.call(&nodes[0], "new__test_simple_text", json!({})).await?;
    world.fleet.nodes[1].signal(Signal::CONT)?;
    until("it to go on", || async {
        let call = session.call(&nodes[0], "new__test_simple_text", json!({}));
        call.await.ok()
    })
    .await?;
    Ok(())
}
