//! `/setup`: the first account, by the one-time link.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::MIN_PASSWORD_CHARS;

use crate::api::auth::login::session_cookie;
use crate::body::{Filled, Sent};
use crate::credential::{From, SameOrigin};
use crate::error::ApiError;
use crate::extract::{Asked, OnPage};
use crate::pages::layout::{self, Problem, field_problem, invalid};
use crate::state::AppState;

#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub(crate) struct First {
    token: String,
    email: String,
    password: String,
}

fn page(token: &str, email: &str, problem: Option<Problem<'_>>) -> Markup {
    layout::plain(
        "Set up",
        html! {
            h1 { "Welcome to TrustRelay" }
            p { "Create the first account. It will be an administrator. After that, this setup link no longer works." }
            (layout::problem(problem, &["email", "password"]))
            form.stack method="post" action="/setup" {
                input type="hidden" name="token" value=(token);
                label {
                    "Email"
                    input type="email" name="email" value=(email) autocomplete="username" required autofocus aria-invalid=[invalid(problem, "email")];
                    (field_problem(problem, "email"))
                }
                label {
                    "Password"
                    input type="password" name="password" autocomplete="new-password" minlength=(MIN_PASSWORD_CHARS) required aria-invalid=[invalid(problem, "password")];
                    (field_problem(problem, "password"))
                    small { "At least " (MIN_PASSWORD_CHARS) " characters." }
                }
                button type="submit" { "Create the account" }
            }
        },
    )
}

fn closed() -> Response {
    let page = layout::plain(
        "Set up",
        html! {
            h1 { "This link no longer works" }
            p { "A setup link works once. Until the first account exists, the server prints a new link each time it starts." }
            p { a href="/login" { "Sign in" } }
        },
    );
    (StatusCode::NOT_FOUND, page).into_response()
}

pub(crate) async fn show(State(state): State<AppState>, Asked(Link { token }): Asked<Link>) -> Response {
    if state.authority.setup_is_open(&token) { page(&token, "", None).into_response() } else { closed() }
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    From(address): From,
    Sent(_, Filled(form)): Sent<OnPage<SameOrigin>, Filled<First>>,
) -> Response {
    if !state.authority.setup_is_open(&form.token) {
        return closed();
    }
    if let Err(error) =
        state.authority.set_up(&form.token, form.email.clone(), form.password.clone(), address).await
    {
        let error = ApiError::from(error);
        let page = page(&form.token, &form.email, Some((&error).into()));
        return error.with_body(page);
    }
    // The new administrator is signed in at once.
    let signed_in = state.login(&form.email, form.password, address).await;
    match signed_in.map_err(ApiError::from).and_then(|(secret, at)| session_cookie(&state, &secret, at)) {
        Ok(cookie) => ([(SET_COOKIE, cookie)], Redirect::to("/settings/developer")).into_response(),
        Err(_) => Redirect::to("/login").into_response(),
    }
}
