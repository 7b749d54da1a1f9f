//! `DELETE …/webhooks/{webhook_id}`: what is pending for it is given up.

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
pub(crate) struct Removed {
    webhook_id: Uuid,
}

pub(crate) async fn own(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(id): Segment,
) -> Result<Value<Removed>, ApiError> {
    handle(&state, &by, Whose::Own, &id).await
}

pub(crate) async fn everybody(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(id): Segment,
) -> Result<Value<Removed>, ApiError> {
    handle(&state, &by, Whose::Everybody, &id).await
}

async fn handle(state: &AppState, by: &By, whose: Whose, id: &str) -> Result<Value<Removed>, ApiError> {
    let webhook_id = webhook_id(id);
    state.authority.remove_webhook(by, whose, webhook_id).await?;
    Ok(Value { value: Removed { webhook_id } })
}
