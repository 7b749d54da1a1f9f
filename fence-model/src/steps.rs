//! What may happen next.

use stateright::{Model, Property};

use crate::safeguard::Safeguard;
use crate::state::{Fence, LookUp, NODES, Node, Renewal, Revocation, State};

/// One step. Nodes and tokens are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time goes on, everywhere. The clock of node `behind` misses it.
    Tick {
        /// Whose clock misses it.
        behind: Option<usize>,
    },
    /// A node's process ends, and another one begins. It answers what it can from the store.
    Restart(usize),
    /// It joins, with an empty index: all that is in the log is known by default.
    Join(usize),
    /// It joins with what it has verified since it began: it goes through the log from its
    /// beginning.
    JoinWarm(usize),
    /// A node reads one entry that it lacks, and applies it.
    Apply(usize),
    /// A node asks for a renewal, and the database begins with it.
    Ask(usize),
    /// The database gets the lock on the node's row, after it has read the log's head.
    LockLate(usize),
    /// The database commits the renewal.
    Commit(usize),
    /// The database gives the renewal up, or fails over meanwhile; the node gets an error.
    Abort(usize),
    /// The answer arrives.
    Hear(usize),
    /// The answer does not arrive: the node does not know that it was committed.
    Lose(usize),
    /// A verification reads a good token from the store, and is held up.
    LookUp(LookUp),
    /// It comes back: what it has read goes into the index.
    Admit,
    /// A revocation takes its number.
    Number(usize),
    /// A revocation is committed.
    Revoke(usize),
    /// A revocation looks at the nodes' rows.
    Look(usize),
    /// A revocation that has waited for long enough lets those go who were silent.
    LetGo(usize),
    /// A revocation finds that all is well, and is answered.
    Answer(usize),
    /// A notification arrives: of this token's revocation, at this node.
    Told(usize, usize),
    /// A notification is lost.
    NotTold(usize, usize),
    /// Something of a revoked token is said to stand, at a node that has not heard of it.
    Stands(LookUp),
    /// The database's clock jumps ahead, by more than a lease.
    Jump,
    /// The database fails over to a standby that lacks the last commit.
    LoseLastCommit,
}

impl Fence {
    /// For how long a node trusts a lease that it hears of `since` ticks after it asked.
    fn trusted(&self, since: u8) -> u8 {
        let margin = if self.has(Safeguard::Margin) { self.margin } else { 0 };
        let since = if self.has(Safeguard::MeasuredFromTheAsking) { since } else { 0 };
        self.lease.saturating_sub(margin).saturating_sub(since)
    }

    fn tick(&self, state: &mut State, behind: Option<usize>) {
        for (at, node) in state.nodes.iter_mut().enumerate() {
            let passed = u8::from(behind != Some(at));
            node.trusts = node.trusts.saturating_sub(passed);
            node.renewal = match node.renewal {
                Renewal::Open { since } => Renewal::Open { since: (since + passed).min(self.lease) },
                Renewal::Read { since } | Renewal::Answered { since }
                    if self.trusted(since + passed) == 0 =>
                {
                    Renewal::Idle
                }
                Renewal::Read { since } => Renewal::Read { since: since + passed },
                Renewal::Answered { since } => Renewal::Answered { since: (since + passed).min(self.lease) },
                Renewal::Idle => Renewal::Idle,
            };
        }
        for revocation in &mut state.revocations {
            if let Revocation::Looked { left, .. } = revocation {
                *left = left.saturating_sub(1);
            }
        }
    }

    fn unsure(&self, node: &mut Node, since: u8) {
        node.renewal = Renewal::Idle;
        if !self.has(Safeguard::UnsureExtendsNothing) {
            node.trusts = node.trusts.max(self.trusted(since));
        }
    }

    /// Entries are applied one by one: an answer need not name all that there are.
    fn apply(&self, state: &mut State, at: usize) -> Option<()> {
        let (applied, head) = (state.nodes[at].applied, state.head());
        if state.nodes[at].renewal != Renewal::Idle || applied >= head {
            return None;
        }
        let until = if self.has(Safeguard::NumbersInCommitOrder) { applied + 1 } else { head };
        for seq in applied + 1..=until {
            if let Some(token) = state.entry(seq) {
                state.nodes[at].index[token] = false;
            }
        }
        state.nodes[at].applied = until;
        // A new epoch: what is on its way will be read again.
        if self.has(Safeguard::AdmissionByEpoch) {
            state.look_up = state.look_up.filter(|look_up| look_up.node != at);
        }
        Some(())
    }

