//! The policy, as it is told to whoever makes a token or rotates one.

use maud::{Markup, html};
use trustrelay_authority::Policy;
use trustrelay_token::{Scope, ScopeSet};

use crate::pages::developer::chips;

/// Whether tokens may have a scope.
pub(super) fn allows(policy: &Policy, scope: &str) -> bool {
    let allowed = policy.allowed_scopes.as_ref();
    allowed.is_none_or(|allowed| scope.parse::<Scope>().is_ok_and(|scope| allowed.allows(&scope)))
}

/// Whether another scope of the set covers this one, so that it allows nothing more.
pub(super) fn is_covered(scopes: &ScopeSet, scope: &Scope) -> bool {
    scopes.iter().any(|other| other != scope && other.covers(scope))
}

/// Which scopes there are to choose from, if not all.
pub(super) fn scopes_note(policy: &Policy) -> Markup {
    html! {
        @if let Some(allowed) = &policy.allowed_scopes {
            @let widest = allowed.iter().filter(|scope| !is_covered(allowed, scope)).cloned().collect();
            "The policy limits new tokens to " (chips(&widest)) ". "
        }
    }
}

/// What holds for every token.
pub(super) fn at_once(policy: &Policy) -> Markup {
    let Policy { unused_days, networks, .. } = policy;
    html! {
        @if unused_days.is_some() || !networks.is_empty() {
            small {
                "By policy, every token"
                @if let Some(days) = unused_days { " is revoked after " (days) @if days.get() == 1 { " day" } @else { " days" } " without use" }
                @if unused_days.is_some() && !networks.is_empty() { ", and" }
                @if !networks.is_empty() { " can be used only from " span.chips { @for network in networks { code.chip { (network.to_string()) } } } }
                "."
            }
        }
    }
}

/// How long a rotated token lives, if that is decided.
pub(super) fn life_note(policy: &Policy) -> Markup {
    html! {
        @if let Some(days) = policy.max_days {
            p.faint { "The token’s lifetime starts again. The policy limits it to " (days) @if days.get() == 1 { " day." } @else { " days." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use trustrelay_authority::AskedPolicy;

    use super::*;

    fn policy(unused_days: Option<i64>, networks: &[&str], scopes: &[&str]) -> Policy {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let asked = AskedPolicy {
            unused_days,
            networks: texts(networks),
            allowed_scopes: texts(scopes),
            ..AskedPolicy::default()
        };
        asked.read().expect("a policy")
    }

    #[test]
    fn what_holds_for_every_token_is_one_sentence() {
        let says = |days, networks: &[&str]| at_once(&policy(days, networks, &[])).into_string();
        assert_eq!(says(None, &[]), "");
        assert!(says(Some(1), &[]).contains("every token is revoked after 1 day without use."));
        assert!(says(None, &["10.0.0.0/8"]).contains("every token can be used only from <span"));
        let both = says(Some(45), &["10.0.0.0/8"]);
        assert!(
            both.contains("after 45 days without use, and can be used only from")
                && both.matches("<small").count() == 1
        );
    }

    #[test]
    fn of_the_scopes_those_are_told_that_no_other_one_covers() {
        let note = scopes_note(&policy(None, &[], &["mcp", "mcp:github/search", "api:read"])).into_string();
        assert!(note.contains(">mcp<") && note.contains(">api:read<"), "{note}");
        assert!(!note.contains("github"), "{note}");
    }
}
