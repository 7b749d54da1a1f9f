//! `POST /api/auth/login`: signs in.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use http::header::SET_COOKIE;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::SessionSecret;

use crate::body::{Json, Sent};
use crate::credential::{From, SESSION_COOKIE, SameOrigin};
use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    email: String,
    password: String,
}

#[derive(Serialize)]
struct SignedIn {
    expires_at: Timestamp,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    From(address): From,
    // Another site could sign its visitor in to an account of its own.
    Sent(_, Json(login)): Sent<SameOrigin, Json<Login>>,
) -> Result<Response, ApiError> {
    let (secret, expires_at) = state.login(&login.email, login.password, address).await?;
    let mut answer = Value { value: SignedIn { expires_at } }.into_response();
    answer.headers_mut().insert(SET_COOKIE, session_cookie(&state, &secret, expires_at)?);
    Ok(answer)
}

/// The cookie of a session: out of reach of scripts, and of other sites' forms.
pub(crate) fn session_cookie(
    state: &AppState,
    secret: &SessionSecret,
    expires_at: Timestamp,
) -> Result<HeaderValue, ApiError> {
    let age = expires_at.duration_since(state.authority.clock().now()).as_secs().max(0);
    cookie_header(state, secret.expose(), age)
}

/// A cookie that takes the session's place and is gone at once.
pub(crate) fn no_cookie(state: &AppState) -> Result<HeaderValue, ApiError> {
    cookie_header(state, "", 0)
}

fn cookie_header(state: &AppState, value: &str, age: i64) -> Result<HeaderValue, ApiError> {
    let cookie = Cookie::build((SESSION_COOKIE, value.to_owned()))
        .http_only(true)
        .same_site(SameSite::Lax)
        .path("/")
        .secure(state.config.secure_cookies)
        .max_age(cookie::time::Duration::seconds(age))
        .build();
    let mut header = HeaderValue::from_str(&cookie.to_string()).map_err(|_| ApiError::internal())?;
    header.set_sensitive(true);
    Ok(header)
}
