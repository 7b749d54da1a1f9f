//! The fence's protocol as a model, small enough that every schedule of it is gone through.
//!
//! Three nodes, two revocations, one database. Each step of [`Action`] happens at any moment at
//! which it can, or never: so a notification may be late or lost (it is only a hint to take a step
//! that may be taken anyway), a node may be slow or paused for as long as one likes while time goes
//! on, an answer may not arrive, a process may start again, a node may join late. What must hold is
//! [`NEVER_ACCEPTED_AFTER_THE_ANSWER`] and [`NOTHING_HANDED_ON_AFTER_THE_ANSWER`]. `docs/FENCE.md`
//! has the argument in words.
//!
//! Each thing that the protocol does for the promise's sake is a [`Safeguard`]. Without any single
//! one of them the checker finds a schedule that breaks the promise; the tests tell these
//! schedules.
//!
//! What keeps it small, and why nothing is lost by it:
//! - Time is what a node still trusts its lease for, and what a revocation still waits, in ticks;
//!   there are no dates. So the states are finite and need no bound.
//! - An index is as full as it may be: a fuller one accepts more and hinders nothing.
//! - A verification is no step. It takes nothing but its node's state, so the promise is judged in
//!   each state.
//! - An open stream is like an entry of the index: both begin with an accepted token, and end when
//!   the entry is applied.
//! - A process that starts again is a new node; its old row, which would only make a revocation
//!   wait, is dropped at once.
//! - Nodes that let go of others that are silent do what a revocation does that has waited: it is
//!   no step of its own.
//! - Nodes but the first are alike: their order says nothing, so states are kept in one order.
//! - Where no index and no look-up has any token any more, nothing can be accepted any more: no
//!   further steps are looked at.

mod checks;
mod safeguard;
mod state;
mod steps;

pub use checks::{
    ANSWERED, ANSWERED_WITHOUT_A_LAPSED_NODE, EVERYONE_ANSWERED_FROM_MEMORY, NEVER_ACCEPTED_AFTER_THE_ANSWER,
    NOTHING_HANDED_ON_AFTER_THE_ANSWER,
};
pub use safeguard::Safeguard;
pub use state::{Fence, LookUp, NODES, Node, REVOCATIONS, Renewal, Revocation, State};
pub use steps::Action;
