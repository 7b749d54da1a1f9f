//! `GET /api/user/personal-access-tokens`: the caller's active tokens, newest first; with
//! `?due=soon` those that expire within 30 days, the soonest first.

use axum::extract::State;
use serde::Deserialize;
use trustrelay_authority::AuthorityError;

use crate::api::pats::Pat;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Queried;
use crate::json::Value;
use crate::state::AppState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    due: Option<String>,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    Queried(ask): Queried<Ask>,
) -> Result<Value<Vec<Pat>>, ApiError> {
    let pats = match ask.due.as_deref() {
        None => state.authority.list(&by).await?,
        Some("soon") => state.authority.list_due_soon(&by).await?,
        Some(_) => {
            let message = "`due` must be `soon`; leave it out for all active tokens".into();
            return Err(AuthorityError::Invalid { field: "due", message }.into());
        }
    };
    Ok(Value { value: pats.into_iter().map(Pat::from).collect() })
}
