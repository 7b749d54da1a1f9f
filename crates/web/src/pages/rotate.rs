//! `/settings/developer/{pat_id}/rotate`: says what will happen, then rotates; the token's page
//! shows the new secret, once.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{By, Expiry, Overlap, PatRecord, Policy, Rotate};
use uuid::Uuid;

use crate::api::pats::pat_ref;
use crate::body::{Filled, Sent};
use crate::error::ApiError;
use crate::extract::{OnPage, Segment};
use crate::pages::developer::chips;
use crate::pages::layout::{self, Tab};
use crate::pages::once;
use crate::pages::policy;
use crate::pages::time::{ago, day};
use crate::pages::{Person, failed, token};
use crate::state::AppState;

const HOUR: u64 = 3600;
/// How long the old secret may be kept, by the name of the form's choice.
const OVERLAPS: [(&str, &str, Overlap); 5] = [
    ("day", "For 24 hours", Overlap::For(Duration::from_secs(24 * HOUR))),
    ("hour", "For 1 hour", Overlap::For(Duration::from_secs(HOUR))),
    ("week", "For 7 days", Overlap::For(Duration::from_secs(7 * 24 * HOUR))),
    ("first-use", "Until the new secret is first used", Overlap::UntilFirstUse),
    ("none", "Not at all: the old secret stops working immediately", Overlap::For(Duration::ZERO)),
];

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    OnPage(Segment(id)): OnPage<Segment>,
) -> Response {
    ask(&state, &browser.by, &id, None).await
}

async fn ask(state: &AppState, by: &By, id: &str, refused: Option<ApiError>) -> Response {
    let found = async {
        let pat = state.authority.get(by, pat_ref(id)?).await?;
        Ok::<_, ApiError>((pat, state.authority.standing_policy().await?))
    };
    let (pat, policy) = match found.await {
        Ok(found) => found,
        Err(error) => return failed(error),
    };
    let problem = refused.as_ref().map(ApiError::message);
    let question = question(&pat, &policy, state.authority.clock().now(), problem);
    let page = layout::settings("Rotate a token", by, Tab::Developer, question);
    match refused {
        Some(error) => error.with_body(page),
        None => page.into_response(),
    }
}

#[derive(Deserialize)]
pub(crate) struct Choice {
    overlap: String,
    /// Of the page that asked: the form, sent twice, rotates once.
    idempotency_key: Option<String>,
}

/// A secret that a token got a moment ago.
#[derive(Serialize, Deserialize)]
pub(super) struct Turned {
    token: String,
    old_valid_until: Timestamp,
    until_first_use: bool,
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    OnPage(Segment(id)): OnPage<Segment>,
    Sent(Person(browser), Filled(choice)): Sent<Person, Filled<Choice>>,
) -> Response {
    let rotated = async {
        let which = pat_ref(&id)?;
        let asked = OVERLAPS.iter().find(|(name, ..)| *name == choice.overlap);
        let (.., overlap) =
            asked.ok_or_else(|| ApiError::bad_request("choose how long the old secret keeps working"))?;
        let asked =
            Rotate { overlap: *overlap, expiry: Expiry::Default, idempotency_key: choice.idempotency_key };
        Ok::<_, ApiError>(state.authority.rotate(&browser.by, which, asked).await?)
    };
    match rotated.await {
        Ok(rotated) => {
            let turned = Turned {
                token: rotated.token.expose().to_owned(),
                old_valid_until: rotated.old_valid_until,
                until_first_use: rotated.until_first_use,
            };
            once::lead_to(&state, &browser, &token::path(rotated.record.pat_id), turned)
        }
        Err(error) if error.status().is_client_error() => ask(&state, &browser.by, &id, Some(error)).await,
        Err(error) => failed(error),
    }
}

fn question(pat: &PatRecord, policy: &Policy, now: Timestamp, problem: Option<&str>) -> Markup {
    html! {
        p.back { a href={ "/settings/developer/" (pat.pat_id) } { "Back to the token" } }
        section.card {
            h1 { "Rotate “" (pat.name) "”" }
            p { "The token gets a new secret. Its name, permissions, history and open MCP sessions stay the same, and so do tokens created with it." }
            (layout::problem(problem, &[]))
            dl.details {
                dt { "Current secret" } dd { code { (pat.hint) } }
                dt { "Scopes" } dd { (chips(&pat.scopes)) }
                dt { "Last used" } dd { (ago(pat.last_used_at, now)) }
            }
            form method="post" action={ "/settings/developer/" (pat.pat_id) "/rotate" } aria-describedby=[problem.map(|_| "problem")] {
                input type="hidden" name="idempotency_key" value=(Uuid::now_v7());
                fieldset.choices {
                    legend { "How long should the old secret keep working?" }
                    @for (at, (name, text, _)) in OVERLAPS.iter().enumerate() {
                        label.choice {
                            input type="radio" name="overlap" value=(name) checked[at == 0];
                            span { (text) }
                        }
                    }
                }
                (policy::life_note(policy))
                p.faint { "If someone else may know the old secret, choose “Not at all”." }
                div.row {
                    button type="submit" { "Rotate the token" }
                    a.button.quiet href={ "/settings/developer/" (pat.pat_id) } { "Cancel" }
                }
            }
        }
    }
}

/// The new secret, on the token's page.
pub(super) fn fresh(turned: &Turned, pat: &PatRecord) -> Markup {
    html! {
        section.card.fresh aria-labelledby="fresh" {
            h2 #fresh { "“" (pat.name) "” has a new secret" }
            p role="status" { strong { "Copy the token now. " } "It won't be shown again." }
            div.secret {
                code data-testid="new-token" #new-token { (turned.token) }
                button.copy type="button" data-copy="new-token" hidden { "Copy" }
            }
            p {
                "The old secret "
                @if turned.until_first_use { "works until the new secret is first used." }
                @else if Some(turned.old_valid_until) <= pat.rotated_at { "no longer works." }
                @else { "works until " strong { (day(turned.old_valid_until)) } "." }
                " The token expires " (day(pat.expires_at)) "."
            }
            p.end { a.button.quiet href=(token::path(pat.pat_id)) { "Done, hide the token" } }
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
