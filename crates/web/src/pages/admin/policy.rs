//! `/admin/policy`: what all tokens are held to.

use std::net::IpAddr;
use std::num::NonZeroU16;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{
    AskedPolicy, AuthorityError, By, MAX_DAYS, MAX_UNUSED_DAYS, Policy, PolicyChange, PolicyState,
};
use trustrelay_token::ScopeSet;

use crate::body::{Filled, Sent};
use crate::credential::From;
use crate::error::ApiError;
use crate::extract::Asked;
use crate::pages::amounts::counted;
use crate::pages::developer::{API_SCOPES, MCP_SCOPES};
use crate::pages::layout::{self, Problem, Tab, field_problem, invalid};
use crate::pages::limits::{number, words};
use crate::pages::policy::is_covered;
use crate::pages::{Person, failed};
use crate::state::AppState;

/// The fields that show what is wrong with them.
const FIELDS: [&str; 5] = ["max_days", "default_days", "allowed_scopes", "unused_days", "allowed_networks"];

/// The form, as it was filled in.
#[derive(Default)]
struct Form {
    max_days: String,
    default_days: String,
    scopes: Vec<String>,
    more: String,
    unused_days: String,
    networks: String,
    version: Option<u64>,
    ends: Option<u64>,
}

impl Form {
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut form = Self::default();
        for (field, value) in pairs {
            match field.as_str() {
                "max_days" => form.max_days = value,
                "default_days" => form.default_days = value,
                "scope" => form.scopes.push(value),
                "scope_more" => form.more = value,
                "unused_days" => form.unused_days = value,
                "allowed_networks" => form.networks = value,
                // What is no version was never one.
                "version" => form.version = Some(value.parse().unwrap_or(u64::MAX)),
                "ends_tokens" => form.ends = value.parse().ok(),
                _ => {}
            }
        }
        form
    }

    fn showing(PolicyState { record, .. }: &PolicyState, offered: &[String]) -> Self {
        let policy = &record.policy;
        let days = |days: Option<NonZeroU16>| days.map(|days| days.to_string()).unwrap_or_default();
        let scopes = policy.allowed_scopes.iter().flat_map(ScopeSet::iter).map(ToString::to_string);
        let (scopes, more): (Vec<_>, Vec<_>) = scopes.partition(|scope| offered.contains(scope));
        let networks: Vec<_> = policy.networks.iter().map(ToString::to_string).collect();
        Self {
            max_days: days(policy.max_days),
            default_days: days(policy.default_days),
            scopes,
            more: more.join(" "),
            unused_days: days(policy.unused_days),
            networks: networks.join(" "),
            version: Some(record.seq),
            ends: None,
        }
    }

    fn read(&self) -> Result<PolicyChange, AuthorityError> {
        let scopes = self.scopes.iter().cloned().chain(words(&self.more));
        let asked = AskedPolicy {
            max_days: number(&self.max_days),
            default_days: number(&self.default_days),
            allowed_scopes: scopes.collect(),
            unused_days: number(&self.unused_days),
            networks: words(&self.networks),
        };
        Ok(PolicyChange { policy: asked.read()?, replaces: self.version, ends: self.ends })
    }
}

/// What stands over the form.
enum Over<'a> {
    Nothing,
    Done,
    Problem(&'a ApiError),
    /// So many tokens end with it, which somebody has to say that they want, and where they are
    /// listed.
    Confirm(u64, String),
}

#[derive(Deserialize)]
pub(crate) struct Came {
    /// The version that was decided a moment ago.
    changed: Option<u64>,
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    From(address): From,
    Asked(came): Asked<Came>,
) -> Response {
    match state.authority.policy(&browser.by).await {
        Ok(policy) => {
            let form = Form::showing(&policy, &offered(&state));
            let is_done = came.changed == Some(policy.record.seq);
            let over = if is_done { Over::Done } else { Over::Nothing };
            page(&state, &browser.by, address, &policy, &form, &over).into_response()
        }
        Err(error) => failed(error.into()),
    }
}

