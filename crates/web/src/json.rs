//! A success, as the REST API answers it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use trustrelay_authority::AuthorityError;

use crate::error::ApiError;

/// `{"value": T}`.
#[derive(Serialize)]
pub(crate) struct Value<T> {
    pub(crate) value: T,
}

/// Room for most answers: a body that grows as it is written is copied again and again.
const ROOM: usize = 512;

/// A page of a list: `{"value": [T], "next": …}`. `next` is what to give as `after` for the page
/// behind it.
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
        let mut body = Vec::with_capacity(ROOM);
        if let Err(error) = serde_json::to_writer(&mut body, &self) {
            return ApiError::from(AuthorityError::Internal(error.to_string())).into_response();
        }
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
