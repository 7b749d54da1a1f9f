//! What all answers of the REST API and the pages share: an id, headers that browsers heed, a time
//! limit, a count.

use std::borrow::Cow;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;
use trustrelay_relay::continue_trace;
use uuid::Uuid;

use crate::asker::Asker;
use crate::credential::check_host;
use crate::error::ApiError;
use crate::redact::loggable;
use crate::refused::Refused;
use crate::routes::Door;
use crate::state::AppState;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How many headers an answer gets here, at most: room for all of them is made at once.
const ADDED: usize = 11;
/// Longest id of a caller's own that is taken over, in bytes.
const MAX_REQUEST_ID: usize = 64;
const PAGES_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
/// Of what is no page nothing is to be shown, run or framed.
const DATA_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Wraps a request. The log line names method, path and status; never a query, a header or a body:
/// those hold secrets.
pub(crate) async fn envelope(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = request.method().clone();
    let numbers = state.numbers.of(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
    let path = request.uri().path();
    let is_auth = path.starts_with("/api/auth/");
    // What is a route to the letter holds nothing of the caller's.
    let path =
        if path == numbers.route { numbers.route.into() } else { Cow::Owned(loggable(path).into_owned()) };
    let door = numbers.door.unwrap_or(Door::Rest);
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    continue_trace(&span, request.headers());
    let answer = async {
        let answer = match check_host(request.version(), request.headers()) {
            Ok(()) => answered(&state, door, request, next).await,
            Err(error) => door.error(error),
        };
        tracing::info!(%method, path = &*path, status = answer.status().as_u16(), "answered");
        answer
    };
    let mut answer = answer.instrument(span).await;
    numbers.answered(answer.status());
    if let Some(refused) = answer.extensions_mut().remove::<Refused>()
        && let Some(by) = asker.by()
    {
        refused.note(&state, by, numbers.route);
    }
    let headers = answer.headers_mut();
    headers.reserve(ADDED);
    headers.insert(REQUEST_ID, id);
    asker.tell(headers);
    protect(headers, numbers.door);
    if is_auth || !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, NO_STORE);
    }
    answer
}

/// The answer within the time limit.
async fn answered(state: &AppState, door: Door, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(state.time_limit, next.run(request)).await;
    answer.unwrap_or_else(|_| door.error(ApiError::timeout()))
}

/// What browsers heed.
fn protect(headers: &mut HeaderMap, door: Option<Door>) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // `no-referrer` would make browsers send `Origin: null` with the forms of a page that came by
    // plain HTTP (Fetch, section 3.1), and sign-in refuses that.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, SAME_ORIGIN);
    headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
    // A path that is no route may be answered with a page.
    let is_data = matches!(door, Some(Door::Rest | Door::OAuth));
    let policy = if is_data { DATA_POLICY } else { PAGES_POLICY };
    headers.insert(CONTENT_SECURITY_POLICY, policy);
}

/// The caller's own id, if it is a harmless one; else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=MAX_REQUEST_ID).contains(&value.len())
            && value.as_bytes().iter().all(fits)
            && value.to_str().is_ok_and(|id| !id.contains(trustrelay_token::PREFIX))
    };
    if let Some(id) = headers.get(&REQUEST_ID).filter(harmless) {
        return id.clone();
    }
    let mut text = Uuid::encode_buffer();
    let id: &str = Uuid::now_v7().as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
}
