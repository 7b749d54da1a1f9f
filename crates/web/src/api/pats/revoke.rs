//! `DELETE /api/user/personal-access-tokens/{pat_id}`: when this is answered, the token is refused
//! everywhere.

use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::api::pats::pat_ref;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Segment;
use crate::json::Value;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Revoked {
    pat_id: Uuid,
    revoked_at: Timestamp,
    sessions_terminated: usize,
}

impl From<trustrelay_authority::Revoked> for Revoked {
    fn from(revoked: trustrelay_authority::Revoked) -> Self {
        Self {
            pat_id: revoked.pat_id,
            revoked_at: revoked.revoked_at,
            sessions_terminated: revoked.sessions_terminated,
        }
    }
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(pat_id): Segment,
) -> Result<Value<Revoked>, ApiError> {
    let revoked = state.revoke(&by, pat_ref(&pat_id)?).await?;
    Ok(Value { value: revoked.into() })
}
