//! The pages of administrators. Who is none is told so, whatever the address.

pub(crate) mod accept;
pub(crate) mod people;
pub(crate) mod person;
pub(crate) mod policy;
pub(crate) mod power;
pub(crate) mod revoke;
pub(crate) mod revoke_all;
pub(crate) mod tokens;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use trustrelay_authority::UserRecord;

use crate::pages::{Person, failed};
use crate::state::AppState;

/// `/admin`: the people.
pub(crate) async fn home(State(state): State<AppState>, Person(browser): Person) -> Response {
    match state.authority.is_administrator(&browser.by) {
        Ok(()) => Redirect::to("/admin/people").into_response(),
        Err(error) => failed(error.into()),
    }
}

/// What an account is, at a glance.
fn badges(user: &UserRecord) -> Markup {
    html! {
        @if user.is_admin { span.badge { "administrator" } " " }
        @if user.disabled_at.is_some() { span.badge.danger { "disabled" } " " }
        @if let Some(upstreams) = &user.upstreams { span.badge.warn { (upstreams.len()) " server" @if upstreams.len() != 1 { "s" } " only" } }
    }
}
