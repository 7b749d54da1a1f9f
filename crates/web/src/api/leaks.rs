//! `POST /api/leaks`: tokens that were seen where they should not be are revoked.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trustrelay_authority::{Actor, Candidate, Reporter};
use trustrelay_token::PREFIX;

use crate::body::{decoded, expect_kind, listed, read_up_to};
use crate::credential::From;
use crate::error::ApiError;
use crate::github::Claim;
use crate::json::Value;
use crate::state::AppState;
use crate::written::Written;

/// Largest report: a thousand candidates of a token, a URL and some words, a kilobyte each.
pub(crate) const MAX_REPORT: usize = 1024 * 1024;
/// How much is kept of where a token was seen, in characters.
const MAX_PLACE: usize = 2_048;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    candidates: Vec<Seen>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    token: Written,
    url: Option<String>,
    source: Option<String>,
}

/// As GitHub sends it; what it may add one day is ignored.
#[derive(Deserialize)]
struct Match {
    token: Written,
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    source: Option<String>,
}

/// As GitHub reads it. The token is not repeated, only its hash.
#[derive(Serialize)]
struct Label {
    token_hash: String,
    token_type: String,
    label: &'static str,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    From(address): From,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    expect_kind(&parts.headers, "application/json", "JSON")?;
    let Some(claim) = Claim::of(&parts.headers) else {
        state.authority.take_turn_to_report(address)?;
        let Report { candidates } = decoded(&read_up_to(body, &state, MAX_REPORT).await?)?;
        let received = candidates.len();
        let candidates =
            candidates.into_iter().map(|seen| candidate(seen.token.token, seen.url, seen.source));
        state.authority.report_leaks(Reporter::Anybody, candidates.collect(), address).await?;
        // Whoever has no signature is told nothing of what is a token and what is not.
        return Ok(Value { value: json!({ "received": received }) }.into_response());
    };
    // Anybody can send these headers, so an unknown key is refused before the body is read.
    let Some(keys) = state.config.github_keys.as_ref().filter(|keys| keys.know(&claim)) else {
        return Err(bad_signature(&state, address));
    };
    let body = read_up_to(body, &state, MAX_REPORT).await?;
    if !keys.have_signed(&claim, &body) {
        return Err(bad_signature(&state, address));
    }
    let matches: Vec<Match> = listed(&body)?;
    let mut labels = Vec::with_capacity(matches.len());
    let mut candidates = Vec::with_capacity(matches.len());
    for Match { token, kind, url, source } in matches {
        let token_hash = token.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        labels.push(Label { token_hash, token_type: kind, label: "false_positive" });
        candidates.push(candidate(token.token, url, source));
    }
    let known = state.authority.report_leaks(Reporter::GitHub, candidates, address).await?;
    for (label, _) in labels.iter_mut().zip(known).filter(|(_, known)| *known) {
        label.label = "true_positive";
    }
    Ok(Json(labels).into_response())
}

/// The refusal of a signature. It takes a turn, as a report without one does.
fn bad_signature(state: &AppState, address: Option<IpAddr>) -> ApiError {
    if let Err(throttled) = state.authority.take_turn_to_report(address) {
        return throttled.into();
    }
    state.authority.note_refusal("refused.leak_signature", Actor::anonymous(address), None, None, &[]);
    let message = "the signature is not valid: it does not match the body, or its key is not in the server's --github-keys";
    ApiError::new(StatusCode::FORBIDDEN, "bad_signature", message)
}

fn candidate(
    token: Option<trustrelay_token::Token>,
    url: Option<String>,
    source: Option<String>,
) -> Candidate {
    Candidate { token, url: place(url), source: place(source) }
}

/// What may be kept and shown of where a token was seen: one line of bounded length, without a
/// token in it.
fn place(text: Option<String>) -> Option<String> {
    let text: String = text?.chars().take(MAX_PLACE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(at) = rest.find(PREFIX) {
        let (before, found) = rest.split_at(at + PREFIX.len());
        shown.push_str(before);
        shown.push('…');
        rest = found.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    }
    shown.push_str(rest);
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_token_was_seen_is_kept_as_one_line_without_a_token_in_it() {
        let place = |text: &str| place(Some(text.to_owned()));
        let url = "https://example.org/o/r/blob/8f14e45fceea167a5a36dedd4bea2543a1b2c3d4/a.txt#L3";
        assert_eq!(place(url).as_deref(), Some(url), "an id of a commit is no secret");
        let with_token =
            format!("https://example.org/?t=tr_pat_{}&u=tr_pat_{}", "a".repeat(38), "b".repeat(38));
        assert_eq!(place(&with_token).as_deref(), Some("https://example.org/?t=tr_pat_…&u=tr_pat_…"));
        assert_eq!(place("a\nb\u{1b}[31m").as_deref(), Some("a b [31m"));
        assert_eq!(place(&"é".repeat(3_000)).map(|text| text.chars().count()), Some(MAX_PLACE));
        assert_eq!(place(" "), None);
        assert_eq!(super::place(None), None);
    }
}
