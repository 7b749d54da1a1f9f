//! `/settings/profile`: the password, and signing out everywhere.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{By, MIN_PASSWORD_CHARS};

use crate::body::{Filled, Sent};
use crate::error::ApiError;
use crate::extract::Asked;
use crate::pages::amounts::counted;
use crate::pages::layout::{self, Problem, Tab, field_problem, invalid};
use crate::pages::{Person, failed};
use crate::state::AppState;

fn page(by: &By, problem: Option<Problem<'_>>, done: Option<&str>) -> Markup {
    layout::settings(
        "Profile",
        by,
        Tab::Profile,
        html! {
            h1 { "Profile" }
            p.lead { "Signed in as " strong { (by.email) } "." }
            @if let Some(done) = done { p.done role="status" { (done) } }
            section.card {
                h2 { "Password" }
                (layout::problem(problem, &["current_password", "new_password"]))
                form.stack method="post" action="/settings/profile/password" {
                    label {
                        "Current password"
                        input type="password" name="current_password" autocomplete="current-password" required aria-invalid=[invalid(problem, "current_password")];
                        (field_problem(problem, "current_password"))
                    }
                    label {
                        "New password"
                        input type="password" name="new_password" autocomplete="new-password" minlength=(MIN_PASSWORD_CHARS) required aria-invalid=[invalid(problem, "new_password")];
                        (field_problem(problem, "new_password"))
                        small { "At least " (MIN_PASSWORD_CHARS) " characters. You will be signed out of other browsers. Your tokens keep working." }
                    }
                    button type="submit" { "Change the password" }
                }
            }
            section.card {
                h2 { "Sign out everywhere" }
                p { "Signs you out of all other browsers. Tokens keep working; you can revoke them on the Developer page." }
                form method="post" action="/settings/profile/sign-out-everywhere" {
                    button.quiet.danger type="submit" { "Sign out everywhere else" }
                }
            }
        },
    )
}

/// What was done a moment ago.
#[derive(Deserialize)]
pub(crate) struct Came {
    changed: Option<String>,
    /// So many other browsers were signed out.
    ended: Option<u64>,
}

pub(crate) async fn show(Person(browser): Person, Asked(came): Asked<Came>) -> Markup {
    let done = match came {
        Came { changed: Some(_), .. } => Some("The password is changed.".to_owned()),
        Came { ended: Some(0), .. } => Some("No other browser was signed in.".to_owned()),
        Came { ended: Some(ended), .. } => {
            Some(format!("Signed out of {}.", counted(ended, "other browser")))
        }
        Came { .. } => None,
    };
    page(&browser.by, None, done.as_deref())
}

#[derive(Deserialize)]
pub(crate) struct Change {
    current_password: String,
    new_password: String,
}

pub(crate) async fn change_password(
    State(state): State<AppState>,
    Sent(Person(browser), Filled(form)): Sent<Person, Filled<Change>>,
) -> Response {
    let changed = state
        .authority
        .change_password(&browser.by, &browser.cookie, form.current_password, form.new_password)
        .await;
    match changed {
        Ok(()) => Redirect::to("/settings/profile?changed=1").into_response(),
        Err(error) => {
            let error = ApiError::from(error);
            let page = page(&browser.by, Some((&error).into()), None);
            error.with_body(page)
        }
    }
}

pub(crate) async fn sign_out_everywhere(State(state): State<AppState>, Person(browser): Person) -> Response {
    match state.authority.sign_out_everywhere(&browser.by, Some(&browser.cookie)).await {
        Ok(ended) => Redirect::to(&format!("/settings/profile?ended={ended}")).into_response(),
        Err(error) => failed(error.into()),
    }
}
