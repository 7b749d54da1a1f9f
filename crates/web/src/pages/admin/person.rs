//! `/admin/people/{user_id}`: one account, and what becomes of it.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{AuthorityError, By, PersonChange, UserRecord};
use uuid::Uuid;

use super::badges;
use super::tokens::Looked;
use crate::api::admin::id;
use crate::body::{Filled, Sent};
use crate::error::ApiError;
use crate::extract::{Asked, OnPage, Segment};
use crate::pages::layout::{self, Tab};
use crate::pages::time::day;
use crate::pages::{Person, failed};
use crate::state::AppState;

#[derive(Default, Deserialize)]
pub(crate) struct Came {
    /// What was done a moment ago.
    done: Option<String>,
}

/// What was done, as long as it is so: a link may say anything.
fn says(done: &str, user: &UserRecord) -> Option<&'static str> {
    let (is_so, says) = match done {
        "disable" => (user.disabled_at.is_some(), "The account is disabled. Its tokens no longer work."),
        "enable" => (user.disabled_at.is_none(), "The account is enabled. Its tokens work again."),
        "promote" => (user.is_admin, "This account is now an administrator."),
        "demote" => (!user.is_admin, "This account is no longer an administrator."),
        "all-upstreams" => (user.upstreams.is_none(), "The account can use all servers."),
        "upstreams" => (user.upstreams.is_some(), "The account can use only the selected servers."),
        _ => return None,
    };
    is_so.then_some(says)
}

/// Where a person's page is.
pub(super) fn path(user_id: Uuid) -> String {
    format!("/admin/people/{user_id}")
}

/// Which account is meant, of an administrator.
pub(super) fn known(state: &AppState, by: &By, user_id: &str) -> Result<Uuid, ApiError> {
    state.authority.is_administrator(by)?;
    id(user_id, "account")
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(user_id)): OnPage<Segment>,
    Asked(came): Asked<Came>,
) -> Response {
    match known(&state, &browser.by, &user_id) {
        Ok(user_id) => render(&state, &browser.by, user_id, None, came.done.as_deref()).await,
        Err(error) => failed(error),
    }
}

/// What a form asks for: `change`, and the names of upstreams where it is about them. What takes
/// power away has a page that asks.
fn asked(pairs: Vec<(String, String)>) -> Result<(PersonChange, String), AuthorityError> {
    let mut change = String::new();
    let mut upstreams = Vec::new();
    for (field, value) in pairs {
        match field.as_str() {
            "change" => change = value,
            "upstream" => upstreams.push(value),
            _ => {}
        }
    }
    let asked = match change.as_str() {
        "enable" => PersonChange::Disabled(false),
        "promote" => PersonChange::Admin(true),
        "all-upstreams" => PersonChange::Upstreams(None),
        "upstreams" => PersonChange::Upstreams(Some(upstreams)),
        _ => {
            let message =
                "the form does not say what to change; go back and use one of its buttons".to_owned();
            return Err(AuthorityError::Invalid { field: "change", message });
        }
    };
    Ok((asked, change))
}

pub(crate) async fn change(
    State(state): State<AppState>,
    OnPage(Segment(user_id)): OnPage<Segment>,
    Sent(Person(browser), Filled(pairs)): Sent<Person, Filled<Vec<(String, String)>>>,
) -> Response {
    let user_id = match known(&state, &browser.by, &user_id) {
        Ok(user_id) => user_id,
        Err(error) => return failed(error),
    };
    let changed = async {
        let (change, done) = asked(pairs)?;
        state.authority.change_person(&browser.by, user_id, change).await?;
        Ok::<_, AuthorityError>(done)
    };
    match changed.await {
        Ok(done) => Redirect::to(&format!("{}?done={done}", path(user_id))).into_response(),
        Err(error @ AuthorityError::NotFound(_)) => failed(error.into()),
        Err(error) => {
            let error = ApiError::from(error);
            let page = render(&state, &browser.by, user_id, Some(error.message()), None).await;
            error.with_body(page)
        }
    }
}