pub(crate) async fn change(
    State(state): State<AppState>,
    From(address): From,
    Sent(Person(browser), Filled(pairs)): Sent<Person, Filled<Vec<(String, String)>>>,
) -> Response {
    let by = &browser.by;
    if let Err(error) = state.authority.may_change_policy(by) {
        return failed(error.into());
    }
    let mut form = Form::of(pairs);
    let changed = match form.read() {
        Ok(change) => state.authority.change_policy(by, change).await,
        Err(error) => Err(error),
    };
    let error = match changed {
        // Loaded again, the page does not decide again what was decided.
        Ok(policy) => {
            return Redirect::to(&format!("/admin/policy?changed={}", policy.record.seq)).into_response();
        }
        Err(error) => error,
    };
    let policy = match state.authority.policy(by).await {
        Ok(policy) => policy,
        Err(error) => return failed(error.into()),
    };
    if let AuthorityError::TooManyEnd { days, tokens } = error {
        form.ends = None;
        let over = Over::Confirm(tokens, unused(i64::from(days), state.authority.clock().now()));
        let page = page(&state, by, address, &policy, &form, &over);
        return ApiError::from(error).with_body(page);
    }
    // Who has not seen what somebody else decided meanwhile sees that, and begins from there.
    if matches!(error, AuthorityError::Conflict(_)) {
        form = Form::showing(&policy, &offered(&state));
    }
    let error = ApiError::from(error);
    let page = page(&state, by, address, &policy, &form, &Over::Problem(&error));
    error.with_body(page)
}

/// The scopes that have a box of their own.
fn offered(state: &AppState) -> Vec<String> {
    let fixed = MCP_SCOPES.iter().chain(&API_SCOPES).map(|(scope, _)| (*scope).to_owned());
    let upstreams = state.relay.upstreams().into_iter().map(|upstream| format!("mcp:{}", upstream.name));
    fixed.chain(["rotate".to_owned()]).chain(upstreams).collect()
}

fn page(
    state: &AppState,
    by: &By,
    address: Option<IpAddr>,
    policy: &PolicyState,
    form: &Form,
    over: &Over<'_>,
) -> Markup {
    layout::settings(
        "Policy",
        by,
        Tab::Policy,
        html! {
            h1 { "Policy" }
            p.lead { "Rules for all tokens. Leave a field empty for no limit." }
            @match over {
                Over::Nothing => {}
                Over::Done => { p.done role="status" { "The policy is saved and applies on every node." } }
                Over::Problem(error) => { (layout::problem(Some(*error), &FIELDS)) }
                Over::Confirm(..) => {}
            }
            (standing(policy, address, state.authority.clock().now()))
            (fields(form, &offered(state), over))
        },
    )
}

/// How many there are, as far as that is counted.
fn number_of(tokens: u64) -> String {
    if tokens > 10_000 {
        "More than 10,000 active tokens".to_owned()
    } else {
        counted(tokens, "active token")
    }
}

/// Where the tokens are listed that have not been used for so many days.
fn unused(days: i64, now: Timestamp) -> String {
    let since = now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN);
    format!("/admin/tokens?unused_since={since:.0}")
}

