//! What all answers of the REST API and the pages share: an id, headers that browsers heed, a time limit.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use tracing::Instrument;
use uuid::Uuid;

use crate::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request of the REST API or a page may take. MCP streams have no such limit and do not come this way.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const CONTENT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);

/// Wraps a request. The log line names method, path and status; never a query, a header or a body: those hold secrets.
pub(crate) async fn envelope(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_api = path.starts_with("/api/");
    let keeps_out = path.starts_with("/api/auth/");
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let answer = async {
        let answer = match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = "this took too long and was given up; try again";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message).into_response()
            }
        };
        tracing::info!(%method, path, status = answer.status().as_u16(), "answered");
        answer
    };
    let mut answer = answer.instrument(span).await;
    let headers = answer.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !is_api {
        headers.insert(CONTENT_SECURITY_POLICY, CONTENT_POLICY);
    }
    if keeps_out || !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

/// The caller's own id, if it is a harmless one; else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !bytes.starts_with(trustrelay_token::PREFIX.as_bytes())
    };
    match request.headers().get(&REQUEST_ID).filter(harmless) {
        Some(id) => id.clone(),
        None => HeaderValue::from_str(&Uuid::now_v7().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("none")),
    }
}
