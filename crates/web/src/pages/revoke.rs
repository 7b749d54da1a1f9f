//! `/settings/developer/{pat_id}/revoke`: says what will stop working, then revokes.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;

use crate::api::pats::pat_ref;
use crate::error::ApiError;
use crate::extract::{OnPage, Segment};
use crate::pages::layout::{self, Tab};
use crate::pages::time::{ago, day};
use crate::pages::{Person, failed};
use crate::state::AppState;

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    let found = match pat_ref(&id) {
        Ok(which) => state.authority.get(&browser.principal, which).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    let pat = match found {
        Ok(pat) => pat,
        Err(error) => return failed(error),
    };
    let now = state.authority.clock().now();
    layout::settings("Revoke a token", &browser.principal.email, Tab::Developer, html! {
        section.card {
            h1 { "Revoke “" (pat.name) "”?" }
            p { "Whatever uses this token stops working at once: its open MCP sessions end, its calls are cut, and every later request is refused. "
                "Tokens that were made with it are revoked too. This cannot be undone." }
            dl {
                dt { "Token" } dd { code { (pat.hint) } }
                dt { "Opens" } dd { @for scope in pat.scopes.iter() { span.chip { (scope) } " " } }
                dt { "Created" } dd { (day(pat.created_at)) }
                dt { "Last used" } dd { (ago(pat.last_used_at, now)) }
            }
            form.row method="post" action={ "/settings/developer/" (pat.pat_id) "/revoke" } {
                button.danger type="submit" autofocus { "Revoke the token" }
                a.button.quiet href="/settings/developer" { "Keep it" }
            }
        }
    })
    .into_response()
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    let revoked = match pat_ref(&id) {
        Ok(which) => state.revoke(&browser.principal, which).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match revoked {
        Ok(_) => Redirect::to("/settings/developer?revoked=1").into_response(),
        Err(error) => failed(error),
    }
}
