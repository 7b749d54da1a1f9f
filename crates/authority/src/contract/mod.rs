//! The suite that every store must pass: stories of what [`Store`](crate::Store) promises, each on
//! a fresh store, and random sequences of changes that are held against a plain model
//! ([`MemoryStore`]).
//!
//! A store runs all of it with one line, and each story is a test of its own:
//!
//! ```text
//! async fn fresh() -> impl Deref<Target = MyStore> { … }
//! trustrelay_authority::store_contract!(fresh);
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a story that cannot go on fails")]

pub mod accounts;
pub mod activity;
pub mod admin;
pub mod admin_pats;
pub mod audit;
pub mod audit_log;
mod gate;
mod kit;
pub mod leases;
pub mod log;
mod memory;
pub mod model;
mod nodes;
pub mod notices;
pub mod pages;
pub mod policy;
pub mod power;
pub mod rekeying;
pub mod rotation;
pub mod secrets;
pub mod sessions;
pub mod tokens;
pub mod told_revocations;
pub mod unused;

pub use gate::Gate;
pub use kit::AUDIT;
pub use memory::{AuditRows, MemoryStore};

/// Makes a test of each story. `$fresh` is the name of an `async fn()` that answers a new, empty
/// store, or what derefs to it.
#[macro_export]
macro_rules! store_contract {
    ($fresh:ident) => {
        $crate::store_contract! { @stories $fresh
            accounts {
                an_account_reads_back_by_id_and_by_address
                a_taken_address_is_refused_and_changes_nothing
                the_first_account_is_made_once
                of_many_first_accounts_one_is_made
                accounts_are_listed_oldest_first
                disabling_ends_the_sessions_of_that_account_alone
                disabling_again_changes_nothing_and_names_the_first_entry
                enabling_is_an_entry_of_its_own
                what_never_was_disabled_is_enabled_by_entry_zero
                a_new_password_ends_all_sessions_but_one
                a_new_password_without_one_to_keep_ends_all
                nobody_has_no_password_and_no_state
            }
            tokens {
                a_token_reads_back_whole
                an_unknown_token_is_not_found
                nobody_and_a_disabled_account_get_no_token
                a_child_of_an_active_parent_is_added
                a_child_of_a_revoked_expired_unknown_or_foreign_parent_is_refused
                the_limit_counts_the_active_tokens_of_that_account
                the_limit_holds_when_many_come_at_once
                active_tokens_are_listed_newest_first
                a_token_is_active_until_the_microsecond_it_expires
                revoking_is_one_entry_that_names_the_token
                revoking_again_gives_the_first_outcome
                of_many_revocations_at_once_one_is_the_first
                revoking_a_parent_revokes_its_tree_in_one_entry
                many_tokens_are_revoked_in_one_entry
                of_many_tokens_those_that_stand_are_revoked
                many_who_revoke_many_at_once_all_come_to_their_end
                revoking_a_child_leaves_its_parent_and_siblings
                what_was_revoked_before_keeps_its_own_time
                an_expired_token_is_revoked_like_any_other
                no_child_escapes_a_revocation_that_comes_at_the_same_time
                the_last_use_never_goes_back
                unknown_tokens_uses_are_passed_over
            }
            told_revocations {
                a_token_s_notice_is_there_with_its_revocation
                what_stood_no_more_tells_nobody
                what_descends_from_a_token_is_told_of_only_if_it_was_asked_for
                what_was_told_before_is_revoked_and_not_told_again
                a_disabled_account_s_token_is_revoked_and_nobody_is_told
                of_many_who_revoke_a_token_at_once_one_tells
                who_revokes_and_tells_in_another_order_comes_to_an_end
            }
            unused {
                what_a_token_is_held_to_reads_back
                a_token_is_unused_when_its_days_have_gone_by_since_it_was_used_or_made
                what_is_not_held_to_being_used_is_never_unused
                as_long_as_a_child_is_used_so_is_its_parent
                a_policy_s_days_hold_for_every_token_and_never_lengthen_its_own
                unused_tokens_are_found_by_their_days_whenever_they_end
            }
            activity {
                calls_read_back_newest_first
                sums_of_the_same_day_tool_and_outcome_are_added_up
                past_the_tools_that_have_a_place_a_day_s_others_are_one
                of_the_single_calls_the_newest_stay
                who_looks_from_a_day_on_sees_nothing_earlier
                what_is_old_is_forgotten_and_nothing_else
                calls_of_unknown_tokens_are_passed_over
                notes_that_come_at_once_are_all_counted
                where_a_token_was_last_used_from_is_kept_until_it_is_known_better
                networks_are_kept_with_their_first_and_last_use
                of_a_tokens_networks_the_latest_used_stay
                networks_that_were_not_used_since_are_forgotten
            }
            admin {
                an_invitation_reads_back_until_it_expires
                a_second_invitation_of_an_address_takes_the_place_of_the_first
                an_invitation_of_an_account_or_beyond_the_limit_is_refused
                an_invitation_is_accepted_once
                of_many_who_accept_at_once_one_does
                what_cannot_be_accepted_any_more_makes_no_account
                an_invitation_is_taken_back_once
                an_account_s_role_and_upstreams_are_changed_by_entries_of_the_log
                narrowing_upstreams_never_adds_one
                what_is_so_already_and_who_is_not_there_make_no_entry
                the_last_administrator_stays
                of_many_administrators_who_go_at_once_one_stays
                people_are_listed_page_by_page
                people_are_found_by_address_role_and_state
            }
            policy {
                a_policy_is_changed_by_entries_of_the_log
                a_policy_that_was_changed_since_is_not_replaced
                of_many_who_change_a_policy_at_once_one_does
                what_was_judged_by_a_policy_that_was_replaced_is_refused
                no_token_that_an_old_policy_allowed_comes_after_a_new_one
            }
            power {
                what_begins_with_power_and_ends_without_it_changes_nothing
                whoever_has_power_changes_what_there_is
                an_actor_may_end_its_own_power
                no_token_outlives_the_one_that_it_was_made_with
                of_two_who_take_power_from_each_other_one_does
            }
            admin_pats {
                everybody_s_tokens_are_listed_page_by_page
                tokens_are_found_by_owner_and_by_how_the_name_begins
                tokens_are_found_by_state_end_and_last_use
                tokens_are_counted_up_to_a_bound
                when_tokens_end_or_were_used_is_asked_of_those_that_are_not_revoked
                tokens_are_found_by_their_hint
                pages_in_every_order_leave_no_token_out
            }
            pages {
                every_place_in_a_list_leads_to_what_is_behind_it
                every_place_in_the_audit_log_leads_to_what_is_behind_it
            }
            audit {
                each_change_is_told_once
                what_changes_nothing_is_not_told
                an_entry_reads_back_byte_for_byte
                entries_that_come_at_once_are_chained_without_gaps
            }
            audit_log {
                pages_go_on_where_they_ended
                a_filter_finds_what_fits_and_nothing_else
                the_ends_are_those_of_the_chain
                seals_are_kept_once_and_read_in_order
                the_oldest_entries_are_cut_off_and_the_chain_goes_on
                the_last_entry_is_never_cut_off
                cuts_at_once_cut_each_entry_off_once
            }
            rotation {
                a_rotated_token_has_another_secret_and_stays_itself
                an_old_secret_is_good_no_longer_than_its_token_was
                what_is_not_active_or_has_another_secret_is_not_rotated
                of_many_rotations_at_once_one_is_made
                rotating_again_ends_the_secret_before_the_last
                revoking_names_every_secret_that_the_token_had
                a_secret_that_has_ended_is_marked_as_such
                the_first_use_ends_the_secret_before
                what_else_ends_a_secret_before_its_successor_is_used_is_known_too
                a_rotation_reads_back_until_it_is_forgotten
                the_use_of_a_retired_secret_is_noted_and_told_now_and_then
                of_the_retired_secrets_the_latest_stay
            }
            rekeying {
                a_rekeyed_token_is_found_by_every_digest_that_it_had
                what_changed_meanwhile_is_not_rekeyed
                a_revocation_names_the_digests_from_before_a_rekeying
                a_rotation_retires_the_digests_from_before_a_rekeying
                what_hangs_on_each_key_is_counted
            }
            sessions {
                a_session_reads_back_with_its_account
                nobody_and_a_disabled_account_get_no_session
                a_session_ends_once
                all_sessions_end_but_the_one_to_keep
                expired_sessions_are_swept_and_no_others
            }
            log {
                the_log_begins_empty
                entries_are_numbered_without_gaps_in_the_order_of_their_changes
                changes_at_once_get_numbers_without_gaps
                what_is_refused_takes_no_number
                a_thousand_entries_come_at_a_time
                the_log_is_read_without_a_lease
            }
            leases {
                a_lease_is_held_at_the_head_alone
                whoever_holds_a_lease_and_lacks_the_entry_is_behind
                a_refused_renewal_leaves_the_lease_as_it_was
                nodes_are_listed_with_what_is_left_of_their_lease
                what_was_ended_on_the_other_nodes_is_known
                a_lease_that_is_given_up_counts_no_more
                a_lease_is_held_until_it_is_let_go
                letting_go_spares_who_has_renewed_since
                whoever_was_let_go_takes_its_lease_again_at_the_head_alone
                a_look_says_which_claim_holds_and_for_how_long
            }
            notices {
                a_webhook_reads_back_whole_and_is_its_account_s_alone
                nobody_and_a_disabled_account_get_no_webhook
                there_is_a_limit_to_an_account_s_webhooks_and_to_those_for_all
                the_limit_of_webhooks_holds_when_many_come_at_once
                a_webhook_is_removed_once_and_what_is_pending_for_it_is_given_up
                a_notice_reads_back_with_a_way_to_each_place
                a_notice_is_made_once_however_many_tell_of_it
                nobody_and_a_disabled_account_are_told_nothing
                what_is_for_one_webhook_goes_to_no_other
                what_is_due_is_claimed_once_until_the_claim_runs_out
                of_many_claims_at_once_each_gets_its_own
                a_claim_of_one_notice_takes_no_other
                how_a_try_went_is_written_down_by_whoever_has_the_last_claim
                what_goes_to_a_webhook_that_is_gone_says_so
                notices_are_listed_newest_first_and_page_by_page
                old_notices_are_forgotten_with_their_ways
                tokens_near_their_end_are_found_until_they_are_told_of
                tokens_of_no_use_are_not_told_of_their_end
                tokens_are_counted_by_their_end
            }
            secrets {
                the_first_secret_is_bound_for_good
                of_many_secrets_at_once_one_is_bound
                a_store_learns_a_new_secret_and_never_goes_back
                the_store_answers
            }
        }

        #[tokio::test]
        async fn random_sequences_are_answered_as_the_model_answers_them() {
            let mut refusals = $crate::contract::model::Refusals::default();
            for seed in 0..$crate::contract::model::SEQUENCES {
                let store = $fresh().await;
                $crate::contract::model::agrees_with_the_model(&*store, seed, &mut refusals).await;
            }
            refusals.assert_enough();
        }
    };
    (@stories $fresh:ident $($group:ident { $($story:ident)* })*) => {$(
        mod $group {
            use super::$fresh;

            $(
                #[tokio::test]
                async fn $story() {
                    let store = $fresh().await;
                    $crate::contract::$group::$story(&*store).await;
                }
            )*
        }
    )*};
}

#[cfg(test)]
mod tests {
    /// A story that is in no store's tests would promise nothing.
    #[test]
    fn every_story_is_in_the_list() {
        let list = include_str!("mod.rs");
        let listed: Vec<&str> = list.split_whitespace().collect();
        let mut stories = 0;
        for text in [
            include_str!("accounts.rs"),
            include_str!("activity.rs"),
            include_str!("admin.rs"),
            include_str!("admin_pats.rs"),
            include_str!("notices.rs"),
            include_str!("policy.rs"),
            include_str!("power.rs"),
            include_str!("audit.rs"),
            include_str!("audit_log.rs"),
            include_str!("tokens.rs"),
            include_str!("told_revocations.rs"),
            include_str!("unused.rs"),
            include_str!("rekeying.rs"),
            include_str!("rotation.rs"),
            include_str!("sessions.rs"),
            include_str!("log.rs"),
            include_str!("leases.rs"),
            include_str!("secrets.rs"),
        ] {
            for story in text.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
                let name = story.split('(').next().unwrap_or_default();
                assert!(listed.contains(&name), "the story {name} is not in store_contract!");
                stories += 1;
            }
        }
        assert!(stories > 40, "only {stories} stories were found");
    }
}
