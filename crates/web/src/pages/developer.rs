//! `/settings/developer`: the tokens; and the new one, once.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{
    AuthorityError, By, DUE_SOON_DAYS, Expiry, NewPat, PatRecord, Policy, is_due_soon,
};
use trustrelay_token::ScopeSet;

use crate::body::{self, Sent};
use crate::credential::host_of;
use crate::error::ApiError;
use crate::extract;
use crate::pages::layout::{self, Problem, Tab, field_problem, invalid};
use crate::pages::limits;
use crate::pages::once::{self, Once};
use crate::pages::policy;
use crate::pages::snippets::snippets;
use crate::pages::time::{ago, day, days_left};
use crate::pages::{Person, failed};
use crate::state::AppState;

const PATH: &str = "/settings/developer";
/// The fields that show what is wrong with them.
const FIELDS: [&str; 3] = ["pat_name", "expires_in_days", "pat_scope"];
/// From how many days before its expiry a token that is due soon is marked as urgent.
const VERY_SOON: i64 = 7;

pub(super) const MCP_SCOPES: [(&str, &str); 2] =
    [("mcp", "All tools on all servers"), ("mcp:read", "Read-only tools")];
pub(super) const API_SCOPES: [(&str, &str); 3] =
    [("api:read", "Read account data"), ("api", "Read and change account data"), ("tokens", "Manage tokens")];
const LIVES: [i64; 5] = [7, 30, 90, 180, 365];

/// What the form was filled in with.
#[derive(Default)]
struct Filled {
    name: String,
    scopes: Vec<String>,
    more: String,
    days: Option<i64>,
    limits: limits::Filled,
}

impl Filled {
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut filled = Self::default();
        for (field, value) in pairs {
            match field.as_str() {
                "pat_name" => filled.name = value,
                "scope" => filled.scopes.push(value),
                "scope_more" => filled.more = value,
                // What is no number is refused as 0 days is.
                "expires_in_days" => filled.days = Some(value.parse().unwrap_or(0)),
                field => filled.limits.take(field, &value),
            }
        }
        filled
    }

    fn scope(&self) -> String {
        format!("{} {}", self.scopes.join(" "), self.more)
    }
}

#[derive(Deserialize)]
pub(crate) struct Came {
    revoked: Option<String>,
}

/// A token that was made a moment ago.
#[derive(Serialize, Deserialize)]
struct Made {
    name: String,
    token: String,
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    parts: Parts,
    extract::Asked(came): extract::Asked<Came>,
    once: Once,
) -> Response {
    let filled = Filled { scopes: vec!["mcp".into()], ..Filled::default() };
    let done = came.revoked.is_some().then_some("The token is revoked. It no longer works.");
    let made = once.open(&state, &browser, PATH).map(|made| new_token(&made, &base(&state, &parts)));
    let page = render(&state, &browser.by, &filled, None, made, done).await;
    once.over(&state, PATH, page)
}

pub(crate) async fn create(
    State(state): State<AppState>,
    Sent(Person(browser), body::Filled(pairs)): Sent<Person, body::Filled<Vec<(String, String)>>>,
) -> Response {
    let filled = Filled::of(pairs);
    let issued = match filled.limits.read() {
        Ok(_) if filled.scope().trim().is_empty() => {
            let message = "choose at least one permission".to_owned();
            Err(AuthorityError::Invalid { field: "pat_scope", message })
        }
        Ok(limits) => {
            let expiry = filled.days.map_or(Expiry::Default, Expiry::Days);
            let new = NewPat { name: filled.name.clone(), scope: filled.scope(), expiry, limits };
            state.issue(&browser.by, new).await
        }
        Err(error) => Err(error),
    };
    match issued {
        Ok(issued) => {
            let token = issued.token.expose().to_owned();
            once::lead_to(&state, &browser, PATH, Made { name: issued.record.name, token })
        }
        Err(error) => {
            let error = ApiError::from(error);
            let page = render(&state, &browser.by, &filled, Some((&error).into()), None, None).await;
            error.with_body(page)
        }
    }
}

