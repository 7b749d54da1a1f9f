//! `POST /api/auth/logout`: ends the session.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::SET_COOKIE;
use serde_json::json;

use crate::api::auth::login::no_cookie;
use crate::credential::Browser;
use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

pub(crate) async fn handle(State(state): State<AppState>, browser: Browser) -> Result<Response, ApiError> {
    state.authority.logout(&browser.cookie).await?;
    let mut answer = Value { value: json!({}) }.into_response();
    answer.headers_mut().insert(SET_COOKIE, no_cookie(&state)?);
    Ok(answer)
}
