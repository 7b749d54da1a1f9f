//! `POST /api/user/personal-access-tokens`: makes a token and shows it once.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{AskedLimits, Expiry, NewPat};
use uuid::Uuid;

use crate::body::{Json, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::json::Value;
use crate::limits::Shown;
use crate::state::AppState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    pat_name: String,
    pat_scope: String,
    expires_in_days: Option<i64>,
    expires_at: Option<String>,
    allowed_networks: Option<Vec<String>>,
    requests_per_minute: Option<i64>,
    expires_if_unused_days: Option<i64>,
}

/// When a token is to expire, by what a body says.
pub(crate) fn expiry(days: Option<i64>, at: Option<&str>) -> Result<Expiry, ApiError> {
    match (days, at) {
        (None, None) => Ok(Expiry::Default),
        (Some(days), None) => Ok(Expiry::Days(days)),
        (None, Some(at)) => at.parse().map(Expiry::At).map_err(|_| {
            ApiError::bad_request(
                "`expires_at` is not a time; write it as RFC 3339, such as 2027-01-31T00:00:00Z",
            )
        }),
        (Some(_), Some(_)) => Err(ApiError::bad_request("use `expires_in_days` or `expires_at`, not both")),
    }
}

/// The one type that carries a token out.
#[derive(Serialize)]
struct Created {
    pat_id: Uuid,
    pat_name: String,
    pat_hint: String,
    pat_scope: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[serde(flatten)]
    limits: Shown,
    pat_token: String,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Sent(Caller(by), Json(create)): Sent<Caller, Json<Create>>,
) -> Result<Response, ApiError> {
    let expiry = expiry(create.expires_in_days, create.expires_at.as_deref())?;
    let limits = AskedLimits {
        networks: create.allowed_networks.unwrap_or_default(),
        requests_per_minute: create.requests_per_minute,
        unused_days: create.expires_if_unused_days,
    };
    let new = NewPat { name: create.pat_name, scope: create.pat_scope, expiry, limits: limits.read()? };
    let issued = state.issue(&by, new).await?;
    let record = issued.record;
    let created = Created {
        pat_id: record.pat_id,
        pat_name: record.name,
        pat_hint: record.hint,
        pat_scope: record.scopes.to_string(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        limits: record.limits.into(),
        pat_token: issued.token.expose().to_owned(),
    };
    let mut answer = (StatusCode::CREATED, Value { value: created }).into_response();
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
