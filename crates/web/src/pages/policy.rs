//! The policy, as it is told to whoever makes a token or rotates one.

use maud::{Markup, html};
use trustrelay_authority::Policy;
use trustrelay_token::Scope;

use crate::pages::developer::chips;

/// Whether tokens may have a scope.
pub(super) fn allows(policy: &Policy, scope: &str) -> bool {
    let allowed = policy.allowed_scopes.as_ref();
    allowed.is_none_or(|allowed| scope.parse::<Scope>().is_ok_and(|scope| allowed.allows(&scope)))
}

/// Which scopes there are to choose from, if not all.
pub(super) fn scopes_note(policy: &Policy) -> Markup {
    html! {
        @if let Some(allowed) = &policy.allowed_scopes {
            p.faint { "The policy here allows no more than " (chips(allowed)) " for new tokens." }
        }
    }
}

/// What holds for every token.
pub(super) fn at_once(policy: &Policy) -> Markup {
    let Policy { unused_days, networks, .. } = policy;
    html! {
        @if let Some(days) = unused_days {
            p.faint { "By the policy here a token ends when it was unused for " (days) @if days.get() == 1 { " day." } @else { " days." } }
        }
        @if !networks.is_empty() {
            p.faint {
                "By the policy here tokens may be used only from "
                span.chips { @for network in networks { code.chip { (network.to_string()) } } } "."
            }
        }
    }
}

/// How long a rotated token lives, if that is decided.
pub(super) fn life_note(policy: &Policy) -> Markup {
    html! {
        @if let Some(days) = policy.max_days {
            p.faint { "The token gets as long a life again as it had; by the policy here at most " (days) @if days.get() == 1 { " day." } @else { " days." } }
        }
    }
}
