//! `POST /api/auth/logout`: ends the session.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::SET_COOKIE;
use serde_json::json;

use crate::api::auth::login::no_cookie;
use crate::credential::{Caller, session_cookies};
use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if by.pat_id().is_some() {
        let message =
            "a token has no session; to revoke the token, DELETE /api/user/personal-access-tokens/self";
        return Err(ApiError::bad_request(message));
    }
    for cookie in session_cookies(&headers) {
        state.authority.logout(&cookie, by.address).await?;
    }
    let mut answer = Value { value: json!({}) }.into_response();
    answer.headers_mut().insert(SET_COOKIE, no_cookie(&state)?);
    Ok(answer)
}