    fn join(&self, state: &mut State, at: usize, warm: bool) -> Option<()> {
        let (head, full) = (state.head(), state.full_index(self.revocations));
        let node = &mut state.nodes[at];
        if node.joined {
            return None;
        }
        node.joined = true;
        node.row = self.has(Safeguard::RowBeforeLease);
        if !warm {
            node.applied = head;
            if self.has(Safeguard::JoinsWithAnEmptyIndex) {
                node.index = full;
                state.look_up = state.look_up.filter(|look_up| look_up.node != at);
            }
        }
        Some(())
    }

    fn renewal(&self, state: &mut State, at: usize, action: Action) -> Option<()> {
        let head = state.head();
        let node = &mut state.nodes[at];
        match (action, node.renewal) {
            (Action::Ask(_), Renewal::Idle) if node.joined && node.applied == head => {
                node.renewal = if self.has(Safeguard::HeadReadUnderTheLock) {
                    Renewal::Open { since: 0 }
                } else {
                    Renewal::Read { since: 0 }
                };
            }
            (Action::LockLate(_), Renewal::Read { since }) => {
                node.renewal = Renewal::Open { since };
            }
            (Action::Commit(_), Renewal::Open { since }) => {
                node.row = true;
                node.held = true;
                node.claimed = node.applied;
                node.renewal =
                    if self.trusted(since) == 0 { Renewal::Idle } else { Renewal::Answered { since } };
            }
            (Action::Abort(_), Renewal::Open { since }) => self.unsure(node, since),
            (Action::Hear(_), Renewal::Answered { since }) => {
                node.trusts = node.trusts.max(self.trusted(since));
                node.renewal = Renewal::Idle;
            }
            (Action::Lose(_), Renewal::Answered { since }) => self.unsure(node, since),
            _ => return None,
        }
        Some(())
    }

    fn revoke(&self, state: &mut State, token: usize) -> Option<()> {
        let seq = match state.revocations[token] {
            Revocation::Ahead if self.has(Safeguard::NumbersInCommitOrder) => state.head() + 1,
            Revocation::Numbered(seq) => seq,
            _ => return None,
        };
        state.log[usize::from(seq) - 1] = Some(token as u8);
        state.revocations[token] = Revocation::Committed(seq);
        if !self.has(Safeguard::LeasesNotNotifications) {
            state.told[token] = state.nodes.map(|node| node.joined);
        }
        Some(())
    }

    fn number(&self, state: &mut State, token: usize) -> Option<()> {
        if self.has(Safeguard::NumbersInCommitOrder) || state.revocations[token] != Revocation::Ahead {
            return None;
        }
        let taken = state.revocations.iter().filter(|other| **other != Revocation::Ahead).count();
        state.revocations[token] = Revocation::Numbered(taken as u8 + 1);
        Some(())
    }

    /// The nodes that a revocation asks after. The first token is revoked at the first node, which
    /// applies the entry and does not ask after its own row.
    fn others(&self, token: usize) -> std::ops::Range<usize> {
        usize::from(token == 0)..self.nodes
    }

    fn look(&self, state: &mut State, token: usize) -> Option<()> {
        let Revocation::Committed(seq) = state.revocations[token] else { return None };
        let home = &state.nodes[0];
        if token == 0 && home.joined && home.applied < seq {
            return None;
        }
        let is_waited_for = |node: &Node| {
            let locks = self.has(Safeguard::ShareLock) && (self.has(Safeguard::EveryRowLocked) || node.held);
            node.row && locks && matches!(node.renewal, Renewal::Open { .. })
        };
        if state.nodes[self.others(token)].iter().any(is_waited_for) {
            return None;
        }
        let left = if self.has(Safeguard::WaitedForItsLength) { self.lease } else { 0 };
        state.revocations[token] = Revocation::Looked { seq, left };
        Some(())
    }

    fn let_go(&self, state: &mut State, token: usize) -> Option<()> {
        let Revocation::Looked { seq, left: 0 } = state.revocations[token] else { return None };
        let mut any = false;
        for node in &mut state.nodes[self.others(token)] {
            let is_silent = node.claimed < seq || !self.has(Safeguard::LetGoIfSilent);
            // It waits for a renewal that is in progress, and looks at the row after that.
            if node.held && is_silent && !matches!(node.renewal, Renewal::Open { .. }) {
                forget(node);
                any = true;
            }
        }
        any.then_some(())
    }