/// The address that a client has to use: the public one, or the one that this browser came by.
pub(crate) fn base(state: &AppState, parts: &Parts) -> String {
    if let Some(url) = &state.config.public_url {
        return url.origin().ascii_serialization();
    }
    format!("http://{}", host_of(parts).unwrap_or("localhost"))
}

async fn render(
    state: &AppState,
    by: &By,
    filled: &Filled,
    problem: Option<Problem<'_>>,
    panel: Option<Markup>,
    done: Option<&str>,
) -> Response {
    let mut pats = match state.authority.list(by).await {
        Ok(pats) => pats,
        Err(error) => return failed(error.into()),
    };
    let policy = match state.authority.standing_policy().await {
        Ok(policy) => policy,
        Err(error) => return failed(error.into()),
    };
    let upstreams: Vec<String> = state.relay.upstreams().into_iter().map(|upstream| upstream.name).collect();
    let now = state.authority.clock().now();
    let due = soonest_first(&mut pats, now);
    layout::settings(
        "Developer",
        by,
        Tab::Developer,
        html! {
            div.head {
                div {
                    h1 { "Personal access tokens" }
                    p.lead { "For agents, scripts and services that act for you outside the browser." }
                }
                @if problem.is_none() && !pats.is_empty() { a.button href="#create" { "New token" } }
            }
            @if let Some(done) = done { p.done role="status" { (done) } }
            // What was refused is seen before a long list.
            @if problem.is_some() { (form(filled, &upstreams, &policy, problem, now)) }
            @if let Some(panel) = panel { (panel) }
            (banner(&pats[..due]))
            (list(&pats, now))
            @if problem.is_none() { (form(filled, &upstreams, &policy, problem, now)) }
            (advice())
        },
    )
    .into_response()
}

fn new_token(Made { name, token }: &Made, base: &str) -> Markup {
    let snippets = snippets(base, token);
    html! {
        section.card.fresh aria-labelledby="fresh" {
            h2 #fresh { "“" (name) "” is ready" }
            p role="status" { strong { "Copy the token now. " } "It won't be shown again." }
            div.secret {
                code data-testid="new-token" #new-token { (token) }
                button.copy type="button" data-copy="new-token" hidden { "Copy" }
            }
            h3 { "Connect a client" }
            div.clients {
                fieldset {
                    legend.sr { "Client" }
                    @for (at, snippet) in snippets.iter().enumerate() {
                        input.sr type="radio" name="client" id={ "client-" (at) } checked[at == 0];
                        label for={ "client-" (at) } { (snippet.client) }
                    }
                }
                @for (at, snippet) in snippets.iter().enumerate() {
                    section.client {
                        h4.sr { (snippet.client) }
                        p.faint { (snippet.hint) }
                        div.snippet {
                            pre tabindex="0" { code id={ "snippet-" (at) } { (snippet.text) } }
                            button.copy type="button" data-copy={ "snippet-" (at) } hidden { "Copy" }
                        }
                    }
                }
            }
            p.end { a.button.quiet href="/settings/developer" { "Done, hide the token" } }
        }
    }
}

/// How near an expiry is, if it is near.
pub(crate) fn badge(expires_at: Timestamp, now: Timestamp) -> Markup {
    let left = days_left(expires_at, now);
    let text = match left {
        0 => "expires today".to_owned(),
        1 => "1 day left".to_owned(),
        _ => format!("{left} days left"),
    };
    html! {
        @if left <= VERY_SOON { " " span.badge.danger { (text) } }
        @else if is_due_soon(expires_at, now) { " " span.badge.warn { (text) } }
    }
}

