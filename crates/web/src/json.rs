//! A success, as the REST API answers it.

use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// `{"value": T}`.
#[derive(Serialize)]
pub(crate) struct Value<T> {
    pub(crate) value: T,
}

impl<T: Serialize> IntoResponse for Value<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}