    fn answer(&self, state: &mut State, token: usize) -> Option<()> {
        let (seq, left) = match state.revocations[token] {
            Revocation::Committed(seq) if !self.has(Safeguard::RevocationsWait) => (seq, 0),
            Revocation::Looked { seq, left } => (seq, left),
            _ => return None,
        };
        let lacks = |node: &Node| node.held && node.claimed < seq;
        let settled = if self.has(Safeguard::LeasesNotNotifications) {
            left == 0 || !state.nodes[self.others(token)].iter().any(lacks)
        } else {
            state.told[token] == [false; NODES]
        };
        settled.then(|| state.revocations[token] = Revocation::Answered(seq))
    }

    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick { behind: None } => self.tick(state, None),
            Action::Tick { behind } => {
                // A clock that stands still while its machine sleeps may do so for long.
                if self.has(Safeguard::ClockCountsSleep) {
                    state.drifts = std::mem::take(&mut state.drifts).then_some(false)?;
                }
                self.tick(state, behind);
            }
            Action::Restart(at) => {
                state.nodes[at] = Node { index: state.full_index(self.revocations), ..Node::default() };
                state.look_up = state.look_up.filter(|look_up| look_up.node != at);
                state.stood = state.stood.filter(|stood| stood.node != at);
                state.told.iter_mut().for_each(|told| told[at] = false);
            }
            Action::Join(at) => self.join(state, at, false)?,
            Action::JoinWarm(at) => self.join(state, at, true)?,
            Action::Apply(at) if state.nodes[at].joined => self.apply(state, at)?,
            Action::Ask(at)
            | Action::LockLate(at)
            | Action::Commit(at)
            | Action::Abort(at)
            | Action::Hear(at)
            | Action::Lose(at) => self.renewal(state, at, action)?,
            Action::LookUp(look_up) if state.look_up.is_none() && !state.is_revoked(look_up.token) => {
                state.look_up = Some(look_up);
            }
            Action::Admit => {
                let LookUp { node, token } = state.look_up.take()?;
                state.nodes[node].index[token] = true;
            }
            Action::Number(token) => self.number(state, token)?,
            Action::Revoke(token) => self.revoke(state, token)?,
            Action::Look(token) => self.look(state, token)?,
            Action::LetGo(token) => self.let_go(state, token)?,
            Action::Answer(token) => self.answer(state, token)?,
            Action::Stands(LookUp { node, token })
                if !self.has(Safeguard::LeaseBeforeStanding)
                    && state.stood.is_none()
                    && state.is_answered(token)
                    && state.nodes[node].index[token] =>
            {
                state.stood = Some(LookUp { node, token });
            }
            Action::Told(token, at) => {
                std::mem::take(&mut state.told[token][at]).then_some(())?;
                while self.apply(state, at).is_some() {}
            }
            Action::NotTold(token, at) => std::mem::take(&mut state.told[token][at]).then_some(())?,
            Action::Jump if !self.has(Safeguard::NoClockOfTheDatabase) => {
                state.nodes.iter_mut().for_each(forget);
            }
            Action::LoseLastCommit if !self.has(Safeguard::CommitsSurviveFailover) => {
                let head = usize::from(state.head()).checked_sub(1)?;
                state.log[head] = None;
            }
            _ => return None,
        }
        Some(())
    }
}

/// The row says that no lease is held.
fn forget(node: &mut Node) {
    node.held = false;
    node.claimed = 0;
}

impl Model for Fence {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State { drifts: true, ..State::default() };
        let full = state.full_index(self.revocations);
        state.nodes[..self.nodes].iter_mut().for_each(|node| node.index = full);
        vec![state]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Tick { behind: None }, Action::Admit, Action::Jump, Action::LoseLastCommit]);
        for at in 0..self.nodes {
            actions.extend([
                Action::Tick { behind: Some(at) },
                Action::Restart(at),
                Action::Join(at),
                Action::JoinWarm(at),
                Action::Apply(at),
                Action::Ask(at),
                Action::LockLate(at),
                Action::Commit(at),
                Action::Abort(at),
                Action::Hear(at),
                Action::Lose(at),
            ]);
            for token in 0..self.revocations {
                actions.push(Action::LookUp(LookUp { node: at, token }));
                actions.push(Action::Stands(LookUp { node: at, token }));
                actions.extend([Action::Told(token, at), Action::NotTold(token, at)]);
            }
        }
        for token in 0..self.revocations {
            actions.extend([Action::Number(token), Action::Revoke(token), Action::Look(token)]);
            actions.extend([Action::LetGo(token), Action::Answer(token)]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.step(&mut next, action)?;
        Some(next.in_order(self))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::checks::properties()
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.is_open(self.revocations)
    }
}
