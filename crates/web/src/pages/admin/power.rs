//! `/admin/people/{user_id}/disable` and `/admin/people/{user_id}/demote`: what takes power away
//! from somebody is asked about first.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use maud::{Markup, html};
use trustrelay_authority::{AuthorityError, By, PersonChange, UserRecord};
use uuid::Uuid;

use super::badges;
use super::person::{known, path};
use crate::error::ApiError;
use crate::extract::{OnPage, Segment};
use crate::pages::amounts::counted;
use crate::pages::layout::{self, Tab};
use crate::pages::time::day;
use crate::pages::{Person, failed};
use crate::state::AppState;

/// What is taken: the address says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The use of the account.
    Account,
    /// The administrator's role.
    Role,
}

impl<S: Sync> FromRequestParts<S> for Taken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(if parts.uri.path().ends_with("/disable") { Self::Account } else { Self::Role })
    }
}

impl Taken {
    fn verb(self) -> &'static str {
        match self {
            Self::Account => "disable",
            Self::Role => "demote",
        }
    }

    fn change(self) -> PersonChange {
        match self {
            Self::Account => PersonChange::Disabled(true),
            Self::Role => PersonChange::Admin(false),
        }
    }

    /// Whether there is something to take.
    fn is_there(self, user: &UserRecord) -> bool {
        match self {
            Self::Account => user.disabled_at.is_none(),
            Self::Role => user.is_admin,
        }
    }

    /// Where it leads: who has taken it from themselves may not look at the page of a person any
    /// more.
    fn done(self, user_id: Uuid, by: &By) -> String {
        match self {
            _ if user_id != by.user_id => format!("{}?done={}", path(user_id), self.verb()),
            Self::Account => "/login".to_owned(),
            Self::Role => "/settings/profile".to_owned(),
        }
    }
}

/// What the person decides about.
struct Question {
    user: UserRecord,
    /// How many active tokens the account has.
    tokens: u64,
    /// How many MCP sessions those have open on this node.
    sessions: usize,
    is_own: bool,
}

pub(crate) async fn show(
    State(state): State<AppState>,
    taken: Taken,
    Person(browser): Person,
    OnPage(Segment(user_id)): OnPage<Segment>,
) -> Response {
    match known(&state, &browser.by, &user_id) {
        Ok(user_id) => ask(&state, &browser.by, user_id, taken, None).await,
        Err(error) => failed(error),
    }
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    taken: Taken,
    Person(browser): Person,
    OnPage(Segment(user_id)): OnPage<Segment>,
) -> Response {
    let by = &browser.by;
    let user_id = match known(&state, by, &user_id) {
        Ok(user_id) => user_id,
        Err(error) => return failed(error),
    };
    match state.authority.change_person(by, user_id, taken.change()).await {
        Ok(_) => Redirect::to(&taken.done(user_id, by)).into_response(),
        Err(error @ AuthorityError::Conflict(_)) => ask(&state, by, user_id, taken, Some(error.into())).await,
        Err(error) => failed(error.into()),
    }
}

async fn ask(state: &AppState, by: &By, user_id: Uuid, taken: Taken, refused: Option<ApiError>) -> Response {
    let (user, tokens) = match state.authority.person(by, user_id).await {
        Ok(person) => person,
        Err(error) => return failed(error.into()),
    };
    if !taken.is_there(&user) {
        return Redirect::to(&path(user_id)).into_response();
    }
    let sessions = state.relay.open_of(user_id).sessions;
    let question = Question { is_own: user_id == by.user_id, user, tokens, sessions };
    let problem = refused.as_ref().map(ApiError::message);
    let (title, content) = match taken {
        Taken::Account => ("Disable an account", account(&question, problem)),
        Taken::Role => ("Remove the administrator role", role(&question, problem)),
    };
    let page = layout::settings(title, by, Tab::People, html! { section.card { (content) } });
    match refused {
        Some(error) => error.with_body(page),
        None => page.into_response(),
    }
}

