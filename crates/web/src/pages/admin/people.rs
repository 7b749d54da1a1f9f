//! `/admin/people`: who is there, and who is invited.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{AuthorityError, By, INVITE_DAYS, InviteRecord, Place, UserFilter, UserPage};
use url::form_urlencoded;

use super::badges;
use crate::api::admin::id;
use crate::api::admin::invites::link;
use crate::body::{Filled, Sent};
use crate::error::ApiError;
use crate::extract::{Asked, OnPage, Segment};
use crate::pages::developer::base;
use crate::pages::layout::{self, Problem, Tab, field_problem, invalid};
use crate::pages::once::{self, Once};
use crate::pages::time::day;
use crate::pages::{Person, failed};
use crate::state::AppState;

const PATH: &str = "/admin/people";
/// How many people a page shows.
const ROWS: u64 = 50;

#[derive(Default, Deserialize)]
pub(crate) struct Search {
    #[serde(default)]
    email: String,
    after: Option<String>,
    withdrawn: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Invitation {
    email: String,
    is_admin: Option<String>,
}

/// An invitation that was made a moment ago.
#[derive(Serialize, Deserialize)]
struct Fresh {
    email: String,
    secret: String,
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    parts: Parts,
    Asked(search): Asked<Search>,
    once: Once,
) -> Response {
    let invited = once.open(&state, &browser, PATH);
    let done = match invited {
        Some(Fresh { email, secret }) => Some(fresh(&email, &link(&base(&state, &parts), &secret))),
        None if search.withdrawn.is_some() => {
            Some(html! { p.done role="status" { "The invitation is revoked." } })
        }
        None => None,
    };
    let page = render(&state, &browser.by, &search, done, None).await;
    once.over(&state, PATH, page)
}

pub(crate) async fn invite(
    State(state): State<AppState>,
    Sent(Person(browser), Filled(form)): Sent<Person, Filled<Invitation>>,
) -> Response {
    match state.authority.invite(&browser.by, &form.email, form.is_admin.is_some()).await {
        Ok(invited) => {
            let secret = invited.secret.as_str().to_owned();
            once::lead_to(&state, &browser, PATH, Fresh { email: invited.record.email, secret })
        }
        Err(error) => {
            let error = ApiError::from(error);
            let problem = Some((&*form.email, Problem::from(&error)));
            let page = render(&state, &browser.by, &Search::default(), None, problem).await;
            error.with_body(page)
        }
    }
}

pub(crate) async fn withdraw(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(invite_id)): OnPage<Segment>,
) -> Response {
    let withdrawn = async {
        state.authority.is_administrator(&browser.by)?;
        let invite_id = id(&invite_id, "invitation")?;
        Ok::<_, ApiError>(state.authority.withdraw_invite(&browser.by, invite_id).await?)
    };
    match withdrawn.await {
        Ok(()) => Redirect::to("/admin/people?withdrawn=1").into_response(),
        Err(error) => failed(error),
    }
}

/// The link of a new invitation, once.
fn fresh(email: &str, link: &str) -> Markup {
    html! {
        section.card.fresh aria-labelledby="fresh" {
            h2 #fresh { (email) " is invited" }
            p role="status" { strong { "Copy this link now and send it. " } "It won't be shown again, works once and expires in " (INVITE_DAYS) " days." }
            div.secret {
                code data-testid="invite-link" #invite-link { (link) }
                button.copy type="button" data-copy="invite-link" hidden { "Copy" }
            }
            p.faint { "Anyone who opens the link can set the password and use the account. TrustRelay does not email the link." }
            p.end { a.button.quiet href=(PATH) { "Done, hide the link" } }
        }
    }
}

