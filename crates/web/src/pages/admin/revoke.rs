//! `/admin/tokens/{pat_id}/revoke`: says whose token will stop working, then revokes it.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use trustrelay_authority::PatRecord;

use super::tokens::{Looked, state as stands};
use crate::api::admin::id;
use crate::error::ApiError;
use crate::extract::{Asked, OnPage, Segment};
use crate::pages::developer::chips;
use crate::pages::layout::{self, Tab};
use crate::pages::revoke::made_with;
use crate::pages::time::{ago, day};
use crate::pages::{Person, failed};
use crate::state::AppState;

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(pat_id)): OnPage<Segment>,
    Asked(search): Asked<Looked>,
) -> Response {
    let found = async {
        state.authority.is_administrator(&browser.by)?;
        let (pat, email) = state.authority.admin_token(&browser.by, id(&pat_id, "token")?).await?;
        let all = state.authority.admin_tokens_of(&browser.by, pat.user_id).await?;
        Ok::<_, ApiError>((pat, email, all))
    };
    let (pat, email, all) = match found.await {
        Ok(found) => found,
        Err(error) => return failed(error),
    };
    let children = made_with(&pat, &all).len();
    let question = question(&pat, &email, children, &search, state.authority.clock().now());
    layout::settings("Revoke a token", &browser.by, Tab::Tokens, question).into_response()
}

fn question(pat: &PatRecord, email: &str, children: usize, search: &Looked, now: Timestamp) -> Markup {
    let path = format!("/admin/tokens/{}/revoke", pat.pat_id);
    html! {
        section.card {
            h1 { "Revoke “" (pat.name) "” of " (email) "?" }
            p { "This takes effect immediately and cannot be undone:" }
            ul.consequences {
                li { "Every further request with this token is refused." }
                li { "The token’s open MCP sessions and the calls in progress end." }
                @if children > 0 { li { "Also revoked: " (children) " token" @if children > 1 { "s" } " created with this token." } }
            }
            p { "The owner is notified that an administrator revoked the token." }
            dl {
                dt { "Owner" } dd { a href={ "/admin/people/" (pat.user_id) } { (email) } }
                dt { "Token" } dd { code { (pat.hint) } }
                dt { "Scopes" } dd { (chips(&pat.scopes)) }
                dt { "Created" } dd { (day(pat.created_at)) }
                dt { "Last used" } dd { (ago(pat.last_used_at, now)) }
                dt { "Expires" } dd { (day(pat.expires_at)) (stands(pat, now)) }
            }
            form.row method="post" action=(search.link(&path, &[("after", search.after())])) {
                button.danger type="submit" { "Revoke the token" }
                a.button.quiet href=(search.list(&[])) { "Cancel" }
            }
        }
    }
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(pat_id)): OnPage<Segment>,
    Asked(search): Asked<Looked>,
) -> Response {
    let revoked = async {
        state.authority.is_administrator(&browser.by)?;
        Ok::<_, ApiError>(state.admin_revoke(&browser.by, id(&pat_id, "token")?).await?)
    };
    match revoked.await {
        Ok(_) => Redirect::to(&search.list(&[("revoked", "1")])).into_response(),
        Err(error) => failed(error),
    }
}
