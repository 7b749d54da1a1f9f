//! `POST /api/user/personal-access-tokens/{pat_id}/rotate`: a new secret for a token that stays
//! what it is.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{DEFAULT_OVERLAP, Overlap, Rotate};
use uuid::Uuid;

use crate::api::pats::create::expiry;
use crate::api::pats::pat_ref;
use crate::body::{JsonOrNothing, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Segment;
use crate::json::Value;
use crate::state::AppState;

/// draft-ietf-httpapi-idempotency-key-header-07, §2.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    overlap_seconds: Option<u64>,
    until_first_use: Option<bool>,
    expires_in_days: Option<i64>,
    expires_at: Option<String>,
}

impl Asked {
    fn overlap(&self) -> Result<Overlap, ApiError> {
        match (self.overlap_seconds, self.until_first_use.unwrap_or(false)) {
            (None, true) => Ok(Overlap::UntilFirstUse),
            (Some(_), true) => {
                Err(ApiError::bad_request("use `overlap_seconds` or `until_first_use`, not both"))
            }
            (seconds, false) => Ok(Overlap::For(seconds.map_or(DEFAULT_OVERLAP, Duration::from_secs))),
        }
    }
}

#[derive(Serialize)]
struct Rotated {
    pat_id: Uuid,
    pat_name: String,
    pat_hint: String,
    pat_scope: String,
    created_at: Timestamp,
    rotated_at: Option<Timestamp>,
    expires_at: Timestamp,
    old_secret: Old,
    pat_token: String,
}

/// What becomes of the secret before.
#[derive(Serialize)]
struct Old {
    valid_until: Timestamp,
    until_first_use: bool,
}

/// The idempotency key of a request. What is no text is no key either, which is said like that of
/// any other bad one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (key, None) => Ok(key.map(|key| key.to_str().unwrap_or_default().to_owned())),
        _ => Err(ApiError::bad_request("there are several `Idempotency-Key` headers; send one")),
    }
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Segment(pat_id): Segment,
    headers: HeaderMap,
    Sent(Caller(by), JsonOrNothing(asked)): Sent<Caller, JsonOrNothing<Asked>>,
) -> Result<Response, ApiError> {
    let rotate = Rotate {
        overlap: asked.overlap()?,
        expiry: expiry(asked.expires_in_days, asked.expires_at.as_deref())?,
        idempotency_key: idempotency_key(&headers)?,
    };
    let rotated = state.authority.rotate(&by, pat_ref(&pat_id)?, rotate).await?;
    let record = rotated.record;
    let value = Rotated {
        pat_id: record.pat_id,
        pat_name: record.name,
        pat_hint: record.hint,
        pat_scope: record.scopes.to_string(),
        created_at: record.created_at,
        rotated_at: record.rotated_at,
        expires_at: record.expires_at,
        old_secret: Old { valid_until: rotated.old_valid_until, until_first_use: rotated.until_first_use },
        pat_token: rotated.token.expose().to_owned(),
    };
    let mut answer = Value { value }.into_response();
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
