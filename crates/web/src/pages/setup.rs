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
use crate::pages::layout;
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

fn page(token: &str, email: &str, problem: Option<&str>) -> Markup {
    layout::plain(
        "Set up",
        html! {
            h1 { "Welcome to TrustRelay" }
            p { "Make the first account. It administers this TrustRelay; the link that brought you here then no longer works." }
            (layout::problem(problem))
            form.stack method="post" action="/setup" {
                input type="hidden" name="token" value=(token);
                label { "E-mail" input type="email" name="email" value=(email) autocomplete="username" required autofocus; }
                label {
                    "Password"
                    input type="password" name="password" autocomplete="new-password" minlength=(MIN_PASSWORD_CHARS) required;
                    small { "At least " (MIN_PASSWORD_CHARS) " characters." }
                }
                button type="submit" { "Make the account" }
            }
        },
    )
}

fn closed() -> Response {
    let page = layout::plain(
        "Set up",
        html! {
            h1 { "This link no longer works" }
            p { "It works once. As long as there is no account, the server prints a new one each time it starts." }
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
        let page = page(&form.token, &form.email, Some(error.message()));
        return error.with_body(page);
    }
    // The new administrator is signed in at once.
    let signed_in = state.login(&form.email, form.password, address).await;
    match signed_in.map_err(ApiError::from).and_then(|(secret, at)| session_cookie(&state, &secret, at)) {
        Ok(cookie) => ([(SET_COOKIE, cookie)], Redirect::to("/settings/developer")).into_response(),
        Err(_) => Redirect::to("/login").into_response(),
    }
}
