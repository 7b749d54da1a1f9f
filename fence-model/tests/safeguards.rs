//! The protocol without one of its safeguards: the checker finds a schedule that breaks the
//! promise. A short one is told.

use stateright::{Checker, HasDiscoveries, Model};
use trustrelay_fence_model::Action::*;
use trustrelay_fence_model::{
    Action, Fence, LookUp as Read, NEVER_ACCEPTED_AFTER_THE_ANSWER, NODES,
    NOTHING_HANDED_ON_AFTER_THE_ANSWER, Safeguard,
};

/// The first token: the first node revokes it.
const ITS: usize = 0;
/// The second token: a command revokes it.
const A_COMMANDS: usize = 1;
/// The first node.
const HOME: usize = 0;
/// Another node.
const AWAY: usize = 1;
/// Time goes on.
const TICK: Action = Tick { behind: None };

const fn fence(nodes: usize, revocations: usize, without: Option<Safeguard>) -> Fence {
    Fence { nodes, revocations, lease: 2, margin: 1, without }
}

/// The checker finds a schedule; `told` is one; and with the safeguard that one is impossible, or
/// ends well.
fn breaks_without(safeguard: Safeguard, told: &[Action]) {
    breaks(NEVER_ACCEPTED_AFTER_THE_ANSWER, safeguard, told);
}

fn breaks(promise: &'static str, safeguard: Safeguard, told: &[Action]) {
    let broken = fence(2, 2, Some(safeguard));
    let checker = broken.checker().finish_when(HasDiscoveries::AnyOf([promise].into())).spawn_bfs().join();
    checker.assert_discovery(promise, told.to_vec());

    let whole = fence(2, 2, None);
    let begin = whole.init_states().remove(0);
    let end = told.iter().try_fold(begin, |state, action| whole.next_state(&state, *action));
    let promise = whole.property(promise);
    assert!(end.is_none_or(|end| (promise.condition)(&whole, &end)), "{safeguard:?} changes nothing here");
}

/// With all nodes and both revocations, too.
#[test]
fn none_of_the_safeguards_can_be_spared() {
    for safeguard in Safeguard::ALL {
        let broken = fence(NODES, 2, Some(safeguard));
        let checker = broken.checker().finish_when(HasDiscoveries::AnyFailures).threads(2).spawn_bfs().join();
        let found = [NEVER_ACCEPTED_AFTER_THE_ANSWER, NOTHING_HANDED_ON_AFTER_THE_ANSWER]
            .into_iter()
            .find_map(|promise| checker.discovery(promise));
        assert!(found.is_some(), "no schedule was found that needs {safeguard:?}");
    }
}

#[test]
fn a_revocation_that_does_not_wait_is_answered_while_a_node_trusts_its_index() {
    breaks_without(
        Safeguard::RevocationsWait,
        &[Join(AWAY), Ask(AWAY), Commit(AWAY), Hear(AWAY), Revoke(ITS), Answer(ITS)],
    );
}