/// Puts the tokens that are due soon before the others, the soonest first; how many those are.
fn soonest_first(pats: &mut [PatRecord], now: Timestamp) -> usize {
    let is_due = |pat: &PatRecord| is_due_soon(pat.expires_at, now);
    pats.sort_by_key(|pat| if is_due(pat) { (false, pat.expires_at) } else { (true, Timestamp::MIN) });
    pats.partition_point(is_due)
}

/// Counts what is due soon, if anything is. `due`: the soonest first.
fn banner(due: &[PatRecord]) -> Markup {
    html! {
        @if let Some(first) = due.first() {
            p.due {
                @if due.len() == 1 { strong { "1 token expires" } } @else { strong { (due.len()) " tokens expire" } }
                " within " (DUE_SOON_DAYS) " days"
                @if due.len() > 1 { ", the first" } " on " (day(first.expires_at)) ". "
                @if due.len() == 1 { "Rotate it before it expires" } @else { "Rotate them before they expire" } " to avoid interruptions."
            }
        }
    }
}

fn list(pats: &[PatRecord], now: Timestamp) -> Markup {
    html! {
        @if pats.is_empty() {
            section.card.empty {
                h2 { "No tokens yet" }
                p { "Create one token per client, so that you can revoke each one separately." }
            }
        } @else {
            h2 #tokens { "Active tokens " span.count { (pats.len()) } }
            table.tokens aria-labelledby="tokens" {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Scopes" } th scope="col" { "Created" }
                    th scope="col" { "Last used" } th scope="col" { "Expires" } th scope="col" { span.sr { "Actions" } }
                } }
                tbody { @for pat in pats { tr {
                    th scope="row" { a.name href={ "/settings/developer/" (pat.pat_id) } { (pat.name) } code.hint { (pat.hint) } }
                    td data-label="Scopes" { (chips(&pat.scopes)) }
                    td.when data-label="Created" { (day(pat.created_at)) }
                    td.when data-label="Last used" { (ago(pat.last_used_at, now)) }
                    td.when data-label="Expires" { span { (day(pat.expires_at)) (badge(pat.expires_at, now)) } }
                    td.act { a.button.quiet href={ "/settings/developer/" (pat.pat_id) "/revoke" } aria-label={ "Revoke " (pat.name) } { "Revoke" } }
                } } }
            }
        }
    }
}

/// Scopes, to be told apart at a glance.
pub(crate) fn chips(scopes: &ScopeSet) -> Markup {
    html! { span.chips { @for scope in scopes.iter() { span.chip { (scope) } } } }
}

/// How long a token may live, of what is offered.
fn lives(policy: &Policy) -> Vec<i64> {
    let mut lives: Vec<_> = LIVES.into_iter().filter(|days| *days <= policy.longest()).collect();
    lives.extend([policy.usual(), policy.longest()]);
    lives.sort_unstable();
    lives.dedup();
    lives
}