async fn render(
    state: &AppState,
    by: &By,
    user_id: Uuid,
    problem: Option<&str>,
    done: Option<&str>,
) -> Response {
    let (user, tokens) = match state.authority.person(by, user_id).await {
        Ok(person) => person,
        Err(error) => return failed(error.into()),
    };
    let of = Looked::of(user_id);
    let upstreams: Vec<String> = state.relay.upstreams().into_iter().map(|upstream| upstream.name).collect();
    layout::settings(
        &user.email,
        by,
        Tab::People,
        html! {
            p.back { a href="/admin/people" { "All people" } }
            h1 { (user.email) }
            p.lead { @if user.user_id == by.user_id { span.badge { "you" } " " } (badges(&user)) }
            @if let Some(done) = done.and_then(|done| says(done, &user)) { p.done role="status" { (done) } }
            (layout::problem(problem, &[]))
            section.card aria-labelledby="account" {
                h2 #account { "Account" }
                dl.details {
                    dt { "Created" } dd { (day(user.created_at)) }
                    @if let Some(at) = user.disabled_at { dt { "Disabled" } dd { (day(at)) } }
                    dt { "Active tokens" } dd { (tokens) @if tokens > 0 { " " a href=(of.list(&[])) { "View tokens" } } }
                }
                div.row {
                    @if user.disabled_at.is_some() {
                        (button(&user, "enable", "Enable the account"))
                    } @else {
                        a.button.quiet.danger href={ (path(user_id)) "/disable" } { "Disable the account…" }
                    }
                    @if user.is_admin {
                        a.button.quiet.danger href={ (path(user_id)) "/demote" } { "Remove administrator role…" }
                    } @else {
                        (button(&user, "promote", "Make an administrator"))
                    }
                    @if tokens > 0 {
                        a.button.quiet.danger href=(of.link("/admin/tokens/revoke", &[])) { "Revoke " @if tokens == 1 { "the token…" } @else { "all " (tokens) " tokens…" } }
                    }
                }
                p.faint { "A disabled account cannot sign in, and its tokens stop working immediately. Enabling the account makes its tokens work again, except revoked ones." }
            }
            (which(&user, &upstreams))
        },
    )
    .into_response()
}

fn button(user: &UserRecord, change: &str, text: &str) -> Markup {
    html! {
        form method="post" action=(path(user.user_id)) {
            input type="hidden" name="change" value=(change);
            button.quiet type="submit" { (text) }
        }
    }
}

/// The upstreams there are, and those that the account is held to though they are gone.
fn which(user: &UserRecord, upstreams: &[String]) -> Markup {
    let held = user.upstreams.as_deref();
    let gone = held.unwrap_or_default().iter().filter(|name| !upstreams.contains(name));
    let all: Vec<&String> = upstreams.iter().chain(gone).collect();
    html! {
        section.card aria-labelledby="upstreams" {
            h2 #upstreams { "Server access" }
            p {
                @match held {
                    None => "The account can use all servers, including ones that are added later.",
                    Some(_) => "The account can use only the selected servers. Its tokens cannot see the others.",
                }
            }
            form.stack method="post" action=(path(user.user_id)) {
                @if all.is_empty() { p.faint { "No servers are configured." } }
                @for name in all {
                    label.choice {
                        input type="checkbox" name="upstream" value=(name) checked[held.is_none_or(|held| held.contains(name))];
                        span { code { (name) } }
                    }
                }
                div.row {
                    button.quiet type="submit" name="change" value="upstreams" { "Save access" }
                    @if held.is_some() { button.quiet type="submit" name="change" value="all-upstreams" { "Allow all servers" } }
                }
                p.faint { "Saving ends the account’s open MCP sessions. Clients have to start new ones." }
            }
        }
    }
}
