//! `GET /api/admin/audit`: the audit log of everybody, newest first. For administrators.

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
    // Before an account is looked up by its address: that is for administrators too.
    state.authority.may_read_all_audit(&by)?;
    let look = query.look(&state, true).await?;
    Ok(state.authority.all_audit(&by, look).await?.into())
}
