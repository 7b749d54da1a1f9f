//! `/settings/audit`, the caller's own audit log, and `/admin/audit`, everybody's.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use trustrelay_authority::{AuditPage, Audited, By};
use url::form_urlencoded;
use uuid::Uuid;

use crate::api::audit::AuditQuery;
use crate::error::ApiError;
use crate::extract::OnPage;
use crate::pages::audit_words::{what, who};
use crate::pages::layout::{self, Tab};
use crate::pages::{Person, failed};
use crate::state::AppState;

/// What the form offers, by the part of an action before its dot.
const SUBJECTS: [(&str, &str); 8] = [
    ("", "All events"),
    ("token", "Tokens"),
    ("session", "Sign-ins and sign-outs"),
    ("account", "Accounts"),
    ("refused", "Refused requests"),
    ("policy", "Policy"),
    ("webhook", "Webhooks"),
    ("audit", "Audit log"),
];

/// One's own, or everybody's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    All,
}

impl Whose {
    fn path(self) -> &'static str {
        match self {
            Self::Own => "/settings/audit",
            Self::All => "/admin/audit",
        }
    }
}

pub(crate) async fn own(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(query): OnPage<AuditQuery>,
) -> Response {
    show(&state, &browser.by, Whose::Own, &query).await
}

pub(crate) async fn all(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(query): OnPage<AuditQuery>,
) -> Response {
    match state.authority.may_read_all_audit(&browser.by) {
        Ok(()) => show(&state, &browser.by, Whose::All, &query).await,
        Err(error) => failed(error.into()),
    }
}

async fn show(state: &AppState, by: &By, whose: Whose, query: &AuditQuery) -> Response {
    let found = found(state, by, whose, query).await;
    let (title, lead) = match whose {
        Whose::Own => ("Audit log", "Activity on your account and your tokens, including refused requests."),
        Whose::All => ("Full audit log", "Activity of all accounts, including refused requests."),
    };
    let page = |result: Markup| {
        layout::settings(
            title,
            by,
            if whose == Whose::All { Tab::AllAudit } else { Tab::Audit },
            html! {
                div.head { div { h1 { (title) } p.lead { (lead) } } }
                (filters(whose, query))
                (result)
                @if whose == Whose::Own && by.is_admin() { p { a href="/admin/audit" { "Full audit log" } } }
            },
        )
    };
    match found {
        Ok((found, emails)) => page(table(&found, &emails, by, whose, query)).into_response(),
        Err(error) if error.status().is_client_error() => {
            let page = page(layout::problem(Some(&error), &[]));
            error.with_body(page)
        }
        Err(error) => failed(error),
    }
}

/// The page, and what the accounts are called that it concerns.
async fn found(
    state: &AppState,
    by: &By,
    whose: Whose,
    query: &AuditQuery,
) -> Result<(AuditPage, BTreeMap<Uuid, String>), ApiError> {
    let look = query.look(state, whose == Whose::All).await?;
    let mut emails = BTreeMap::new();
    if whose == Whose::Own {
        return Ok((state.authority.own_audit(by, look).await?, emails));
    }
    let found = state.authority.all_audit(by, look).await?;
    for user_id in found.entries.iter().filter_map(concerned) {
        if !emails.contains_key(&user_id)
            && let Some(email) = state.authority.email_of(user_id).await?
        {
            emails.insert(user_id, email);
        }
    }
    Ok((found, emails))
}

/// The account that an entry concerns, if it is not the one that did it.
fn concerned(audited: &Audited) -> Option<Uuid> {
    audited.entry.user_id.filter(|user_id| Some(*user_id) != audited.entry.actor.user_id)
}

fn filters(whose: Whose, query: &AuditQuery) -> Markup {
    // A day that is chosen is a day; a time that a link gives is kept as it is.
    let when = |name: &str, label: &str, value: &str| {
        let kind = if value.is_empty() || value.len() == 10 { "date" } else { "text" };
        html! { label { (label) input type=(kind) name=(name) value=(value); } }
    };
    html! {
        form.filters method="get" action=(whose.path()) role="search" aria-label="Filter" {
            label {
                "Event"
                select name="action" {
                    @for (subject, called) in SUBJECTS { option value=(subject) selected[query.action == subject] { (called) } }
                    @if !SUBJECTS.iter().any(|(subject, _)| *subject == query.action) {
                        option value=(query.action) selected { (query.action) }
                    }
                }
            }
            @if whose == Whose::All {
                label { "Account" input type="text" name="user" value=(query.user) placeholder="ada@example.org" autocomplete="off"; }
                label { "Done by" input type="text" name="actor" value=(query.actor) placeholder="ada@example.org" autocomplete="off"; }
            }
            (when("from", "From", &query.from))
            (when("to", "To", &query.to))
            @if !query.token.is_empty() { label { "Token" input type="text" name="token" value=(query.token); } }
            div.row {
                button type="submit" { "Filter" }
                a.button.quiet href=(whose.path()) { "Clear" }
            }
        }
    }
}

/// The same question, from another place on.
fn link(whose: Whose, query: &AuditQuery, after: &str) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    let fields = [
        ("action", &*query.action),
        ("user", &query.user),
        ("actor", &query.actor),
        ("token", &query.token),
        ("from", &query.from),
        ("to", &query.to),
        ("limit", &query.limit),
        ("after", after),
    ];
    text.extend_pairs(fields.into_iter().filter(|(_, value)| !value.is_empty()));
    format!("{}?{}", whose.path(), text.finish())
}

fn table(
    found: &AuditPage,
    emails: &BTreeMap<Uuid, String>,
    by: &By,
    whose: Whose,
    query: &AuditQuery,
) -> Markup {
    if found.entries.is_empty() {
        return html! { section.card.empty { p { "No results. " a href=(whose.path()) { "Clear filters." } } } };
    }
    let viewer = by.user_id;
    html! {
        table.tokens.log {
            caption.sr { "Entries, newest first" }
            thead { tr { th scope="col" { "When (UTC)" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "IP address" } } }
            tbody {
                @for audited in &found.entries {
                    @let entry = &audited.entry;
                    tr {
                        td.when data-label="When" { (at(entry.at)) }
                        td data-label="Who" { span { (who(&entry.actor, viewer)) } }
                        td data-label="What" {
                            span {
                                @if entry.action.starts_with("refused.") { span.badge.warn { "refused" } " " }
                                (what(entry))
                                @if let Some(user_id) = concerned(audited).filter(|_| whose == Whose::All) {
                                    @let account = emails.get(&user_id).cloned().unwrap_or_else(|| user_id.to_string());
                                    @if !what(entry).contains(&account) { " " span.faint { "of " (account) } }
                                }
                                @if let Some(pat_id) = entry.pat_id {
                                    @let of_token = AuditQuery { token: pat_id.to_string(), ..AuditQuery::default() };
                                    " " a.faint href=(link(whose, &of_token, "")) { "View token" }
                                }
                            }
                        }
                        td data-label="IP address" { @if let Some(address) = entry.actor.address { (address) } @else { span.faint { "–" } } }
                    }
                }
            }
        }
        nav.pages aria-label="Pages" {
            @if !query.after.is_empty() { a.button.quiet href=(link(whose, query, "")) { "Newest" } }
            @if let Some(next) = found.next { a.button.quiet rel="next" href=(link(whose, query, &next.to_string())) { "Older" } }
        }
    }
}

fn at(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (at.strftime("%-d %b %Y, %H:%M:%S")) } }
}
