//! `/admin/tokens`: everybody's tokens, found, page by page.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{
    AuthorityError, MAX_PATS_COUNTED, PatFilter, PatOrder, PatRecord, PatsFound, Place,
};
use trustrelay_token::ScopeSet;
use url::form_urlencoded;
use uuid::Uuid;

use crate::api::admin::pats::Search;
use crate::error::ApiError;
use crate::extract::Asked;
use crate::pages::amounts::count;
use crate::pages::developer::badge;
use crate::pages::layout::{self, Tab};
use crate::pages::time::{ago, day};
use crate::pages::{Person, failed};
use crate::state::AppState;

const PATH: &str = "/admin/tokens";
/// Tokens of a page. With the longest names and addresses, each character escaped, one is some 3
/// KB.
const ROWS: u64 = 25;
/// How many of a token's scopes a row shows, and how many characters of each.
const SCOPES: usize = 4;
const SCOPE_CHARS: usize = 48;
/// As a row shows it: three dots and four characters.
const HINT_CHARS: usize = 7;
/// How many pages back the way is kept, at 35 bytes each. Who is further on begins anew.
const MAX_BACK: usize = 40;

/// What is offered, and what the API calls it.
const STATES: [(&str, &str); 4] =
    [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked"), ("any", "Any")];

/// Which tokens, and the way through their pages. A field that is misspelled is refused: without it
/// the filter would fit more.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Looked {
    owner: String,
    name: String,
    hint: String,
    state: String,
    expires_before: String,
    unused_since: String,
    after: String,
    /// The `after`s of the pages before this one but the first, parted by dots.
    back: String,
    /// How many were revoked a moment ago.
    revoked: Option<u64>,
}

impl Looked {
    /// The tokens of one account.
    pub(super) fn of(user_id: Uuid) -> Self {
        Self { owner: user_id.to_string(), ..Self::default() }
    }

    /// What is asked for. Where nothing is said of the state it is the active ones: who looks for
    /// tokens looks for those.
    pub(super) fn filter(&self) -> Result<PatFilter, AuthorityError> {
        let state = match self.state() {
            "any" => "",
            state => state,
        };
        let search = Search {
            owner: self.owner.clone(),
            name: self.name.clone(),
            hint: self.hint.trim().to_owned(),
            state: state.to_owned(),
            expires_before: self.expires_before.clone(),
            unused_since: self.unused_since.clone(),
            ..Search::default()
        };
        search.filter()
    }

    pub(super) fn after(&self) -> &str {
        &self.after
    }

    fn state(&self) -> &str {
        if self.state.is_empty() { "active" } else { &self.state }
    }

    /// Whether it fits everybody's tokens, or all of a state: then it leads to no revocation of all
    /// that fit.
    fn is_open(&self) -> bool {
        self.filter().is_ok_and(|filter| filter.is_open())
    }

