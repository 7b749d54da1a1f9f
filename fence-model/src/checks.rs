//! What must hold in every state, and what must be seen to happen.

use stateright::Property;

use crate::safeguard::Safeguard;
use crate::state::{Fence, Node, REVOCATIONS, State};

/// The promise: no verification that starts after a revocation's answer is accepted, anywhere.
pub const NEVER_ACCEPTED_AFTER_THE_ANSWER: &str = "a token is never accepted after its revocation's answer";
/// Of its streams nothing is handed on by then, anywhere.
pub const NOTHING_HANDED_ON_AFTER_THE_ANSWER: &str =
    "nothing of a token's streams is handed on after its revocation's answer";
/// All revocations are answered.
pub const ANSWERED: &str = "the revocations are answered";
/// A revocation goes on although a node that still has the token in its index has not heard of it:
/// its lease is over.
pub const ANSWERED_WITHOUT_A_LAPSED_NODE: &str =
    "a revocation is answered without a node whose lease is over";
/// Every node answers from its index, and accepts.
pub const EVERYONE_ANSWERED_FROM_MEMORY: &str = "every node accepts a token from its index";

/// Whether a verification of `token` that starts now at this node can be accepted.
fn accepts(fence: &Fence, state: &State, at: usize, token: usize) -> bool {
    let node = &state.nodes[at];
    let trusts = node.trusts > 0;
    let from_the_index = (trusts || !fence.has(Safeguard::LapsedAskTheStore)) && node.index[token];
    // One that joins a look-up which others began; that one may come back at once.
    let joins = trusts || !fence.has(Safeguard::LapsedAskAlone);
    let on_its_way = state.look_up.is_some_and(|look_up| look_up.node == at && look_up.token == token);
    from_the_index || (joins && on_its_way) || !state.is_revoked(token)
}

/// Whether something of a stream of `token` that comes to the gate now can be handed on at this
/// node.
fn hands_on(fence: &Fence, state: &State, at: usize, token: usize) -> bool {
    let node = &state.nodes[at];
    let may = node.trusts > 0 || !fence.has(Safeguard::StreamsWait);
    may && (node.index[token] || state.stood.is_some_and(|stood| (stood.node, stood.token) == (at, token)))
}

/// Whether something holds nowhere, for tokens whose revocation is answered.
fn nowhere_once_answered(
    fence: &Fence,
    state: &State,
    what: impl Fn(&Fence, &State, usize, usize) -> bool,
) -> bool {
    let mut answered = (0..REVOCATIONS).filter(|token| state.is_answered(*token));
    answered.all(|token| (0..fence.nodes).all(|at| !what(fence, state, at, token)))
}

pub(crate) fn properties() -> Vec<Property<Fence>> {
    vec![
        Property::always(NEVER_ACCEPTED_AFTER_THE_ANSWER, |fence: &Fence, state: &State| {
            nowhere_once_answered(fence, state, accepts)
        }),
        Property::always(NOTHING_HANDED_ON_AFTER_THE_ANSWER, |fence: &Fence, state: &State| {
            nowhere_once_answered(fence, state, hands_on)
        }),
        Property::sometimes(ANSWERED, |fence: &Fence, state: &State| {
            (0..fence.revocations).all(|token| state.is_answered(token))
        }),
        Property::sometimes(ANSWERED_WITHOUT_A_LAPSED_NODE, |_: &Fence, state: &State| {
            let unaware = |node: &Node| node.joined && node.trusts == 0 && node.index[0];
            state.is_answered(0) && state.nodes.iter().any(unaware)
        }),
        Property::sometimes(EVERYONE_ANSWERED_FROM_MEMORY, |fence: &Fence, state: &State| {
            state.nodes[..fence.nodes].iter().all(|node| node.trusts > 0 && node.index[0])
        }),
    ]
}
