//! Failures as OAuth's own endpoints answer them (RFC 6749 §5.2): `{"error","error_description"}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde_json::json;

use crate::error::ApiError;

/// The same failure, in OAuth's shape.
pub(crate) fn failed(error: ApiError) -> Response {
    let code = match error.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "temporarily_unavailable",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request",
    };
    let description: String = error.message().chars().map(allowed).collect();
    error.with_body(Json(json!({ "error": code, "error_description": description })))
}

const NO_OAUTH: &str = "This server takes personal access tokens, not OAuth. Make one under Settings, Developer, and send it as \
                        Authorization: Bearer tr_pat_...";

/// Answers a client that tries OAuth here: an error of that path's own kind, whose description the
/// client shows. `None` for any other path.
pub(crate) fn turned_away(path: &str) -> Option<Response> {
    let code = match path.strip_suffix('/').unwrap_or(path) {
        // RFC 7591, section 3.2.2.
        "/register" => "invalid_client_metadata",
        // RFC 6749, section 4.1.2.1 and 5.2.
        "/authorize" => "unsupported_response_type",
        "/token" => "unsupported_grant_type",
        _ => return None,
    };
    let body = Json(json!({ "error": code, "error_description": NO_OAUTH }));
    Some((StatusCode::BAD_REQUEST, [(CACHE_CONTROL, "no-store")], body).into_response())
}

/// What a description may hold: printable ASCII but `"` and `\`.
fn allowed(c: char) -> char {
    match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_failure_keeps_its_status_and_header_and_says_it_in_what_oauth_allows() {
        for (error, code) in [
            (ApiError::bad_request("no \"é\" in `token`"), "invalid_request"),
            (ApiError::method_not_allowed("POST"), "invalid_request"),
            (ApiError::timeout(), "temporarily_unavailable"),
            (ApiError::internal(), "server_error"),
        ] {
            let status = error.status();
            let answer = failed(error);
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers().contains_key("allow"), status == StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(
                answer.headers().contains_key("retry-after"),
                status == StatusCode::SERVICE_UNAVAILABLE
            );
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body["error"], code);
            if status == StatusCode::BAD_REQUEST {
                assert_eq!(body["error_description"], "no '?' in `token`");
            }
        }
    }
}
