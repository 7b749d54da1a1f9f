//! Everything at once, for as long as a test may take; `TRUSTRELAY_SOAK_SECONDS` and
//! `TRUSTRELAY_SOAK_SEED` say otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use trustrelay_e2e::until;
use trustrelay_e2e_soak::client::{World, live};
use trustrelay_e2e_soak::random::Random;
use trustrelay_e2e_soak::relay::Relay;
use trustrelay_e2e_soak::token::Tokens;
use trustrelay_e2e_soak::trouble::{DISABLED, Happened, REVOKED, disable, happens};
use trustrelay_e2e_soak::upstream::{HttpUpstream, command};

/// How many clients live at a time.
const CLIENTS: usize = 12;
/// How many tokens an account has at a time.
const TOKENS: usize = 4;
/// Files that may be open at the end beyond those of the beginning: the store opens some when it is
/// first asked, and the numbers are asked for over a connection.
const MORE_FILES: usize = 8;
/// Processes that may be left of each command when all tokens are gone: the catalogue's, and
/// everybody's of the stateless era.
const OWN_PROCESSES: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_over_of_clients_crashes_and_revocations() -> Result<()> {
    let seed = set("TRUSTRELAY_SOAK_SEED")?.unwrap_or_else(Random::seed);
    let seconds = set("TRUSTRELAY_SOAK_SECONDS")?.unwrap_or(12);
    soak(seed, Duration::from_secs(seconds)).await.with_context(|| format!("TRUSTRELAY_SOAK_SEED={seed}"))
}

fn set(name: &str) -> Result<Option<u64>> {
    std::env::var(name).ok().map(|text| text.parse().with_context(|| format!("{name}={text}"))).transpose()
}

async fn soak(seed: u64, time: Duration) -> Result<()> {
    let mut random = Random::of(seed);
    let mut upstreams = vec![HttpUpstream::start("both").await?, HttpUpstream::start("session").await?];
    let behind = [
        ("web", upstreams[0].url()),
        ("oldweb", upstreams[1].url()),
        ("pipe", command("both")?),
        ("oldpipe", command("session")?),
    ];
    let relay = Arc::new(Relay::start(&[REVOKED, DISABLED], &behind).await?);
    let tokens = Arc::new(Tokens::default());
    for _ in 0..TOKENS {
        tokens.make(&relay, REVOKED).await?;
        tokens.make(&relay, DISABLED).await?;
    }
    let world = Arc::new(World {
        base: relay.base.clone(),
        upstreams: behind.iter().map(|(name, _)| *name).collect(),
        tokens: Arc::clone(&tokens),
        tally: Default::default(),
    });
    let files = relay.files()?;

    let until_then = Instant::now() + time;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (world, mut random) = (Arc::clone(&world), random.split());
        clients.spawn(async move {
            while Instant::now() < until_then {
                live(&world, &mut random).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut happened = Happened::default();
    while Instant::now() < until_then {
        happens(&relay, &mut upstreams, &tokens, &mut random, &mut happened).await?;
        tokio::time::sleep(random.pause(400)).await;
    }
    while let Some(lived) = clients.join_next().await {
        lived??;
    }
    {
        let tally = world.tally.lock();
        ensure!(tally.results > 0 && tally.refused > 0, "the soak tried nothing: {tally:?} {happened:?}");
    }

    // The clients are gone: so are their streams, whatever becomes of the tokens.
    until_open(&relay, "an end of the streams", |[_, streams, ..]| streams == 0).await?;
    // With the tokens everything else goes.
    for token in tokens.of(REVOKED) {
        tokens.revoke(&relay, &token).await?;
    }
    disable(&relay, &tokens).await?;
    until_open(&relay, "an end of everything", |open| open == [0; 4]).await?;
    // What the relay keeps open to an upstream of its own accord, to be quick, ends with that.
    for upstream in &mut upstreams {
        upstream.kill().await?;
    }
    let commands = behind.len() - upstreams.len();
    until_seen(&relay, "an end of the commands", || Ok(relay.children()?.len() <= OWN_PROCESSES * commands))
        .await?;
    // Each process that is kept has three pipes.
    until_seen(&relay, "an end of the files", || {
        Ok(relay.files()? <= files + MORE_FILES + 3 * relay.children()?.len())
    })
    .await?;

    let children = relay.children()?;
    drop(world);
    Arc::into_inner(relay).context("somebody still has the server")?.stop().await?;
    until("an end of the server's children", || {
        let left = children.iter().any(|pid| rustix::process::test_kill_process(*pid).is_ok());
        async move { (!left).then_some(()) }
    })
    .await
}

async fn until_open(relay: &Relay, what: &str, is_so: impl Fn([u64; 4]) -> bool) -> Result<()> {
    let waited = until(what, || async { relay.open().await.ok().filter(|open| is_so(*open)) }).await;
    match waited {
        Ok(_) => Ok(()),
        Err(error) => {
            let open = relay.open().await?;
            Err(error.context(format!("sessions, streams, calls, links: {open:?}")))
        }
    }
}

async fn until_seen(relay: &Relay, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let waited = until(what, || {
        let is_so = is_so().unwrap_or(false);
        async move { is_so.then_some(()) }
    })
    .await;
    waited.with_context(|| format!("{:?} files, {:?} children", relay.files(), relay.children()))
}
