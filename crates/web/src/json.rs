//! A success, as the REST API answers it.

use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// `{"value": T}`.
#[derive(Serialize)]
pub(crate) struct Value<T> {
    pub(crate) value: T,
}

/// A page of a list: `{"value": [T], "next": …}`. `next` is what to give as `after` for the page behind it.
#[derive(Serialize)]
pub(crate) struct Page<T> {
    pub(crate) value: Vec<T>,
    pub(crate) next: Option<String>,
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

impl<T: Serialize> IntoResponse for Value<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}
