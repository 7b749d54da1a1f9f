//! `/settings/developer/{pat_id}/revoke`: says what will stop working, then revokes.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use trustrelay_authority::PatRecord;

use crate::api::pats::pat_ref;
use crate::error::ApiError;
use crate::extract::{OnPage, Segment};
use crate::pages::developer::chips;
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
        Ok(which) => state.authority.get(&browser.by, which).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    let pat = match found {
        Ok(pat) => pat,
        Err(error) => return failed(error),
    };
    let all = match state.authority.list(&browser.by).await {
        Ok(all) => all,
        Err(error) => return failed(error.into()),
    };
    let children = made_with(&pat, &all);
    let now = state.authority.clock().now();
    let question = question(&pat, &children, now);
    layout::settings("Revoke a token", &browser.by, Tab::Developer, question).into_response()
}

/// The tokens that were made with a token, and with those, and so on: they are revoked with it.
pub(crate) fn made_with<'a>(pat: &PatRecord, all: &'a [PatRecord]) -> Vec<&'a PatRecord> {
    let mut found: Vec<&PatRecord> = Vec::new();
    let mut parents = vec![pat.pat_id];
    while let Some(parent) = parents.pop() {
        let children: Vec<_> = all.iter().filter(|child| child.parent_id == Some(parent)).collect();
        parents.extend(children.iter().map(|child| child.pat_id));
        found.extend(children);
    }
    found
}

fn question(pat: &PatRecord, children: &[&PatRecord], now: Timestamp) -> Markup {
    html! {
        section.card {
            h1 { "Revoke “" (pat.name) "”?" }
            p { "This takes effect immediately and cannot be undone:" }
            ul.consequences {
                li { "Every further request with this token is refused." }
                li { "The token’s open MCP sessions and the calls in progress end." }
                @if !children.is_empty() {
                    li {
                        "Also revoked: " (children.len()) " token" @if children.len() > 1 { "s" } " created with this token: "
                        @for (at, child) in children.iter().enumerate() { @if at > 0 { ", " } strong { (child.name) } } "."
                    }
                }
            }
            dl {
                dt { "Token" } dd { code { (pat.hint) } }
                dt { "Scopes" } dd { (chips(&pat.scopes)) }
                dt { "Created" } dd { (day(pat.created_at)) }
                dt { "Last used" } dd { (ago(pat.last_used_at, now)) }
            }
            form.row method="post" action={ "/settings/developer/" (pat.pat_id) "/revoke" } {
                button.danger type="submit" { "Revoke the token" }
                a.button.quiet href="/settings/developer" { "Cancel" }
            }
        }
    }
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    let revoked = match pat_ref(&id) {
        Ok(which) => state.revoke(&browser.by, which).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match revoked {
        Ok(_) => Redirect::to("/settings/developer?revoked=1").into_response(),
        Err(error) => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn pat(id: u128, parent: Option<u128>) -> PatRecord {
        let now = "2026-04-07T00:00:00Z".parse().expect("a time");
        PatRecord {
            pat_id: Uuid::from_u128(id),
            user_id: Uuid::nil(),
            name: format!("<{id}>"),
            hint: "...abcd".into(),
            scopes: "mcp api".parse().expect("scopes"),
            digest: trustrelay_token::TokenDigest::from_bytes([0; 32]),
            key_id: trustrelay_token::KeyId(1),
            parent_id: parent.map(Uuid::from_u128),
            created_at: now,
            expires_at: now,
            revoked_at: None,
            last_used_at: None,
            rotated_at: None,
            limits: None,
        }
    }

    #[test]
    fn the_question_names_the_tokens_that_go_with_it_and_no_others() {
        let all = [pat(1, None), pat(2, Some(1)), pat(3, Some(2)), pat(4, None), pat(5, Some(4))];
        let children = made_with(&all[0], &all);
        assert_eq!(children.iter().map(|child| child.pat_id.as_u128()).collect::<Vec<_>>(), [2, 3]);
        let page = question(&all[0], &children, all[0].created_at).into_string();
        assert!(
            page.contains("Also revoked: 2 tokens created with this token: <strong>&lt;2&gt;</strong>, <strong>&lt;3&gt;"),
            "{page}"
        );
        let page = question(&all[2], &made_with(&all[2], &all), all[0].created_at).into_string();
        assert!(!page.contains("created with this token"), "{page}");
    }
}
