//! The pages: server-rendered, and working without JavaScript.

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::state::AppState;

/// The pages' routes.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
}

/// The page for a path where there is nothing.
pub(crate) fn not_found() -> Response {
    StatusCode::NOT_FOUND.into_response()
}
