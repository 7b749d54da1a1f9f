//! `/invite`: an account by a one-time link. Its owner sets the password.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{AuthorityError, InviteRecord, MIN_PASSWORD_CHARS};

use crate::api::auth::login::session_cookie;
use crate::body::{Filled, Sent};
use crate::credential::{From, SameOrigin};
use crate::error::ApiError;
use crate::extract::{Asked, OnPage};
use crate::pages::{failed, layout};
use crate::state::AppState;

#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub(crate) struct Accepted {
    token: String,
    password: String,
}

fn page(token: &str, invite: &InviteRecord, problem: Option<&str>) -> Markup {
    layout::plain(
        "You are invited",
        html! {
            h1 { "Welcome to TrustRelay" }
            p { "Choose a password for your account" @if invite.is_admin { ", which will administer this TrustRelay" } ". The link that brought you here then no longer works." }
            (layout::problem(problem))
            form.stack method="post" action="/invite" {
                input type="hidden" name="token" value=(token);
                label { "E-mail" input type="email" value=(invite.email) autocomplete="username" readonly; }
                label {
                    "Password"
                    input type="password" name="password" autocomplete="new-password" minlength=(MIN_PASSWORD_CHARS) required autofocus;
                    small { "At least " (MIN_PASSWORD_CHARS) " characters." }
                }
                button type="submit" { "Make the account" }
            }
        },
    )
}

fn closed() -> Response {
    let page = layout::plain(
        "You are invited",
        html! {
            h1 { "This link no longer works" }
            p { "It works once and for a week, and a newer one takes its place. Ask whoever sent it for another." }
            p { a href="/login" { "Sign in" } }
        },
    );
    (StatusCode::NOT_FOUND, page).into_response()
}

pub(crate) async fn show(State(state): State<AppState>, Asked(Link { token }): Asked<Link>) -> Response {
    match state.authority.invitation(&token).await {
        Ok(Some(invite)) => page(&token, &invite, None).into_response(),
        Ok(None) => closed(),
        Err(error) => failed(error.into()),
    }
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    From(address): From,
    Sent(_, Filled(form)): Sent<OnPage<SameOrigin>, Filled<Accepted>>,
) -> Response {
    let invite = match state.authority.invitation(&form.token).await {
        Ok(Some(invite)) => invite,
        Ok(None) => return closed(),
        Err(error) => return failed(error.into()),
    };
    match state.authority.accept_invite(&form.token, form.password.clone(), address).await {
        Ok(_) => {}
        Err(AuthorityError::NotFound(_)) => return closed(),
        Err(error) => {
            let error = ApiError::from(error);
            let page = page(&form.token, &invite, Some(error.message()));
            return error.with_body(page);
        }
    }
    // The new person is signed in at once.
    let signed_in = state.login(&invite.email, form.password, address).await;
    match signed_in.map_err(ApiError::from).and_then(|(secret, at)| session_cookie(&state, &secret, at)) {
        Ok(cookie) => ([(SET_COOKIE, cookie)], Redirect::to("/settings/developer")).into_response(),
        Err(_) => Redirect::to("/login").into_response(),
    }
}
