//! What goes wrong in a history: chosen from its seed, begun, and ended.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dice::Dice;
use crate::load::NODES;
use crate::network::Way;
use crate::nodes::{LEASE, Nodes};

/// Which way of a node's network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Up,
    Down,
    Both,
}

/// What goes wrong with one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Stopped,
    Killed,
    /// Its network delays what passes, each way differently.
    Delayed(Duration, Duration),
    Held(Side),
    Swallowed(Side),
    HalfClosed(Side),
    /// Its connections are reset, again and again.
    Cut,
    /// And no new ones come about.
    Refused,
}

/// What goes wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    Restarted(Duration),
    FailedOver,
    /// Its clock is set to so many seconds ahead of what it is, or behind. Nobody notices.
    ClockSet(i64),
}

/// What goes wrong at the same time.
pub(crate) struct Round {
    pub(crate) faults: Vec<(usize, Fault)>,
    pub(crate) outage: Option<Outage>,
    pub(crate) lasts: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (node, fault) in &self.faults {
            write!(f, "node {node} {fault:?}, ")?;
        }
        if let Some(outage) = self.outage {
            write!(f, "database {outage:?}, ")?;
        }
        write!(f, "for {:?}", self.lasts)
    }
}

/// Rounds in which everything that can go wrong does so once: with one node or two, and now and
/// then with the database as well.
pub(crate) fn rounds(dice: &Dice) -> Vec<Round> {
    let side = || *dice.pick(&[Side::Up, Side::Down, Side::Both]).expect("there are some");
    let delay = || Duration::from_millis(20 + dice.below(500) as u64);
    let mut faults = vec![
        Fault::Stopped,
        Fault::Killed,
        Fault::Delayed(delay(), delay()),
        Fault::Held(side()),
        Fault::Swallowed(side()),
        Fault::HalfClosed(side()),
        Fault::Cut,
        Fault::Refused,
    ];
    dice.shuffle(&mut faults);
    let mut rounds = Vec::new();
    while !faults.is_empty() {
        let mut nodes: Vec<_> = (0..NODES).collect();
        dice.shuffle(&mut nodes);
        let many = faults.len().min(1 + dice.below(2));
        let faults = nodes.into_iter().zip(faults.drain(..many)).collect();
        // All of them are longer than the lease: the others go on without the node.
        let lasts = LEASE * 3 / 2 + Duration::from_millis(dice.below(1000) as u64);
        rounds.push(Round { faults, outage: None, lasts });
    }
    let hour = || 10 + dice.below(3600) as i64;
    // A clock that is set ahead harms whoever trusts it where a node is cut off: that one trusts
    // its memory for a while yet.
    let is_cut_off = |round: &Round| round.faults.iter().any(|(_, fault)| is_blind(*fault));
    let cut_off: Vec<_> = (0..rounds.len()).filter(|at| is_cut_off(&rounds[*at])).collect();
    let ahead = *dice.pick(&cut_off).expect("there are some");
    rounds[ahead].outage = Some(Outage::ClockSet(hour()));
    let mut others: Vec<_> = (0..rounds.len()).filter(|at| *at != ahead).collect();
    dice.shuffle(&mut others);
    let restarted = Outage::Restarted(Duration::from_millis(dice.below(1500) as u64));
    for (at, outage) in others.into_iter().zip([restarted, Outage::FailedOver, Outage::ClockSet(-hour())]) {
        rounds[at].outage = Some(outage);
    }
    rounds
}

/// A time in which a node could reach nothing: from when its lease was surely over.
pub(crate) struct Blind {
    pub(crate) node: usize,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// A time in which something was wrong with a node, or with the database and so with all.
pub(crate) struct Sick {
    pub(crate) node: usize,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// Lets a round happen, from its beginning until all is well.
pub(crate) async fn happens(
    nodes: &mut Nodes,
    round: &Round,
    moved: impl Fn(usize, String),
    (blind, sick): (&mut Vec<Blind>, &mut Vec<Sick>),
) -> Duration {
    let from = Instant::now();
    for (node, fault) in &round.faults {
        begin(nodes, *node, *fault);
    }
    let begun = Instant::now();
    match round.outage {
        Some(Outage::Restarted(after)) => nodes.restart_database(after).await,
        Some(Outage::FailedOver) => nodes.fail_over(),
        Some(Outage::ClockSet(ahead)) => nodes.database.set_clock(ahead),
        None => {}
    }
    while begun.elapsed() < round.lasts {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (node, _) in round.faults.iter().filter(|(_, fault)| *fault == Fault::Cut) {
            nodes.cut(*node);
        }
    }
    for (node, fault) in &round.faults {
        if is_blind(*fault) {
            blind.push(Blind { node: *node, from: begun + LEASE, until: Instant::now() });
        }
        end(nodes, *node, *fault);
        if *fault == Fault::Killed {
            moved(*node, nodes.base(*node));
        }
    }
    let over = Instant::now();
    for node in 0..NODES {
        nodes.recovered(node).await;
    }
    let recovery = over.elapsed();
    let until = Instant::now();
    let all = 0..NODES;
    let was_away = matches!(round.outage, Some(Outage::Restarted(_) | Outage::FailedOver));
    let was_sick = |node: &usize| was_away || round.faults.iter().any(|(at, _)| at == node);
    sick.extend(all.filter(was_sick).map(|node| Sick { node, from, until }));
    nodes.complete().await;
    recovery
}

/// Whether a node with this fault can neither renew its lease nor ask for a token.
fn is_blind(fault: Fault) -> bool {
    matches!(fault, Fault::Held(_) | Fault::Swallowed(_) | Fault::HalfClosed(_) | Fault::Refused)
}

fn begin(nodes: &mut Nodes, node: usize, fault: Fault) {
    let fail = |side: Side, way: Way| match side {
        Side::Up => nodes.set_network(node, way, Way::Passes),
        Side::Down => nodes.set_network(node, Way::Passes, way),
        Side::Both => nodes.set_network(node, way, way),
    };
    match fault {
        Fault::Stopped => nodes.signal(node, Signal::STOP),
        Fault::Killed => nodes.kill(node),
        Fault::Delayed(up, down) => nodes.set_network(node, Way::Delays(up), Way::Delays(down)),
        Fault::Held(side) => fail(side, Way::Holds),
        Fault::Swallowed(side) => fail(side, Way::Swallows),
        Fault::HalfClosed(side) => fail(side, Way::Closes),
        Fault::Cut => nodes.cut(node),
        Fault::Refused => {
            nodes.refuse(node, true);
            nodes.cut(node);
        }
    }
}

fn end(nodes: &mut Nodes, node: usize, fault: Fault) {
    match fault {
        Fault::Stopped => nodes.signal(node, Signal::CONT),
        Fault::Killed => nodes.begin(node),
        Fault::Refused => nodes.refuse(node, false),
        Fault::Cut => {}
        Fault::Delayed(..) | Fault::Held(_) | Fault::Swallowed(_) | Fault::HalfClosed(_) => {
            nodes.set_network(node, Way::Passes, Way::Passes);
        }
    }
}
