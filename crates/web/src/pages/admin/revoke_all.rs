//! `/admin/tokens/revoke`: all tokens that a search fits, if the person says how many those are.
//!
//! A slip must not end everybody's tokens: a search that says nothing is sent back to say
//! something, the number is typed and not clicked, and if it is not true any more nothing is
//! revoked.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use trustrelay_authority::{
    AuthorityError, By, PatFilter, PatOwner, PatState, PatsFound, Place, REVOKE_BATCH,
};

use super::tokens::{Looked, number, owner};
use crate::body::{Filled, Sent};
use crate::error::ApiError;
use crate::extract::Asked;
use crate::pages::amounts::{count, counted};
use crate::pages::layout::{self, Problem, Tab, field_problem, invalid};
use crate::pages::{Person, failed};
use crate::state::AppState;

/// How many of them are named.
const NAMED: u64 = 10;

#[derive(Default, Deserialize)]
pub(crate) struct Confirmed {
    #[serde(default)]
    expected: String,
}

/// What the person decides about.
struct Question {
    found: PatsFound,
    /// Whose they are, if they are one account's.
    owner: Option<String>,
    /// How many of them are the person's own.
    own: u64,
    /// Whether they are expired ones.
    is_over: bool,
}

pub(crate) async fn show(
    State(state): State<AppState>,
    Person(browser): Person,
    Asked(search): Asked<Looked>,
) -> Response {
    ask(&state, &browser.by, &search, None).await
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    Asked(search): Asked<Looked>,
    Sent(Person(browser), Filled(form)): Sent<Person, Filled<Confirmed>>,
) -> Response {
    let revoked = async {
        let filter = narrowed(&state, &browser.by, &search)?;
        let expected = form.expected.trim().parse().map_err(|_| AuthorityError::Invalid {
            field: "expected",
            message: "`expected` must be a number; type only the number of tokens".into(),
        })?;
        Ok::<_, ApiError>(state.admin_revoke_matching(&browser.by, &filter, expected).await?)
    };
    match revoked.await {
        Ok(revoked) => {
            let revoked = revoked.revoked.to_string();
            Redirect::to(&search.list(&[("revoked", &revoked)])).into_response()
        }
        Err(error) if error.status().is_client_error() => {
            ask(&state, &browser.by, &search, Some(error)).await
        }
        Err(error) => failed(error),
    }
}

/// What the search says, of an administrator, if it says something.
fn narrowed(state: &AppState, by: &By, search: &Looked) -> Result<PatFilter, ApiError> {
    state.authority.is_administrator(by)?;
    let filter = search.filter()?;
    if filter.is_open() {
        let message = "this would revoke all tokens; filter by owner, name, secret or date first";
        return Err(ApiError::bad_request(message.to_owned()));
    }
    if filter.state == Some(PatState::Revoked) {
        return Err(ApiError::bad_request(
            "revoked tokens cannot be revoked again; search for active or expired tokens".to_owned(),
        ));
    }
    // As the revocation itself does where nothing is said.
    Ok(PatFilter { state: Some(filter.state.unwrap_or(PatState::Active)), ..filter })
}

/// Those of the tokens that are the person's own.
fn own(filter: &PatFilter, by: &By) -> Option<PatFilter> {
    let may_be = match &filter.owner {
        None => true,
        Some(PatOwner::Id(user_id)) => *user_id == by.user_id,
        Some(PatOwner::Email(start)) => by.email.starts_with(&start.to_lowercase()),
    };
    may_be.then(|| PatFilter { owner: Some(PatOwner::Id(by.user_id)), ..filter.clone() })
}

async fn question(state: &AppState, by: &By, search: &Looked) -> Result<Question, ApiError> {
    let filter = narrowed(state, by, search)?;
    let place = Place { after: None, limit: Some(NAMED) };
    let found = state.authority.admin_tokens(by, &filter, &place).await?;
    let own = match own(&filter, by) {
        Some(own) => state.authority.admin_tokens(by, &own, &place).await?.count,
        None => 0,
    };
    let owner = owner(state, search).await?.map(|(_, email)| email);
    Ok(Question { found, owner, own, is_over: filter.state == Some(PatState::Expired) })
}

async fn ask(state: &AppState, by: &By, search: &Looked, refused: Option<ApiError>) -> Response {
    let question = match question(state, by, search).await {
        Ok(question) => question,
        Err(error) => return failed(error),
    };
    let problem = refused.as_ref().map(Problem::from);
    let page = layout::settings("Revoke tokens", by, Tab::Tokens, asking(&question, search, problem));
    match refused {
        Some(error) => error.with_body(page),
        None => page.into_response(),
    }
}

fn asking(question: &Question, search: &Looked, problem: Option<Problem<'_>>) -> Markup {
    let all = question.found.count;
    let kind = if question.is_over { "expired token" } else { "active token" };
    html! {
        section.card {
            @match &question.owner {
                Some(email) => h1 { "Revoke all " (kind) "s of " (email) "?" },
                None => h1 { "Revoke all " (kind) "s that match?" },
            }
            (layout::problem(problem, if (1..=REVOKE_BATCH as u64).contains(&all) { &["expected"] } else { &[] }))
            @if all == 0 {
                p { "No tokens match." }
                p { a.button.quiet href=(search.list(&[])) { "Back to the tokens" } }
            } @else if all > REVOKE_BATCH as u64 {
                p { strong { (number(all)) } " tokens match, but at most " (count(REVOKE_BATCH as u64)) " can be revoked at a time. Narrow the search, for example by name or date." }
                p { a.button.quiet href=(search.list(&[])) { "Back to the tokens" } }
            } @else {
                p {
                    strong { (counted(all, kind)) } @if all == 1 { " stops" } @else { " stop" } " working immediately, along with the MCP sessions and the tokens created with "
                    @if all == 1 { "it" } @else { "them" } ". This cannot be undone. The owners are notified."
                }
                @if question.own > 0 {
                    p.due { strong { (counted(question.own, "token")) " of your own" } @if question.own == 1 { " is" } @else { " are" } " among them." }
                }
                (named(&question.found))
                form.stack method="post" action=(search.link("/admin/tokens/revoke", &[])) {
                    label {
                        "Number of tokens"
                        input type="text" name="expected" inputmode="numeric" required autocomplete="off" aria-describedby=[problem.map(|_| "problem")] aria-invalid=[invalid(problem, "expected")];
                        (field_problem(problem, "expected"))
                        small { "Type " strong { (all) } " to confirm. If the number has changed by then, nothing is revoked." }
                    }
                    div.row {
                        button.danger type="submit" { "Revoke " @if all == 1 { "the token" } @else { "the tokens" } }
                        a.button.quiet href=(search.list(&[])) { "Cancel" }
                    }
                }
            }
        }
    }
}

/// The first of them by name, in the list's order.
fn named(found: &PatsFound) -> Markup {
    let more = found.count.saturating_sub(found.page.pats.len() as u64);
    html! {
        ul.consequences {
            @for (pat, email) in &found.page.pats { li { strong { (pat.name) } " " code { (pat.hint) } " " span.faint { "of " (email) } } }
            @if more > 0 { li.faint { "and " (count(more)) " more" } }
        }
    }
}
