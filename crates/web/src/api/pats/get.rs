//! `GET /api/user/personal-access-tokens/{pat_id}`: one of the caller's.

use axum::extract::State;

use crate::api::pats::{Pat, pat_ref};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Segment;
use crate::json::Value;
use crate::state::AppState;

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(pat_id): Segment,
) -> Result<Value<Pat>, ApiError> {
    let pat = state.authority.get(&by, pat_ref(&pat_id)?).await?;
    Ok(Value { value: pat.into() })
}
