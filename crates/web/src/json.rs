//! Reads a JSON body, and says what is wrong with one.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Largest body of the REST API: a name, scopes and some room.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// A request's body, decoded.
pub(crate) struct Body_<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body_<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let kind =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let message = "send the body as JSON, with `Content-Type: application/json`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                let message = format!("the body is larger than {MAX_BODY} bytes");
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
            } else {
                ApiError::new(StatusCode::BAD_REQUEST, "body_not_read", "the body broke off")
            }
        })?;
        serde_json::from_slice(&body.to_bytes()).map(Self).map_err(|error| {
            // serde names the field and the place; values it would quote are clipped, since they may be secrets.
            let what = match error.classify() {
                serde_json::error::Category::Data => clipped(&error.to_string()),
                _ => format!("the body is not JSON: {error}"),
            };
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", what)
        })
    }
}

/// A message of serde without the value that it repeats.
fn clipped(message: &str) -> String {
    match (message.find("string \""), message.find(", expected")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}a string{}", &message[..start], &message[end..])
        }
        _ => message.to_owned(),
    }
}

/// A success: `{"value": T}`.
#[derive(Serialize)]
pub(crate) struct Value<T> {
    pub(crate) value: T,
}

impl<T: Serialize> IntoResponse for Value<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}