/// What the policy does just now.
fn standing(
    PolicyState { record, unused: tokens }: &PolicyState,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Markup {
    let Policy { unused_days, networks, .. } = &record.policy;
    let is_outside = address.is_none_or(|address| !networks.iter().any(|net| net.contains(address)));
    html! {
        @if let Some(days) = unused_days {
            @if *tokens == 0 { p.faint { "Every active token was used within " (counted(days.get().into(), "day")) "." } }
            @else {
                p.due {
                    strong { (number_of(*tokens)) }
                    @if *tokens == 1 { " has" } @else { " have" } " not been used for " (counted(days.get().into(), "day"))
                    @if *tokens == 1 { " and will be revoked soon. " a href=(unused(days.get().into(), now)) { "View it" } "." }
                    @else { " and will be revoked soon. " a href=(unused(days.get().into(), now)) { "View them" } "." }
                }
            }
        }
        @if !networks.is_empty() && is_outside {
            p.due {
                "Your address is outside the allowed IP ranges"
                @if let Some(address) = address { " (" (address) ")" }
                ". Tokens are refused from there. This page works from any address."
            }
        }
    }
}

fn fields(form: &Form, offered: &[String], over: &Over<'_>) -> Markup {
    let problem = match over {
        Over::Problem(error) => Some(Problem::from(*error)),
        _ => None,
    };
    let wrong = |field| invalid(problem, field);
    html! {
        section.card aria-labelledby="rules" {
            h2 #rules { "Rules" }
            form.stack method="post" action="/admin/policy" aria-describedby=[problem.map(|_| "problem")] {
                @if let Some(version) = form.version { input type="hidden" name="version" value=(version); }
                @if let Over::Confirm(tokens, list) = over { (confirm(*tokens, &form.unused_days, list)) }
                fieldset {
                    legend { "New tokens" }
                    div.pair {
                        label {
                            "Maximum lifetime (days)"
                            input type="number" name="max_days" value=(form.max_days) min="1" max=(MAX_DAYS) inputmode="numeric" placeholder=(MAX_DAYS) aria-invalid=[wrong("max_days")] autofocus[wrong("max_days").is_some()];
                            (field_problem(problem, "max_days"))
                            small { "Counted from when a token is created or rotated. Existing tokens keep their expiry date." }
                        }
                        label {
                            "Default lifetime (days)"
                            input type="number" name="default_days" value=(form.default_days) min="1" max=(MAX_DAYS) inputmode="numeric" aria-invalid=[wrong("default_days")] autofocus[wrong("default_days").is_some()];
                            (field_problem(problem, "default_days"))
                            small { "Used when no lifetime is chosen. Cannot exceed the maximum." }
                        }
                    }
                }
                fieldset aria-describedby="scopes-note" {
                    legend { "Permissions of new tokens" }
                    small #scopes-note { "If none are selected, all are allowed. A permission includes the ones it covers: " code { "mcp" } " includes every tool, " code { "api" } " includes reading." }
                    (field_problem(problem, "allowed_scopes"))
                    div.pair {
                        div.group role="group" aria-labelledby="scope-boxes" {
                            p #scope-boxes { "Allow only" }
                            @for scope in offered {
                                label.choice {
                                    input type="checkbox" name="scope" value=(scope) checked[form.scopes.contains(scope)];
                                    span { code { (scope) } }
                                }
                            }
                        }
                        label {
                            "Other permissions (advanced)"
                            input type="text" name="scope_more" value=(form.more) placeholder="mcp:github/search" autocomplete="off" spellcheck="false" aria-invalid=[wrong("allowed_scopes")] autofocus[wrong("allowed_scopes").is_some()];
                            small { "Separated by spaces." (spare(form)) }
                        }
                    }
                }
                fieldset {
                    legend { "All tokens, effective immediately" }
                    div.pair {
                        label {
                            "Revoke after days without use"
                            input type="number" name="unused_days" value=(form.unused_days) min="1" max=(MAX_UNUSED_DAYS) inputmode="numeric" aria-invalid=[wrong("unused_days")] autofocus[wrong("unused_days").is_some()];
                            (field_problem(problem, "unused_days"))
                            small { "For tokens that were never used, days count from creation. Revoked tokens cannot be restored." }
                        }
                        label {
                            "Allowed IP ranges"
                            input type="text" name="allowed_networks" value=(form.networks) placeholder="10.0.0.0/8 2001:db8::/32" autocomplete="off" spellcheck="false" aria-invalid=[wrong("allowed_networks")] autofocus[wrong("allowed_networks").is_some()];
                            (field_problem(problem, "allowed_networks"))
                            small { "Separated by spaces. Tokens are refused from other addresses; signing in is not affected." }
                        }
                    }
                }
                button type="submit" { "Change the policy" }
            }
        }
    }
}

/// The scopes that another one covers, if there are any: they allow nothing more.
fn spare(form: &Form) -> Markup {
    let scopes = form.scopes.iter().cloned().chain(words(&form.more)).collect::<Vec<_>>().join(" ");
    let scopes: ScopeSet = scopes.parse().unwrap_or_default();
    let spare: Vec<_> = scopes.iter().filter(|scope| is_covered(&scopes, scope)).collect();
    html! {
        @for (at, scope) in spare.iter().enumerate() { @if at > 0 { ", " } @else { " " } code { (scope) } }
        @if !spare.is_empty() { @if spare.len() == 1 { " is" } @else { " are" } " already included in another permission." }
    }
}

fn confirm(tokens: u64, days: &str, list: &str) -> Markup {
    html! {
        div.problem role="alert" {
            p {
                strong { (number_of(tokens)) } @if tokens == 1 { " has" } @else { " have" } " not been used for " (days) @if days.trim() == "1" { " day" } @else { " days" } ". With this policy "
                @if tokens == 1 { "it" } @else { "they" } " will be revoked, and cannot be restored. Nothing has been changed yet. "
                // Beside this form, which is filled in.
                a href=(list) target="_blank" { "View " @if tokens == 1 { "it" } @else { "them" } " in a new tab" } "."
            }
            label.choice {
                input type="checkbox" name="ends_tokens" value=(tokens) required;
                span { "Revoke " @if tokens == 1 { "it" } @else { "them" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Form {
        Form::of(pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn an_empty_form_decides_nothing() {
        let change = pairs(&[("max_days", ""), ("unused_days", " "), ("scope_more", ""), ("version", "0")]);
        let change = change.read().expect("reads");
        assert_eq!((change.policy, change.replaces, change.ends), (Policy::default(), Some(0), None));
    }

    #[test]
    fn a_policy_comes_back_as_the_form_that_makes_it() {
        let filled = pairs(&[
            ("max_days", "90"),
            ("default_days", "30"),
            ("scope", "api:read"),
            ("scope_more", "mcp:github/search"),
            ("unused_days", "45"),
            ("allowed_networks", "10.0.0.0/8, 2001:db8::/32"),
            ("version", "7"),
        ]);
        let change = filled.read().expect("reads");
        let record = trustrelay_authority::PolicyRecord { seq: 7, policy: change.policy.clone() };
        let shown = Form::showing(&PolicyState { record, unused: 0 }, &["api:read".to_owned()]);
        assert_eq!((&shown.scopes, &*shown.more), (&vec!["api:read".to_owned()], "mcp:github/search"));
        assert_eq!(shown.read().expect("reads").policy, change.policy);
    }

    #[test]
    fn a_scope_that_another_one_covers_is_pointed_out() {
        let says =
            |scope: &str, more: &str| spare(&pairs(&[("scope", scope), ("scope_more", more)])).into_string();
        let one = says("mcp", "mcp:github/search api:read");
        assert_eq!(one, " <code>mcp:github/search</code> is already included in another permission.");
        assert!(
            says("mcp", "mcp:a mcp:b")
                .contains("<code>mcp:a</code>, <code>mcp:b</code> are already included")
        );
        for apart in ["mcp:github", "tokens", "launch-rockets", ""] {
            assert_eq!(says("api:read", apart), "", "{apart}");
        }
    }

    #[test]
    fn what_is_wrong_comes_back_to_be_corrected_and_stays_text() {
        let wrong = pairs(&[("max_days", "many"), ("allowed_networks", "\"><b>"), ("version", "x")]);
        assert!(wrong.read().is_err());
        let page = fields(&wrong, &[], &Over::Problem(&ApiError::bad_request("no"))).into_string();
        assert!(!page.contains("<b>") && page.contains("value=\"many\""), "{page}");
    }

    #[test]
    fn what_ends_tokens_says_how_many_and_asks() {
        let list = unused(9, "2026-04-10T07:00:00Z".parse().expect("a time"));
        let page = fields(&pairs(&[("unused_days", "9")]), &[], &Over::Confirm(12, list)).into_string();
        assert!(page.contains("12 active tokens</strong> have not been used for 9 days"), "{page}");
        assert!(page.contains("href=\"/admin/tokens?unused_since=2026-04-01T07:00:00Z\""), "{page}");
        assert!(page.contains("name=\"ends_tokens\" value=\"12\" required"), "{page}");
    }
}
