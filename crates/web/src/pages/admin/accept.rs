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
use crate::pages::failed;
use crate::pages::layout::{self, Problem, field_problem, invalid};
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

fn page(token: &str, invite: &InviteRecord, problem: Option<Problem<'_>>) -> Markup {
    layout::plain(
        "Accept your invitation",
        html! {
            h1 { "Welcome to TrustRelay" }
            p { "Choose a password for your account" @if invite.is_admin { ". You will be an administrator" } ". After that, this invitation link no longer works." }
            (layout::problem(problem, &["password"]))
            form.stack method="post" action="/invite" {
                input type="hidden" name="token" value=(token);
                label { "Email" input type="email" value=(invite.email) autocomplete="username" readonly; }
                label {
                    "Password"
                    input type="password" name="password" autocomplete="new-password" minlength=(MIN_PASSWORD_CHARS) required autofocus aria-invalid=[invalid(problem, "password")];
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
        "Accept your invitation",
        html! {
            h1 { "This link no longer works" }
            p { "An invitation link works once, expires after a week, and is replaced by a newer one. Ask the person who sent it for a new link." }
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
            let page = page(&form.token, &invite, Some((&error).into()));
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
