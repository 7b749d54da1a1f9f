//! `POST …/webhooks/{webhook_id}/test`: sends a notice there at once, and says whether it arrived.

use axum::extract::State;
use serde::Serialize;
use trustrelay_authority::{By, Whose};
use uuid::Uuid;

use crate::api::webhooks::webhook_id;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Segment;
use crate::json::Value;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Tested {
    notice_id: Uuid,
    delivered: bool,
    /// What was wrong; `null` if nothing was.
    error: Option<String>,
}

pub(crate) async fn own(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(id): Segment,
) -> Result<Value<Tested>, ApiError> {
    handle(&state, &by, Whose::Own, &id).await
}

pub(crate) async fn everybody(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(id): Segment,
) -> Result<Value<Tested>, ApiError> {
    handle(&state, &by, Whose::Everybody, &id).await
}

async fn handle(state: &AppState, by: &By, whose: Whose, id: &str) -> Result<Value<Tested>, ApiError> {
    let tested = state.authority.test_webhook(by, whose, webhook_id(id)).await?;
    let delivered = tested.error.is_none();
    Ok(Value { value: Tested { notice_id: tested.notice_id, delivered, error: tested.error } })
}
