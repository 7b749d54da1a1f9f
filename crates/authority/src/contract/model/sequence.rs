//! One sequence of calls: what a store answers, held against the model, and changes by actors
//! without power against what was before.

use super::actors::has_power;
use super::calls::{Answer, Call, ask};
use super::{Known, Refusals};
use crate::audit::AuditEntry;
use crate::contract::kit::AUDIT;
use crate::contract::memory::MemoryStore;
use crate::policy::PolicyStore;
use crate::store::{Store, StoreError};

/// How many calls a sequence has.
const CALLS: usize = 65;

/// Puts a fresh store through one sequence of calls, and reads all of it at the end.
pub async fn agrees_with_the_model(store: &dyn Store, seed: u64, refusals: &mut Refusals) {
    let model = MemoryStore::default();
    let mut known = Known::new(seed);
    let beginning = if known.random.chance(75) { known.beginning() } else { Vec::new() };
    for call in beginning {
        let _ = compare(store, &model, call, &AUDIT, (seed, 0)).await;
    }
    for step in 0..CALLS {
        let head = model.log_head().await.expect("the model answers");
        let call = known.call(head);
        let Some(change) = call.change() else {
            let _ = compare(store, &model, call, &AUDIT, (seed, step)).await;
            continue;
        };
        let mut by = known.actor();
        // A change of the policy names the one that it replaces.
        let replaces_policy = matches!(call, Call::SetPolicy(..));
        let present = model.policy().await.expect("the model answers").seq;
        let judged_by = known.judged_by(present).filter(|_| !replaces_policy);
        if let Some(seq) = judged_by {
            by.actor = by.actor.under_policy(seq);
        }
        let had = by.actor.power().is_some_and(|power| known.acted.contains(power));
        let has_power = has_power(store, &by).await;
        if has_power {
            let answer = compare(store, &model, call, &by, (seed, step)).await;
            let is_refused = matches!(answer, Err(StoreError::Powerless(_)));
            assert!(!is_refused, "sequence {seed}, call {step}: {by:?} may do {change}: {answer:?}");
            let is_outdated = matches!(answer, Err(StoreError::PolicyChanged));
            let holds = judged_by.is_none_or(|seq| seq == present);
            assert_eq!(
                is_outdated, !holds,
                "sequence {seed}, call {step}: {change} under {judged_by:?} of {present}"
            );
            if judged_by.is_some() {
                refusals.note_policy(holds);
            }
            if by.actor.power().is_some() {
                refusals.note(change, None);
            }
            known.keep(&by);
        } else {
            let before = (ends(store).await, state(&model, &known).await);
            let answer = compare(store, &model, call, &by, (seed, step)).await;
            let Err(why @ StoreError::Powerless(_)) = &answer else {
                panic!("sequence {seed}, call {step}: {by:?} has no power for {change}: {answer:?}");
            };
            refusals.note(change, Some((why, had)));
            let after = (ends(store).await, state(&model, &known).await);
            assert!(
                before == after,
                "sequence {seed}, call {step}: {change} was refused and changed something"
            );
        }
    }
    let head = model.log_head().await.expect("the model answers");
    for call in known.everything(head) {
        let _ = compare(store, &model, call, &AUDIT, (seed, CALLS)).await;
    }
}

/// How far a store's logs go: no change leaves them as they are. What it holds beside them is
/// compared in the end.
async fn ends(store: &dyn Store) -> (Answer, Answer) {
    let read = async |call| ask(store, call, &AUDIT).await.expect("reads");
    (read(Call::LogHead).await, read(Call::AuditEnds).await)
}

/// All that the model holds.
async fn state(model: &MemoryStore, known: &Known) -> Vec<Answer> {
    let mut state = Vec::new();
    for call in known.reads() {
        state.push(ask(model, call, &AUDIT).await.expect("reads"));
    }
    state
}

async fn compare(
    store: &dyn Store,
    model: &MemoryStore,
    call: Call,
    by: &AuditEntry,
    (seed, step): (u64, usize),
) -> Result<Answer, StoreError> {
    let expected = ask(model, call.clone(), by).await.map_err(|error| error.to_string());
    let answer = ask(store, call.clone(), by).await;
    assert_eq!(
        answer.as_ref().map_err(ToString::to_string),
        expected.as_ref().map_err(Clone::clone),
        "sequence {seed}, call {step}: the store (left) and the model (right) differ on {call:?}"
    );
    answer
}
