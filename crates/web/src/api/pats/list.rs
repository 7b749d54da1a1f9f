//! `GET /api/user/personal-access-tokens`: the caller's active tokens, newest first.

use axum::extract::State;

use crate::api::pats::Pat;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
) -> Result<Value<Vec<Pat>>, ApiError> {
    let pats = state.authority.list(&by).await?;
    Ok(Value { value: pats.into_iter().map(Pat::from).collect() })
}
