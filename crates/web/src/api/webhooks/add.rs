//! `POST …/webhooks`: adds a webhook and shows its secret once.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use trustrelay_authority::{By, Whose};

use crate::api::webhooks::Webhook;
use crate::body::{Json, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Add {
    url: String,
}

/// The one type that carries a webhook's secret out.
#[derive(Serialize)]
struct Added {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

pub(crate) async fn own(
    State(state): State<AppState>,
    Sent(Caller(by), Json(add)): Sent<Caller, Json<Add>>,
) -> Result<Response, ApiError> {
    handle(&state, &by, Whose::Own, &add).await
}

pub(crate) async fn everybody(
    State(state): State<AppState>,
    Sent(Caller(by), Json(add)): Sent<Caller, Json<Add>>,
) -> Result<Response, ApiError> {
    handle(&state, &by, Whose::Everybody, &add).await
}

async fn handle(state: &AppState, by: &By, whose: Whose, add: &Add) -> Result<Response, ApiError> {
    let added = state.authority.add_webhook(by, whose, &add.url).await?;
    let value = Added { secret: added.secret.expose().to_string(), webhook: added.record.into() };
    let mut answer = (StatusCode::CREATED, Value { value }).into_response();
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}
