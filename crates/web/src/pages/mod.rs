//! The pages: server-rendered, and working without JavaScript. One file a page.

mod activity;
pub(crate) mod admin;
mod amounts;
pub(crate) mod assets;
pub(crate) mod audit;
mod audit_words;
mod chart;
pub(crate) mod developer;
pub(crate) mod layout;
mod limits;
pub(crate) mod login;
mod notice_words;
pub(crate) mod notices;
mod once;
mod policy;
pub(crate) mod profile;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod setup;
mod snippets;
mod time;
pub(crate) mod token;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::request::Parts;
use maud::html;
use url::form_urlencoded;

use crate::credential::Browser;
use crate::error::ApiError;
use crate::state::AppState;

/// `/`: the tokens, or the way to them.
pub(crate) async fn home(State(state): State<AppState>, mut parts: Parts) -> Response {
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
        match Browser::from_request_parts(parts, state).await {
            Ok(browser) => Ok(Self(browser)),
            Err(error) if error.status() == StatusCode::UNAUTHORIZED && parts.method.is_safe() => {
                let next = parts.uri.path();
                let query =
                    form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
                Err(Redirect::to(&format!("/login?{query}")).into_response())
            }
            Err(error) => Err(Self::refused(error)),
        }
    }
}

impl Person {
    /// The answer to a change that is refused. A form that was sent too late is not sent again, and
    /// its path may have no page to come back to.
    pub(crate) fn refused(error: ApiError) -> Response {
        if error.status() == StatusCode::UNAUTHORIZED {
            return Redirect::to("/login").into_response();
        }
        failed(error)
    }
}

/// A page that says what went wrong.
pub(crate) fn failed(error: ApiError) -> Response {
    let message = match error.status() {
        // The address of a form's answer was loaded again.
        StatusCode::METHOD_NOT_ALLOWED => "This page can't be reloaded. Go back and try again.".to_owned(),
        _ => layout::sentence(error.message()),
    };
    let page = layout::plain(
        "Something went wrong",
        html! {
            h1 { "Something went wrong" }
            p { (message) }
            p { a href="/" { "Go to the home page" } }
        },
    );
    error.with_body(page)
}

/// The page for a path where there is nothing.
pub(crate) fn not_found() -> Response {
    let page = layout::plain(
        "Page not found",
        html! {
            h1 { "Page not found" }
            p { "Check the address, or go to the home page." }
            p { a href="/" { "Go to the home page" } }
        },
    );
    (StatusCode::NOT_FOUND, page).into_response()
}
