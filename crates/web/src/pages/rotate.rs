//! `/settings/developer/{pat_id}/rotate`: says what will happen, then shows the new secret, once.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{Expiry, Overlap, PatRecord, Policy, Rotate, Rotated};

use crate::api::pats::pat_ref;
use crate::error::ApiError;
use crate::extract::{Filled, OnPage, Segment};
use crate::pages::developer::chips;
use crate::pages::layout::{self, Tab};
use crate::pages::policy;
use crate::pages::time::{ago, day};
use crate::pages::{Person, failed};
use crate::state::AppState;

const HOUR: u64 = 3600;
/// How long the old secret may be kept, by the name of the form's choice.
const OVERLAPS: [(&str, &str, Overlap); 5] = [
    ("day", "For 24 hours", Overlap::For(Duration::from_secs(24 * HOUR))),
    ("hour", "For 1 hour", Overlap::For(Duration::from_secs(HOUR))),
    ("week", "For 7 days", Overlap::For(Duration::from_secs(7 * 24 * HOUR))),
    ("first-use", "Until the new one is used for the first time", Overlap::UntilFirstUse),
    ("none", "Not at all: the old secret is refused at once", Overlap::For(Duration::ZERO)),
];

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    let found = async {
        let pat = state.authority.get(&browser.by, pat_ref(&id)?).await?;
        Ok::<_, ApiError>((pat, state.authority.standing_policy().await?))
    };
    match found.await {
        Ok((pat, policy)) => {
            let question = question(&pat, &policy, state.authority.clock().now(), None);
            layout::settings("Rotate a token", &browser.by, Tab::Developer, question).into_response()
        }
        Err(error) => failed(error),
    }
}

#[derive(Deserialize)]
pub(crate) struct Choice {
    overlap: String,
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
    Filled(choice): Filled<Choice>,
) -> Response {
    let asked = OVERLAPS.iter().find(|(name, ..)| *name == choice.overlap);
    let Some((.., overlap)) = asked else {
        return failed(ApiError::bad_request("choose how long the old secret is kept"));
    };
    let asked = Rotate { overlap: *overlap, expiry: Expiry::Default, idempotency_key: None };
    let rotated = match pat_ref(&id) {
        Ok(which) => state.authority.rotate(&browser.by, which, asked).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match rotated {
        Ok(rotated) => {
            let mut answer =
                layout::settings("Rotated", &browser.by, Tab::Developer, fresh(&rotated)).into_response();
            answer
                .headers_mut()
                .insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
            answer
        }
        Err(error) => failed(error),
    }
}

fn question(pat: &PatRecord, policy: &Policy, now: Timestamp, problem: Option<&str>) -> Markup {
    html! {
        p.back { a href={ "/settings/developer/" (pat.pat_id) } { "Back to the token" } }
        section.card {
            h1 { "Rotate “" (pat.name) "”" }
            p { "The token gets a new secret. Its name, its scopes, its record and its open MCP sessions stay, and so do the tokens that were made with it." }
            (layout::problem(problem))
            dl.details {
                dt { "Secret now" } dd { code { (pat.hint) } }
                dt { "Scopes" } dd { (chips(&pat.scopes)) }
                dt { "Last used" } dd { (ago(pat.last_used_at, now)) }
            }
            form method="post" action={ "/settings/developer/" (pat.pat_id) "/rotate" } {
                fieldset.choices {
                    legend { "How long does the old secret work?" }
                    @for (at, (name, text, _)) in OVERLAPS.iter().enumerate() {
                        label.choice {
                            input type="radio" name="overlap" value=(name) checked[at == 0];
                            span { (text) }
                        }
                    }
                }
                (policy::life_note(policy))
                p.faint { "If you think that somebody else has it: not at all." }
                div.row {
                    button type="submit" { "Rotate the token" }
                    a.button.quiet href={ "/settings/developer/" (pat.pat_id) } { "Keep it as it is" }
                }
            }
        }
    }
}

fn fresh(rotated: &Rotated) -> Markup {
    let pat = &rotated.record;
    html! {
        section.card.fresh aria-labelledby="fresh" {
            h1 #fresh { "“" (pat.name) "” has a new secret" }
            p role="status" { strong { "Copy the token now. " } "It is shown this once and cannot be retrieved." }
            div.secret {
                code data-testid="new-token" #new-token { (rotated.token.expose()) }
                button.copy type="button" data-copy="new-token" hidden { "Copy" }
            }
            p {
                "The old secret works "
                @if rotated.until_first_use { "until this one is used for the first time." }
                @else if Some(rotated.old_valid_until) <= pat.rotated_at { "no more." }
                @else { "until " strong { (day(rotated.old_valid_until)) } "." }
                " The token expires " (day(pat.expires_at)) "."
            }
            p.end { a.button.quiet href={ "/settings/developer/" (pat.pat_id) } { "Done, hide the token" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_one_that_a_browser_may_make() {
        for (name, _, overlap) in OVERLAPS {
            if let Overlap::For(overlap) = overlap {
                assert!(overlap <= trustrelay_authority::MAX_OVERLAP, "{name}");
            }
        }
    }
}