    /// In which order the list is, if there is more than one way to be.
    fn order(&self) -> Option<&'static str> {
        Some(match self.filter().ok()?.order() {
            PatOrder::Newest => "newest first",
            PatOrder::Name => "by name",
            PatOrder::EndsSoonest => "expiring soonest first",
            PatOrder::EndedLast => "expired most recently first",
            PatOrder::UnusedLongest => "unused longest first",
        })
    }

    /// A page that this search leads to, with more in its query.
    pub(super) fn link(&self, path: &str, more: &[(&str, &str)]) -> String {
        let mut text = form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("owner", &*self.owner),
            ("name", &self.name),
            ("hint", &self.hint),
            ("state", &self.state),
            ("expires_before", &self.expires_before),
            ("unused_since", &self.unused_since),
        ];
        let all = fields.into_iter().chain(more.iter().copied());
        text.extend_pairs(all.filter(|(_, value)| !value.is_empty()));
        match text.finish() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }

    /// The list, at the page that this search has come from.
    pub(super) fn list(&self, more: &[(&str, &str)]) -> String {
        let at = [("after", &*self.after)];
        self.link(PATH, &at.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// The page that asks about one token, and knows the way back.
    fn revoke(&self, pat_id: Uuid) -> String {
        self.link(&format!("{PATH}/{pat_id}/revoke"), &[("after", &self.after)])
    }

    fn next(&self, next: &str) -> String {
        let way: Vec<&str> = self.back.split('.').chain([&*self.after]).filter(|at| !at.is_empty()).collect();
        let way = &way[way.len().saturating_sub(MAX_BACK)..];
        self.link(PATH, &[("after", next), ("back", &way.join("."))])
    }

    /// The page before, unless this is the first.
    fn previous(&self) -> Option<String> {
        if self.after.is_empty() {
            return None;
        }
        let (rest, last) = self.back.rsplit_once('.').unwrap_or(("", &self.back));
        Some(self.link(PATH, &[("after", last), ("back", rest)]))
    }
}

/// Whose tokens the search is about, if it is about one account's.
pub(super) async fn owner(
    state: &AppState,
    search: &Looked,
) -> Result<Option<(Uuid, String)>, AuthorityError> {
    let Ok(user_id) = Uuid::try_parse(search.owner.trim()) else { return Ok(None) };
    Ok(state.authority.email_of(user_id).await?.map(|email| (user_id, email)))
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    Asked(search): Asked<Looked>,
) -> Response {
    let by = &browser.by;
    if let Err(error) = state.authority.is_administrator(by) {
        return failed(error.into());
    }
    let found = async {
        let after = Some(search.after.clone()).filter(|after| !after.is_empty());
        let place = Place { after, limit: Some(ROWS) };
        let found = state.authority.admin_tokens(by, &search.filter()?, &place).await?;
        Ok::<_, ApiError>((found, owner(&state, &search).await?))
    };
    let page = |owner: Option<&str>, result: Markup| {
        layout::settings(
            "All tokens",
            by,
            Tab::Tokens,
            html! {
                div.head { div {
                    h1 { "All tokens" }
                    p.lead { "Find and revoke anyone’s tokens. Select a token’s name to see its audit log." }
                } }
                @if let Some(revoked) = search.revoked { (done(revoked)) }
                (filters(&search, owner))
                (result)
            },
        )
    };
    match found.await {
        Ok((found, owner)) => {
            let now = state.authority.clock().now();
            let owner = owner.map(|(_, email)| email);
            page(owner.as_deref(), list(&found, &search, now)).into_response()
        }
        Err(error) if error.status().is_client_error() => {
            let page = page(None, layout::problem(Some(&error), &[]));
            error.with_body(page)
        }
        Err(error) => failed(error),
    }
}

fn done(revoked: u64) -> Markup {
    html! {
        p.done role="status" {
            @match revoked {
                0 => "No token was still active, so nothing was revoked.",
                1 => "The token is revoked. It no longer works.",
                many => { (count(many)) " tokens are revoked. They no longer work." },
            }
        }
    }
}

fn filters(search: &Looked, owner: Option<&str>) -> Markup {
    // A day that is chosen is a day; a time that a link gives is kept as it is.
    let when = |name: &str, label: &str, value: &str| {
        let kind = if value.is_empty() || value.len() == 10 { "date" } else { "text" };
        html! { label { (label) input type=(kind) name=(name) value=(value); } }
    };
    html! {
        form.filters method="get" action=(PATH) role="search" aria-label="Filter" {
            @if let Some(email) = owner {
                label { "Owner" input type="text" value=(email) readonly; }
                input type="hidden" name="owner" value=(search.owner);
            } @else {
                label { "Owner starts with" input type="search" name="owner" value=(search.owner) placeholder="ada@example.org" autocomplete="off"; }
            }
            label { "Name starts with" input type="search" name="name" value=(search.name) placeholder="ci-" autocomplete="off"; }
            // No longer than a hint: a whole token that is pasted here does not come into an
            // address.
            label { "Secret ends with" input type="search" name="hint" value=(search.hint) placeholder="...AbCd" maxlength=(HINT_CHARS) autocomplete="off" spellcheck="false"; }
            label {
                "State"
                select name="state" {
                    @for (state, called) in STATES { option value=(state) selected[search.state() == state] { (called) } }
                }
            }
            (when("expires_before", "Expires before", &search.expires_before))
            (when("unused_since", "Not used since", &search.unused_since))
            div.row {
                button type="submit" { "Filter" }
                a.button.quiet href=(PATH) { "Clear" }
            }
        }
    }
}

/// How many there are, as far as that is counted.
pub(super) fn number(found: u64) -> String {
    if found >= MAX_PATS_COUNTED {
        format!("more than {}", count(MAX_PATS_COUNTED - 1))
    } else {
        count(found)
    }
}

fn list(found: &PatsFound, search: &Looked, now: Timestamp) -> Markup {
    if found.page.pats.is_empty() {
        return html! { section.card.empty { p { "No results. " a href=(PATH) { "Clear filters." } } } };
    }
    let called = STATES.iter().find(|(state, _)| *state == search.state() && *state != "any");
    let title = called.map_or_else(|| "Tokens".to_owned(), |(_, called)| format!("{called} tokens"));
    html! {
        div.head {
            div {
                h2 #tokens { (title) " " span.count { (number(found.count)) } }
                @if let Some(order) = search.order() && found.count > 1 { p.faint.order { "Sort order: " (order) "." } }
            }
            @if search.state() != "revoked" && !search.is_open() {
                a.button.quiet href=(search.link("/admin/tokens/revoke", &[])) { "Revoke all matching…" }
            }
        }
        table.tokens aria-labelledby="tokens" {
            thead { tr {
                th scope="col" { "Name" } th scope="col" { "Owner" } th scope="col" { "Scopes" } th scope="col" { "Created" }
                th scope="col" { "Last used" } th scope="col" { "Expires" } th scope="col" { span.sr { "Actions" } }
            } }
            tbody { @for (pat, email) in &found.page.pats { tr {
                th scope="row" { a.name href={ "/admin/audit?token=" (pat.pat_id) } { (pat.name) } code.hint { (pat.hint) } }
                td.owner data-label="Owner" { a href={ "/admin/people/" (pat.user_id) } { (email) } }
                td data-label="Scopes" { (few(&pat.scopes)) }
                td.when data-label="Created" { (day(pat.created_at)) }
                td.when data-label="Last used" { (ago(pat.last_used_at, now)) }
                td.when data-label="Expires" { span { (day(pat.expires_at)) (state(pat, now)) } }
                td.act {
                    @if pat.revoked_at.is_none() {
                        a.button.quiet href=(search.revoke(pat.pat_id)) aria-label={ "Revoke " (pat.name) " of " (email) } { "Revoke" }
                    }
                }
            } } }
        }
        nav.pages aria-label="Pages" {
            @if let Some(previous) = search.previous() { a.button.quiet rel="prev" href=(previous) { "Previous" } } @else { span {} }
            @if let Some(next) = &found.page.next { a.button.quiet rel="next" href=(search.next(&next.to_string())) { "Next" } }
        }
    }
}

/// What has become of a token, or how near its end is.
pub(super) fn state(pat: &PatRecord, now: Timestamp) -> Markup {
    html! {
        @if let Some(at) = pat.revoked_at { " " span.badge.danger title=(format!("{at:.0}")) { "revoked" } }
        @else if pat.expires_at <= now { " " span.badge { "expired" } }
        @else { (badge(pat.expires_at, now)) }
    }
}

/// The first scopes, and how many more there are.
fn few(scopes: &ScopeSet) -> Markup {
    let all: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    let (shown, more) = all.split_at(all.len().min(SCOPES));
    let clipped = |scope: &str| match scope.char_indices().nth(SCOPE_CHARS) {
        Some((end, _)) => format!("{}…", &scope[..end]),
        None => scope.to_owned(),
    };
    html! {
        span.chips {
            @for scope in shown { span.chip { (clipped(scope)) } }
            @if !more.is_empty() { span.faint { "and " (more.len()) " more" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use trustrelay_authority::{Cursor, Key, PatPage};

    use super::*;

    fn longest() -> (PatRecord, String) {
        let now: Timestamp = "2026-04-07T00:00:00Z".parse().expect("a time");
        let scopes: Vec<String> = (0..20).map(|n| format!("mcp:github/{n:0>64}")).collect();
        let pat = PatRecord {
            pat_id: Uuid::nil(),
            user_id: Uuid::nil(),
            name: "\"".repeat(100),
            hint: "...abcd".into(),
            scopes: scopes.join(" ").parse().expect("scopes"),
            digest: trustrelay_token::TokenDigest::from_bytes([0; 32]),
            key_id: trustrelay_token::KeyId(1),
            parent_id: None,
            created_at: now,
            expires_at: now,
            revoked_at: None,
            last_used_at: Some(now),
            rotated_at: None,
            limits: None,
        };
        (pat, "a".repeat(254))
    }

    #[test]
    fn a_page_of_the_longest_tokens_stays_below_a_hundred_kibibytes() {
        let next = Cursor { key: Key::Micros(7), id: Uuid::nil() };
        let page = PatPage { pats: vec![longest(); ROWS as usize], next: Some(next.clone()) };
        let found = PatsFound { page, count: MAX_PATS_COUNTED };
        let way = vec![next.to_string(); MAX_BACK].join(".");
        let search =
            Looked { owner: "a".repeat(200), after: next.to_string(), back: way, ..Looked::default() };
        let page = list(&found, &search, found.page.pats[0].0.created_at).into_string();
        assert!((50_000..90_000).contains(&page.len()), "{}", page.len());
        assert!(page.contains("and 16 more") && page.contains("more than 10,000"), "{page}");
        assert!(page.contains(">expired<"), "{page}");
    }

    #[test]
    fn the_way_back_does_not_grow_without_end() {
        let mut search = Looked { after: "c0".into(), ..Looked::default() };
        assert_eq!(search.previous().as_deref(), Some("/admin/tokens"));
        for step in 1..=100 {
            let next = search.next(&format!("c{step}"));
            let (_, query) = next.split_once('?').expect("a query");
            let fields: Vec<(String, String)> =
                form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            for (name, value) in fields {
                if name == "back" { search.back = value } else { search.after = value }
            }
        }
        assert_eq!(search.back.split('.').count(), MAX_BACK);
        assert!(search.previous().expect("a page before").contains("after=c99&back=c60."), "{search:?}");
    }

    #[test]
    fn a_search_that_says_nothing_is_open_and_one_that_says_something_is_not() {
        assert!(Looked::default().is_open());
        assert!(Looked { owner: " ".into(), state: "expired".into(), ..Looked::default() }.is_open());
        for narrow in [
            Looked { name: "c".into(), ..Looked::default() },
            Looked { hint: "AbCd".into(), ..Looked::default() },
            Looked::of(Uuid::nil()),
            Looked { unused_since: "2026-04-07".into(), ..Looked::default() },
        ] {
            assert!(!narrow.is_open(), "{narrow:?}");
        }
    }
}