fn form(
    filled: &Filled,
    upstreams: &[String],
    policy: &Policy,
    problem: Option<Problem<'_>>,
    now: Timestamp,
) -> Markup {
    let choice = |scope: &str, text: Markup| {
        let checked = filled.scopes.iter().any(|held| held == scope);
        // What the policy does not allow is not offered.
        html! { @if policy::allows(policy, scope) { label.choice { input type="checkbox" name="scope" value=(scope) checked[checked]; span { (text) " " code { (scope) } } } } }
    };
    let lives = lives(policy);
    // What is not offered any more is not taken for the first that is.
    let chosen = filled.days.filter(|days| lives.contains(days)).unwrap_or_else(|| policy.usual());
    let until = |days: i64| {
        now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(now).strftime("%-d %b %Y")
    };
    html! {
        section.card aria-labelledby="create" {
            h2 #create { "Create a token" }
            (layout::problem(problem, &[&FIELDS[..], &limits::FIELDS].concat()))
            form.stack method="post" action="/settings/developer" aria-describedby=[problem.map(|_| "problem")] {
                div.pair {
                    label {
                        "Name"
                        input type="text" name="pat_name" value=(filled.name) maxlength="100" required placeholder="ci-pipeline" autocomplete="off" aria-invalid=[invalid(problem, "pat_name")];
                        (field_problem(problem, "pat_name"))
                        small { "The client or job that will use this token." }
                    }
                    label {
                        "Expires after"
                        select name="expires_in_days" aria-invalid=[invalid(problem, "expires_in_days")] {
                            @for &days in &lives {
                                option value=(days) selected[days == chosen] { (days) @if days == 1 { " day" } @else { " days" } ", on " (until(days)) }
                            }
                        }
                        (field_problem(problem, "expires_in_days"))
                        @if let Some(days) = policy.max_days { small { "Maximum set by the policy: " (days) @if days.get() == 1 { " day" } @else { " days" } "." } }
                    }
                }
                fieldset aria-describedby="least" {
                    legend { "Permissions" }
                    small #least { (policy::scopes_note(policy)) "Grant only what this client needs." }
                    (field_problem(problem, "pat_scope"))
                    div.pair {
                        div.group role="group" aria-labelledby="mcp-tools" {
                            p #mcp-tools { "MCP tools" }
                            @for (scope, text) in MCP_SCOPES { (choice(scope, html! { (text) })) }
                            @for name in upstreams {
                                (choice(&format!("mcp:{name}"), html! { "All tools on " strong { (name) } }))
                            }
                            label.more {
                                "Other permissions (advanced)"
                                input type="text" name="scope_more" value=(filled.more) placeholder="mcp:github/search" autocomplete="off";
                                small { "Scopes, separated by spaces. " code { "mcp:NAME/TOOL" } " allows a single tool." }
                            }
                        }
                        @if API_SCOPES.iter().any(|(scope, _)| policy::allows(policy, scope)) {
                            div.group role="group" aria-labelledby="rest-api" {
                                p #rest-api { "REST API" }
                                @for (scope, text) in API_SCOPES { (choice(scope, html! { (text) })) }
                            }
                        }
                    }
                }
                (limits::fields(&filled.limits, problem))
                (policy::at_once(policy))
                button type="submit" { "Create the token" }
            }
        }
    }
}

