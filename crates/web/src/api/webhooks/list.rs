//! `GET …/webhooks`: oldest first.

use axum::extract::State;
use trustrelay_authority::{By, Whose};

use crate::api::webhooks::Webhook;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::{Queried, Whole};
use crate::json::Value;
use crate::state::AppState;

pub(crate) async fn own(
    State(state): State<AppState>,
    Caller(by): Caller,
    _: Queried<Whole>,
) -> Result<Value<Vec<Webhook>>, ApiError> {
    handle(&state, &by, Whose::Own).await
}

pub(crate) async fn everybody(
    State(state): State<AppState>,
    Caller(by): Caller,
    _: Queried<Whole>,
) -> Result<Value<Vec<Webhook>>, ApiError> {
    handle(&state, &by, Whose::Everybody).await
}

async fn handle(state: &AppState, by: &By, whose: Whose) -> Result<Value<Vec<Webhook>>, ApiError> {
    let webhooks = state.authority.webhooks(by, whose).await?;
    Ok(Value { value: webhooks.into_iter().map(Webhook::from).collect() })
}
