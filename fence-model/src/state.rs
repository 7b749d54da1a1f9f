//! What there is: nodes, the database's rows and log, revocations.

use crate::safeguard::Safeguard;

/// The protocol, whole or without one of its safeguards.
#[derive(Debug, Clone, Copy)]
pub struct Fence {
    /// How many nodes there are, at most [`NODES`].
    pub nodes: usize,
    /// How many tokens are revoked, at most [`REVOCATIONS`](crate::REVOCATIONS).
    pub revocations: usize,
    /// How many ticks a lease has.
    pub lease: u8,
    /// How many of them a node does not trust.
    pub margin: u8,
    /// What is left out.
    pub without: Option<Safeguard>,
}

impl Fence {
    pub(crate) fn has(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }
}

/// How many nodes there are at most. The first also revokes.
pub const NODES: usize = 3;
/// How many tokens there are, each of which is revoked once: the first at the first node, the
/// second by a command, which is no node.
pub const REVOCATIONS: usize = 2;

/// A renewal, as far as it is. Each has the ticks of the node's clock since the node asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Renewal {
    /// None.
    #[default]
    Idle,
    /// It has read the head and holds no lock yet. Only without
    /// [`HeadReadUnderTheLock`](crate::Safeguard::HeadReadUnderTheLock).
    Read {
        /// Ticks since the node asked.
        since: u8,
    },
    /// The transaction is open: the row is locked, the node was at the head.
    Open {
        /// Ticks since the node asked.
        since: u8,
    },
    /// It is committed, and the answer is on its way.
    Answered {
        /// Ticks since the node asked.
        since: u8,
    },
}

/// A process that verifies, and its row in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Node {
    /// Whether it has joined.
    pub joined: bool,
    /// Whether its row is committed.
    pub row: bool,
    /// Whether its row says that it holds a lease.
    pub held: bool,
    /// The last entry that it had applied, as its row has it. 0 where none is held: nobody asks
    /// then.
    pub claimed: u8,
    /// For how long it will still answer from its index, by its own clock.
    pub trusts: u8,
    /// The last entry that it has applied.
    pub applied: u8,
    /// Which tokens its index would accept, and which may have an open stream there: both end when
    /// the entry is applied.
    pub index: [bool; REVOCATIONS],
    /// Its renewal.
    pub renewal: Renewal,
}

/// A revocation, as far as it is. Each has the number of its entry in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Revocation {
    /// Not asked for yet.
    #[default]
    Ahead,
    /// It has its number and is not committed. Only without
    /// [`NumbersInCommitOrder`](crate::Safeguard::NumbersInCommitOrder).
    Numbered(u8),
    /// It is committed.
    Committed(u8),
    /// It has looked at the rows.
    Looked {
        /// The number.
        seq: u8,
        /// For how many ticks, by the clock of whoever revokes, it still waits for who is silent.
        left: u8,
    },
    /// It is answered.
    Answered(u8),
}

/// A look-up that has read a good token and has not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookUp {
    /// Whose.
    pub node: usize,
    /// Which token.
    pub token: usize,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct State {
    /// The nodes.
    pub nodes: [Node; NODES],
    /// The log: which token the entry revokes, if it is committed.
    pub log: [Option<u8>; REVOCATIONS],
    /// The revocations, by token.
    pub revocations: [Revocation; REVOCATIONS],
    /// One look-up at a time: what goes wrong with one goes wrong with one.
    pub look_up: Option<LookUp>,
    /// Something of a token that is revoked, and was said to stand at a node that had not heard of
    /// it. Only without [`LeaseBeforeStanding`](crate::Safeguard::LeaseBeforeStanding).
    pub stood: Option<LookUp>,
    /// Whether a node's clock may still fall behind by a tick: what the margin is for, within one
    /// lease.
    pub drifts: bool,
    /// Notifications on their way, by token and node. Only without
    /// [`LeasesNotNotifications`](crate::Safeguard::LeasesNotNotifications).
    pub told: [[bool; NODES]; REVOCATIONS],
}

impl State {
    /// The number of the last entry that is committed.
    pub fn head(&self) -> u8 {
        (1..=REVOCATIONS as u8).rev().find(|seq| self.entry(*seq).is_some()).unwrap_or(0)
    }

    /// Which token an entry revokes.
    pub fn entry(&self, seq: u8) -> Option<usize> {
        let entry = usize::from(seq).checked_sub(1).and_then(|at| self.log.get(at)).copied().flatten();
        entry.map(usize::from)
    }

    /// Whether the store says that a token is revoked.
    pub fn is_revoked(&self, token: usize) -> bool {
        self.log.contains(&Some(token as u8))
    }

    /// Whether a token's revocation is answered.
    pub fn is_answered(&self, token: usize) -> bool {
        matches!(self.revocations[token], Revocation::Answered(_))
    }

    /// The fullest index that a process can have that begins now.
    pub(crate) fn full_index(&self, revocations: usize) -> [bool; REVOCATIONS] {
        std::array::from_fn(|token| token < revocations && !self.is_revoked(token))
    }

    /// Whether a token can be accepted anywhere, now or later.
    pub(crate) fn is_open(&self, revocations: usize) -> bool {
        self.look_up.is_some()
            || self.stood.is_some()
            || (0..revocations).any(|token| !self.is_revoked(token))
            || self.nodes.iter().any(|node| node.index.contains(&true))
    }

    /// The same state, with the nodes that are alike in one order.
    pub(crate) fn in_order(mut self, fence: &Fence) -> Self {
        let alike = 1..fence.nodes;
        for at in alike.clone() {
            for other in at + 1..alike.end {
                if self.key(at) > self.key(other) {
                    self.swap(at, other);
                }
            }
        }
        self
    }

    fn key(&self, node: usize) -> (Node, [Option<usize>; 2], [bool; REVOCATIONS]) {
        let of_it = |one: Option<LookUp>| one.filter(|one| one.node == node).map(|one| one.token);
        (self.nodes[node], [self.look_up, self.stood].map(of_it), self.told.map(|told| told[node]))
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.nodes.swap(one, other);
        for told in &mut self.told {
            told.swap(one, other);
        }
        for swapped in [&mut self.look_up, &mut self.stood].into_iter().flatten() {
            swapped.node = match swapped.node {
                node if node == one => other,
                node if node == other => one,
                node => node,
            };
        }
    }
}