#[test]
fn a_notification_that_is_lost_leaves_the_token_in_an_index() {
    breaks_without(
        Safeguard::LeasesNotNotifications,
        &[
            Join(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Hear(AWAY),
            Revoke(ITS),
            NotTold(ITS, AWAY),
            Look(ITS),
            Answer(ITS),
        ],
    );
}

#[test]
fn a_renewal_in_progress_that_is_not_waited_for_commits_after_the_answer() {
    // It was at the head when it read it; the entry came later, and nobody looked again.
    breaks_without(
        Safeguard::ShareLock,
        &[Join(AWAY), Ask(AWAY), Revoke(ITS), Look(ITS), Answer(ITS), Commit(AWAY), Hear(AWAY)],
    );
}

#[test]
fn a_renewal_of_what_was_not_held_is_overlooked_if_only_the_others_are_locked() {
    breaks_without(
        Safeguard::EveryRowLocked,
        &[Join(AWAY), Ask(AWAY), Revoke(ITS), Look(ITS), Answer(ITS), Commit(AWAY), Hear(AWAY)],
    );
}

#[test]
fn who_is_silent_trusts_its_index_for_as_long_as_its_lease() {
    breaks_without(
        Safeguard::WaitedForItsLength,
        &[Join(AWAY), Ask(AWAY), Commit(AWAY), Hear(AWAY), Revoke(ITS), Look(ITS), Answer(ITS)],
    );
}

/// It applied the first entry and renewed, while the first revocation waited for it. Then it holds
/// a lease of which the second knows nothing.
#[test]
fn who_has_renewed_since_the_look_must_not_be_let_go() {
    breaks_without(
        Safeguard::LetGoIfSilent,
        &[
            Join(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Revoke(ITS),
            Look(ITS),
            TICK,
            TICK,
            Apply(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            LetGo(ITS),
            Hear(AWAY),
            Revoke(A_COMMANDS),
            Look(A_COMMANDS),
            Answer(A_COMMANDS),
        ],
    );
}

/// Its lease is over, so nobody waits for it.
#[test]
fn a_stream_on_a_node_without_a_lease_goes_on_after_the_answer() {
    breaks(
        NOTHING_HANDED_ON_AFTER_THE_ANSWER,
        Safeguard::StreamsWait,
        &[Join(AWAY), Ask(AWAY), Commit(AWAY), Hear(AWAY), Revoke(ITS), Look(ITS), TICK, TICK, Answer(ITS)],
    );
}

/// When it was asked, nobody there knew that it is revoked; when the lease was looked at, that was
/// applied.
#[test]
fn a_standing_that_was_asked_for_before_the_lease_is_an_old_one() {
    breaks(
        NOTHING_HANDED_ON_AFTER_THE_ANSWER,
        Safeguard::LeaseBeforeStanding,
        &[
            JoinWarm(AWAY),
            Revoke(ITS),
            Look(ITS),
            Answer(ITS),
            Stands(Read { node: AWAY, token: ITS }),
            Apply(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Hear(AWAY),
        ],
    );
}

#[test]
fn a_new_node_whose_row_comes_with_its_lease_is_overlooked() {
    breaks_without(
        Safeguard::RowBeforeLease,
        &[Join(AWAY), Ask(AWAY), Revoke(ITS), Look(ITS), Answer(ITS), Commit(AWAY), Hear(AWAY)],
    );
}

#[test]
fn a_head_that_was_read_before_the_lock_is_an_old_one() {
    breaks_without(
        Safeguard::HeadReadUnderTheLock,
        &[
            Join(AWAY),
            Ask(AWAY),
            Revoke(ITS),
            Look(ITS),
            Answer(ITS),
            LockLate(AWAY),
            Commit(AWAY),
            Hear(AWAY),
        ],
    );
}

#[test]
fn an_entry_that_is_committed_behind_a_later_one_is_never_read() {
    breaks_without(
        Safeguard::NumbersInCommitOrder,
        &[
            Number(A_COMMANDS),
            Number(ITS),
            Revoke(ITS),
            Join(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Hear(AWAY),
            Revoke(A_COMMANDS),
            Look(A_COMMANDS),
            Answer(A_COMMANDS),
        ],
    );
}

#[test]
fn a_lease_that_is_measured_from_a_late_answer_lasts_too_long() {
    breaks_without(
        Safeguard::MeasuredFromTheAsking,
        &[Join(AWAY), Ask(AWAY), Commit(AWAY), Revoke(ITS), Look(ITS), TICK, TICK, Hear(AWAY), Answer(ITS)],
    );
}

#[test]
fn a_slow_clock_needs_a_margin() {
    let slow = Tick { behind: Some(AWAY) };
    breaks_without(
        Safeguard::Margin,
        &[Join(AWAY), Ask(AWAY), Commit(AWAY), Hear(AWAY), Revoke(ITS), Look(ITS), TICK, slow, Answer(ITS)],
    );
}

#[test]
fn a_clock_that_stands_still_in_sleep_wakes_up_with_a_lease_that_is_over() {
    let asleep = Tick { behind: Some(AWAY) };
    breaks_without(
        Safeguard::ClockCountsSleep,
        &[
            Join(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Hear(AWAY),
            Revoke(ITS),
            Look(ITS),
            asleep,
            asleep,
            Answer(ITS),
        ],
    );
}

#[test]
fn an_error_that_is_taken_for_a_renewal_is_none() {
    breaks_without(
        Safeguard::UnsureExtendsNothing,
        &[Join(AWAY), Ask(AWAY), Abort(AWAY), Revoke(ITS), Look(ITS), Answer(ITS)],
    );
}

#[test]
fn a_look_up_from_before_the_revocation_brings_the_token_back() {
    breaks_without(
        Safeguard::AdmissionByEpoch,
        &[
            Join(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Hear(AWAY),
            LookUp(Read { node: AWAY, token: ITS }),
            Revoke(ITS),
            Apply(AWAY),
            Ask(AWAY),
            Commit(AWAY),
            Look(ITS),
            Answer(ITS),
            Admit,
        ],
    );
}

#[test]
fn a_node_without_a_lease_must_not_believe_its_index() {
    breaks_without(Safeguard::LapsedAskTheStore, &[Revoke(ITS), Look(ITS), Answer(ITS)]);
}

#[test]
fn a_node_without_a_lease_must_not_join_what_others_have_read() {
    breaks_without(
        Safeguard::LapsedAskAlone,
        &[LookUp(Read { node: AWAY, token: ITS }), Revoke(ITS), Look(ITS), Answer(ITS)],
    );
}

#[test]
fn a_node_that_joins_with_a_warm_index_has_not_applied_the_log() {
    breaks_without(
        Safeguard::JoinsWithAnEmptyIndex,
        &[Revoke(ITS), Join(AWAY), Ask(AWAY), Commit(AWAY), Hear(AWAY), Look(ITS), Answer(ITS)],
    );
}

#[test]
fn a_clock_of_the_database_that_jumps_ahead_ends_leases_that_are_still_trusted() {
    breaks_without(
        Safeguard::NoClockOfTheDatabase,
        &[Join(AWAY), Ask(AWAY), Commit(AWAY), Hear(AWAY), Jump, Revoke(ITS), Look(ITS), Answer(ITS)],
    );
}

#[test]
fn a_standby_without_the_last_commit_forgets_what_was_answered() {
    breaks_without(Safeguard::CommitsSurviveFailover, &[Revoke(ITS), Look(ITS), Answer(ITS), LoseLastCommit]);
}

/// The notification is a hint, so that it is quick: nothing changes if it is late, or comes twice.
#[test]
fn the_first_node_needs_no_notification_for_what_it_revokes_itself() {
    let whole = fence(2, 1, None);
    let told = [Join(HOME), Ask(HOME), Commit(HOME), Hear(HOME), Revoke(ITS)];
    let begin = whole.init_states().remove(0);
    let waits =
        told.iter().try_fold(begin, |state, action| whole.next_state(&state, *action)).expect("it goes");
    assert_eq!(whole.next_state(&waits, Look(ITS)), None, "it has not applied its own entry");
    let applied = whole.next_state(&waits, Apply(HOME)).expect("it reads its entry");
    assert!(whole.next_state(&applied, Look(ITS)).is_some(), "nor does it ask after its own row");
}