fn advice() -> Markup {
    html! {
        aside.advice {
            h2 { "Keeping tokens safe" }
            ul {
                li { "Store tokens like passwords: in a secrets manager, a CI secret or an ignored " code { ".env" } " file." }
                li { "Use a separate token for each integration, with only the permissions it needs." }
                li { "Rotate tokens before they expire, and when people leave the team." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pat(name: &str, days: i64, now: Timestamp) -> PatRecord {
        PatRecord {
            pat_id: uuid::Uuid::nil(),
            user_id: uuid::Uuid::nil(),
            name: name.into(),
            hint: "...abcd".into(),
            scopes: "mcp api".parse().expect("scopes"),
            digest: trustrelay_token::TokenDigest::from_bytes([0; 32]),
            key_id: trustrelay_token::KeyId(1),
            parent_id: None,
            created_at: now,
            expires_at: now.checked_add(jiff::SignedDuration::from_hours(24 * days)).expect("in range"),
            revoked_at: None,
            last_used_at: None,
            rotated_at: None,
            limits: None,
        }
    }

    #[test]
    fn the_list_marks_what_expires_soon_and_keeps_hostile_names_text() {
        let now = "2026-04-07T00:00:00Z".parse().expect("a time");
        let page = list(&[pat("<script>x</script>", 6, now), pat("b", 20, now), pat("c", 200, now)], now)
            .into_string();
        assert!(!page.contains("<script>"));
        assert_eq!(page.matches("badge danger").count(), 1);
        assert_eq!(page.matches("badge warn").count(), 1);
        assert!(
            page.contains("6 days left") && page.contains("20 days left") && !page.contains("200 days left")
        );
    }

    #[test]
    fn what_is_due_soon_comes_first_and_is_counted() {
        let now: Timestamp = "2026-04-07T00:00:00Z".parse().expect("a time");
        let mut pats = [
            pat("new", 200, now),
            pat("in-20", 20, now),
            pat("in-31", 31, now),
            pat("in-30", 30, now),
            pat("in-6", 6, now),
        ];
        let due = soonest_first(&mut pats, now);
        let names: Vec<_> = pats.iter().map(|pat| pat.name.as_str()).collect();
        assert_eq!(names, ["in-6", "in-20", "in-30", "new", "in-31"], "the others stay as they were");
        let says = banner(&pats[..due]).into_string();
        assert!(says.contains("3 tokens expire</strong> within 30 days, the first on"), "{says}");
        assert!(says.contains("13 Apr 2026"), "{says}");
        let says = banner(&pats[..1]).into_string();
        assert!(says.contains("1 token expires</strong> within 30 days on"), "{says}");
        assert_eq!(banner(&[]).into_string(), "");
        assert!(badge(pats[4].expires_at, now).into_string().is_empty(), "only what is counted is marked");
    }

    #[test]
    fn a_form_comes_back_as_it_was_filled_in() {
        let filled = Filled::of(vec![
            ("pat_name".into(), "\"><b>".into()),
            ("scope".into(), "api".into()),
            ("scope".into(), "mcp:github".into()),
            ("scope_more".into(), "mcp:x/y".into()),
            ("expires_in_days".into(), "30".into()),
        ]);
        assert_eq!(filled.scope(), "api mcp:github mcp:x/y");
        let now = "2026-04-07T00:00:00Z".parse().expect("a time");
        let page =
            form(&filled, &["github".into()], &Policy::default(), Some("no".into()), now).into_string();
        assert!(!page.contains("<b>"));
        assert!(page.contains("value=\"api\" checked") && page.contains("value=\"mcp:github\" checked"));
        assert!(
            page.contains("value=\"30\" selected>30 days, on 7 May 2026<") && page.contains("role=\"alert\"")
        );
    }

    #[test]
    fn a_form_offers_what_the_policy_allows_and_says_who_decided() {
        let asked = trustrelay_authority::AskedPolicy {
            max_days: Some(60),
            default_days: Some(14),
            allowed_scopes: vec!["mcp:github".into(), "api:read".into()],
            unused_days: Some(45),
            networks: vec!["10.0.0.0/8".into()],
        };
        let policy = asked.read().expect("a policy");
        assert_eq!(lives(&policy), [7, 14, 30, 60]);
        assert_eq!(lives(&Policy::default()), LIVES);
        let now = "2026-04-07T00:00:00Z".parse().expect("a time");
        let filled = Filled { scopes: vec!["mcp".into()], ..Filled::default() };
        let upstreams = ["github".to_owned(), "wiki".to_owned()];
        let page = form(&filled, &upstreams, &policy, None, now).into_string();
        assert!(page.contains("value=\"14\" selected>14 days") && page.contains("policy: 60 days"), "{page}");
        for (scope, is_offered) in [
            ("mcp", false),
            ("mcp:read", false),
            ("mcp:github", true),
            ("mcp:wiki", false),
            ("api:read", true),
            ("api", false),
            ("tokens", false),
        ] {
            assert_eq!(
                page.contains(&format!("name=\"scope\" value=\"{scope}\"")),
                is_offered,
                "{scope}: {page}"
            );
        }
        assert!(page.contains("after 45 days without use") && page.contains("10.0.0.0/8"), "{page}");
        let longer = Filled { days: Some(365), ..Filled::default() };
        let page = form(&longer, &upstreams, &policy, Some("no".into()), now).into_string();
        assert!(page.contains("value=\"14\" selected"), "who chose more is offered the usual life: {page}");
        let free = form(&filled, &upstreams, &Policy::default(), None, now).into_string();
        assert!(free.contains("value=\"mcp\" checked") && !free.contains("policy"), "{free}");
    }
}
