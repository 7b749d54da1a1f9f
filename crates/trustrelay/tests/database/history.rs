//! Three nodes under load, while they are stopped, killed and cut off from a database that crashes
//! and fails over: the history of every verification and of every open stream is held against that
//! of every revocation.
//!
//! What goes wrong, when, and with whom comes from a seed, which is printed: `SEED=… ` lets the
//! same happen again, as far as a machine does the same twice. `HISTORY_SECONDS=…` lets it go on
//! for longer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::faults::{happens, rounds};
use crate::judge::{History, judge_end, since};
use crate::load::{Door, NODES, PATIENCE, World};
use crate::losses::Losses;
use crate::made;
use crate::mcp::Clock;
use crate::nodes::{Nodes, until};
use crate::rights;
use crate::streams::{KINDS, Kind, Stream, follow};

/// How many clients make and revoke tokens.
const CHANGING: usize = 4;

/// What people look for when they repeat a history, and how far it is.
#[allow(clippy::print_stdout, reason = "a test's output is shown when it fails")]
fn tell(line: &str) {
    println!("{line}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verification_that_starts_after_a_revocation_was_answered_is_accepted() {
    let seed = number("SEED").unwrap_or_else(|| getrandom::u64().expect("random") % 1_000_000);
    let lasts = Duration::from_secs(number("HISTORY_SECONDS").unwrap_or(0));
    tell(&format!("SEED={seed}"));
    let dice = Dice::new(seed);

    let clock = Arc::new(Clock::start().await);
    let mut nodes = Nodes::start(&format!("clock={}", clock.url)).await;
    let keeper = made(|args| nodes.shared().run(args), "tokens api mcp");
    let world = Arc::new(World::new(keeper, (0..NODES).map(|node| nodes.base(node)).collect()));
    let mut clients = Vec::new();
    for (client, door) in [Door::Rest, Door::Rest, Door::Mcp].repeat(NODES).into_iter().enumerate() {
        let verifying = Arc::clone(&world).keep_verifying(client % NODES, door, Dice::new(dice.next()));
        clients.push(tokio::spawn(verifying));
    }
    // As many as go on while some of them wait for a node that does not answer.
    for _ in 0..CHANGING {
        let (streams, kinds) = ((Arc::clone(&world), Arc::clone(&clock)), Dice::new(dice.next()));
        let stream = move |token: &Arc<_>, node| {
            let (world, clock) = (Arc::clone(&streams.0), Arc::clone(&streams.1));
            let kind = *kinds.pick(&KINDS).expect("there are some");
            tokio::spawn(follow(world, clock, Arc::clone(token), node, kind));
        };
        clients.push(tokio::spawn(Arc::clone(&world).keep_changing(Dice::new(dice.next()), stream)));
    }

    let losses = Losses::begin(&nodes, &world, &clock, dice.next());
    clients.extend(losses.tasks(&nodes));

    let begun = Instant::now();
    let (mut blind, mut sick) = (Vec::new(), Vec::new());
    loop {
        for round in rounds(&dice) {
            tell(&format!("{}: {round}", since(begun)));
            let moved = |node: usize, base| world.bases.write().expect("whole")[node] = base;
            let recovery = happens(&mut nodes, &round, moved, (&mut blind, &mut sick)).await;
            tell(&format!("         recovered in {recovery:?}"));
            losses.rounds.fetch_add(1, Ordering::SeqCst);
        }
        if begun.elapsed() >= lasts {
            break;
        }
    }

    losses.all_once().await;
    world.over.store(true, Ordering::SeqCst);
    for client in clients {
        let ended = tokio::time::timeout(PATIENCE * 2, client).await;
        ended.expect("what is asked for with nothing wrong is answered").expect("goes on to the end");
    }
    world.settle().await;
    tell(&format!("{:?}", world.counts()));
    assert_eq!(*world.wrongs.lock().expect("whole"), [""; 0]);
    let verified = std::mem::take(&mut *world.verified.lock().expect("whole"));
    let history = History { blind, sick, verified };
    history.judge();
    rights::judge(&losses.rights());
    judge_end(&world, &nodes).await;
    let streams = world.streams.lock().expect("whole").clone();
    history.judge_streams(&streams).await;
    // A server is told when nobody may hear it any more: what is open there is what live tokens
    // have open here.
    let live = || {
        let is_live = |stream: &&Arc<Stream>| stream.kind != Kind::Listen && stream.seen().ended.is_none();
        streams.iter().filter(is_live).count()
    };
    until(PATIENCE, "the calls of revoked tokens end at the server", async || clock.open() == live()).await;
    assert_eq!(*world.wrongs.lock().expect("whole"), [""; 0]);
}
