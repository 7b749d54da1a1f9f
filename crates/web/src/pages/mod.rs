//! The pages: server-rendered, and working without JavaScript. One file a page.

mod assets;
mod developer;
mod layout;
mod login;
mod profile;
mod revoke;
mod setup;
mod snippets;
mod time;

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::request::Parts;
use maud::html;
use url::form_urlencoded;

use crate::credential::Browser;
use crate::state::AppState;

/// The pages' routes.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login::show).post(login::submit))
        .route("/logout", post(login::sign_out))
        .route("/setup", get(setup::show).post(setup::submit))
        .route("/settings/profile", get(profile::show))
        .route("/settings/profile/password", post(profile::change_password))
        .route("/settings/profile/sign-out-everywhere", post(profile::sign_out_everywhere))
        .route("/settings/developer", get(developer::show).post(developer::create))
        .route("/settings/developer/{pat_id}/revoke", get(revoke::show).post(revoke::submit))
        .route("/assets/{name}", get(assets::serve))
}

async fn home(State(state): State<AppState>, parts: Parts) -> Response {
    let mut parts = parts;
    match Browser::from_request_parts(&mut parts, &state).await {
        Ok(_) => Redirect::to("/settings/developer").into_response(),
        Err(_) => Redirect::to("/login").into_response(),
    }
}

/// A signed-in person; who is not is sent to sign in, and comes back.
pub(crate) struct Person(pub(crate) Browser);

impl FromRequestParts<AppState> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let next = parts.uri.path().to_owned();
        match Browser::from_request_parts(parts, state).await {
            Ok(browser) => Ok(Self(browser)),
            Err(error) if error.status() == StatusCode::UNAUTHORIZED => {
                let query =
                    form_urlencoded::Serializer::new(String::new()).append_pair("next", &next).finish();
                Err(Redirect::to(&format!("/login?{query}")).into_response())
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// A page that says what went wrong.
pub(crate) fn failed(error: &crate::error::ApiError) -> Response {
    let page = layout::plain(
        "That did not work",
        html! {
            h1 { "That did not work" }
            p { (error.message()) }
            p { a href="/" { "Back to the start" } }
        },
    );
    (error.status(), page).into_response()
}

/// The page for a path where there is nothing.
pub(crate) fn not_found() -> Response {
    let page = layout::plain(
        "Not found",
        html! {
            h1 { "There is nothing here" }
            p { "The address may be mistyped, or the page may have moved." }
            p { a href="/" { "Back to the start" } }
        },
    );
    (StatusCode::NOT_FOUND, page).into_response()
}