fn account(question: &Question, problem: Option<&str>) -> Markup {
    let Question { user, tokens, sessions, is_own } = question;
    html! {
        h1 { "Disable the account of " (user.email) "?" }
        (layout::problem(problem, &[]))
        p { "This takes effect immediately, on every node:" }
        ul.consequences {
            li { "The account can no longer sign in, and its browser sessions end." }
            @if *tokens == 0 { li { "The account has no active tokens." } }
            @else {
                li { strong { "Its " (counted(*tokens, "active token")) } @if *tokens == 1 { " is" } @else { " are" } " refused." }
                li {
                    "The MCP sessions of its tokens and the calls in progress end"
                    @if *sessions > 0 { ": " strong { (counted(*sessions as u64, "session")) } @if *sessions == 1 { " is" } @else { " are" } " open on this node" }
                    "."
                }
            }
        }
        @if *is_own { p.due { strong { "This is your own account." } " You will be signed out, and another administrator has to enable the account again." } }
        p { "Nothing is deleted: enabling the account makes its tokens work again. To end tokens for good, revoke them." }
        (details(question))
        (buttons(user, Taken::Account, "Disable the account", "Cancel"))
    }
}

fn role(question: &Question, problem: Option<&str>) -> Markup {
    let Question { user, tokens, is_own, .. } = question;
    html! {
        h1 { "Remove the administrator role from " (user.email) "?" }
        (layout::problem(problem, &[]))
        p { "This takes effect immediately, on every node:" }
        ul.consequences {
            li { "The account can no longer use the administration pages or API." }
            @if *tokens > 0 { li { strong { "Its " (counted(*tokens, "active token")) } @if *tokens == 1 { " keeps" } @else { " keep" } " working, but no longer for administration." } }
            li { "The account stays signed in." }
        }
        @if *is_own { p.due { strong { "This is your own account." } " You cannot restore the role yourself; another administrator has to." } }
        (details(question))
        (buttons(user, Taken::Role, "Remove the role", "Cancel"))
    }
}

fn details(Question { user, tokens, .. }: &Question) -> Markup {
    html! {
        dl {
            dt { "Account" } dd { a href=(path(user.user_id)) { (user.email) } " " (badges(user)) }
            dt { "Created" } dd { (day(user.created_at)) }
            dt { "Active tokens" } dd { (tokens) }
        }
    }
}

fn buttons(user: &UserRecord, taken: Taken, take: &str, leave: &str) -> Markup {
    html! {
        form.row method="post" action={ (path(user.user_id)) "/" (taken.verb()) } {
            button.danger type="submit" { (take) }
            a.button.quiet href=(path(user.user_id)) { (leave) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(tokens: u64, sessions: usize, is_own: bool) -> Question {
        let user = UserRecord {
            user_id: Uuid::nil(),
            email: "<b>@example.org".into(),
            password_hash: String::new(),
            is_admin: true,
            created_at: "2026-04-07T00:00:00Z".parse().expect("a time"),
            disabled_at: None,
            upstreams: None,
        };
        Question { user, tokens, sessions, is_own }
    }

    #[test]
    fn the_questions_say_how_much_it_concerns() {
        let one = account(&question(1, 1, false), None).into_string();
        assert!(one.contains("Its 1 active token</strong> is refused"), "{one}");
        assert!(one.contains("1 session</strong> is open on this node"), "{one}");
        let many = account(&question(1200, 2, false), None).into_string();
        assert!(many.contains("Its 1,200 active tokens</strong> are refused"), "{many}");
        assert!(many.contains("2 sessions</strong> are open on this node"), "{many}");
        let none = account(&question(0, 0, false), None).into_string();
        assert!(none.contains("no active token") && !none.contains("MCP sessions"), "{none}");
        let works_on = role(&question(3, 2, false), None).into_string();
        assert!(works_on.contains("Its 3 active tokens</strong> keep working"), "{works_on}");
        assert!(!works_on.contains("refused"), "{works_on}");
        for page in [one, many, none, works_on] {
            assert!(!page.contains("<b>") && !page.contains("your own"), "{page}");
        }
    }

    #[test]
    fn who_takes_it_from_themselves_is_told_so() {
        for page in [account(&question(0, 0, true), None), role(&question(0, 0, true), Some("no"))] {
            assert!(page.into_string().contains("This is your own account"));
        }
    }
}
