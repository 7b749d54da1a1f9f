//! `GET /api/user/audit`: what the audit log has of the caller's account, newest first.

use axum::extract::State;

use crate::api::audit::{AuditQuery, Page};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::state::AppState;

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    query: AuditQuery,
) -> Result<Page, ApiError> {
    let look = query.look(&state, false).await?;
    Ok(state.authority.own_audit(&by, look).await?.into())
}