async fn render(
    state: &AppState,
    by: &By,
    search: &Search,
    done: Option<Markup>,
    problem: Option<(&str, Problem<'_>)>,
) -> Response {
    let filter = UserFilter {
        email: (!search.email.is_empty()).then(|| search.email.clone()),
        ..UserFilter::default()
    };
    let place = Place { after: search.after.clone(), limit: Some(ROWS) };
    let found = async {
        let people = state.authority.people(by, &filter, &place).await?;
        Ok::<_, AuthorityError>((people, state.authority.invites(by).await?))
    };
    let (people, invites) = match found.await {
        Ok(found) => found,
        Err(error) => return failed(ApiError::from(error)),
    };
    layout::settings(
        "People",
        by,
        Tab::People,
        html! {
            h1 { "People" }
            p.lead { "All accounts on this server. Accounts can be disabled but not deleted, so that their history is kept." }
            @if let Some(done) = done { (done) }
            (list(&people, search))
            (open(&invites))
            (form(problem))
        },
    )
    .into_response()
}

fn list(people: &UserPage, search: &Search) -> Markup {
    html! {
        section.card aria-labelledby="people" {
            h2 #people { "Accounts" }
            form.filters method="get" action="/admin/people" role="search" {
                label { "Search by email" input type="search" name="email" value=(search.email) autocomplete="off"; }
                button.quiet type="submit" { "Search" }
            }
            @if people.users.is_empty() {
                p { "No results. " a href=(PATH) { "Clear filters." } }
            } @else {
                table.tokens aria-labelledby="people" {
                    thead { tr {
                        th scope="col" { "Email" } th scope="col" { "Role and state" }
                        th scope="col" { "Active tokens" } th scope="col" { "Created" }
                    } }
                    tbody { @for (user, tokens) in &people.users { tr {
                        th scope="row" { a.name href={ "/admin/people/" (user.user_id) } { (user.email) } }
                        td data-label="Role and state" { span { (badges(user)) } }
                        td data-label="Active tokens" { (tokens) }
                        td.when data-label="Created" { (day(user.created_at)) }
                    } } }
                }
                @if let Some(next) = &people.next { p { a.button.quiet href=(next_page(search, &next.to_string())) { "Next page" } } }
            }
        }
    }
}

fn next_page(search: &Search, next: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !search.email.is_empty() {
        query.append_pair("email", &search.email);
    }
    format!("/admin/people?{}", query.append_pair("after", next).finish())
}

fn open(invites: &[InviteRecord]) -> Markup {
    html! {
        @if !invites.is_empty() {
            section.card aria-labelledby="invites" {
                h2 #invites { "Open invitations " span.count { (invites.len()) } }
                table.tokens aria-labelledby="invites" {
                    thead { tr {
                        th scope="col" { "Email" } th scope="col" { "Role" } th scope="col" { "Expires" }
                        th scope="col" { span.sr { "Actions" } }
                    } }
                    tbody { @for invite in invites { tr {
                        th scope="row" { (invite.email) }
                        td data-label="Role" { span { @if invite.is_admin { span.badge { "administrator" } } @else { "user" } } }
                        td.when data-label="Expires" { (day(invite.expires_at)) }
                        td.act {
                            form method="post" action={ "/admin/invites/" (invite.invite_id) "/withdraw" } {
                                button.quiet type="submit" aria-label={ "Revoke invitation for " (invite.email) } { "Revoke invitation" }
                            }
                        }
                    } } }
                }
            }
        }
    }
}

fn form(problem: Option<(&str, Problem<'_>)>) -> Markup {
    let (email, problem) = problem.map_or(("", None), |(email, problem)| (email, Some(problem)));
    html! {
        section.card aria-labelledby="invite" {
            h2 #invite { "Invite someone" }
            (layout::problem(problem, &["email"]))
            form.stack method="post" action="/admin/people" aria-describedby=[problem.map(|_| "problem")] {
                label {
                    "Email"
                    input type="email" name="email" value=(email) required autocomplete="off" aria-invalid=[invalid(problem, "email")] autofocus[problem.is_some()];
                    (field_problem(problem, "email"))
                    small { "You get a link to send. Any earlier link for the same address stops working." }
                }
                label.choice { input type="checkbox" name="is_admin" value="1"; span { "Invite as an administrator" } }
                button type="submit" { "Create invitation link" }
            }
        }
    }
}
