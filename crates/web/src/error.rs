//! From the authority's errors to HTTP: the one table.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use trustrelay_authority::AuthorityError;
use trustrelay_guard::Refusal;
use trustrelay_token::Denied;

use crate::pages::layout::Problem;
use crate::refused::Refused;

pub(crate) const REALM: &str = "trustrelay";

// The codes of JSON-RPC errors (JSON-RPC 2.0, section 5.1); those from -32000 to -32099 are a
// server's own.
const INVALID_REQUEST: i32 = -32600;
const SERVER_ERROR: i32 = -32000;
const UNAUTHORIZED: i32 = -32001;
const FORBIDDEN: i32 = -32003;

/// A failure, as the REST API answers it: `{"error":{"code","message"}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The field of the request that is wrong.
    field: Option<&'static str>,
    /// Boxed: few have one, and every handler's answer has room for it.
    header: Option<Box<(http::HeaderName, HeaderValue)>>,
    refused: Option<Refused>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, header: None, refused: None }
    }

    fn with(mut self, name: http::HeaderName, value: Option<HeaderValue>) -> Self {
        self.header = value.map(|value| Box::new((name, value)));
        self
    }

    fn about(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let message = format!("this path supports only {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
            .with(ALLOW, HeaderValue::from_str(allow).ok())
    }

    pub(crate) fn timeout() -> Self {
        let message = "the request took too long and was cancelled; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message)
            .with(RETRY_AFTER, Some(HeaderValue::from_static("1")))
    }

    pub(crate) fn too_many_large_bodies() -> Self {
        let message = "the server is receiving too many large requests; try again in a second";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_large_bodies", message)
            .with(RETRY_AFTER, Some(HeaderValue::from_static("1")))
    }

    pub(crate) fn rate_limited(message: String, retry_after: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message)
            .with(RETRY_AFTER, Some(HeaderValue::from(retry_after)))
    }

    /// Not this node, not now: a balancer asks another one.
    pub(crate) fn not_ready(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
            .with(RETRY_AFTER, Some(HeaderValue::from_static("1")))
    }

    /// Another node vouched for the client's address, at a time that this node cannot believe.
    pub(crate) fn clocks_apart() -> Self {
        let message = "the clocks of two nodes of this server differ, so the client's address could not be verified; \
                       the server log has the details";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "clocks_apart", message)
            .with(RETRY_AFTER, Some(HeaderValue::from_static("2")))
    }

    /// The answer was there, and could not be handed on.
    pub(crate) fn unvouched() -> Self {
        let message = "the server could not confirm in time that the token is still valid; the request may have been carried out";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "unvouched", message)
    }

    pub(crate) fn not_found() -> Self {
        let message = "this path does not exist; GET /api/openapi.json lists all paths";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// What a page shows.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The answer with a body of another shape: the same status, and the header that belongs to it.
    pub(crate) fn with_body(self, body: impl IntoResponse) -> Response {
        let mut response = (self.status, body).into_response();
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        if let Some(refused) = self.refused {
            response.extensions_mut().insert(refused);
        }
        response
    }

    /// Returns the answer of the MCP endpoint: a JSON-RPC error beside the same status and headers.
    /// Clients show its message; one of another shape they pass over. The request's id is not
    /// known: a refused request is not read.
    pub(crate) fn into_json_rpc(self) -> Response {
        let code = match self.status {
            StatusCode::BAD_REQUEST => INVALID_REQUEST,
            StatusCode::UNAUTHORIZED => UNAUTHORIZED,
            StatusCode::FORBIDDEN => FORBIDDEN,
            _ => SERVER_ERROR,
        };
        let body = Json(json!({
            "jsonrpc": "2.0",
            "id": null,
            "error": { "code": code, "message": self.message, "data": { "code": self.code } },
        }));
        self.with_body(body)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl<'a> From<&'a ApiError> for Problem<'a> {
    fn from(error: &'a ApiError) -> Self {
        Self::with_field(&error.message, error.field)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.status(), refusal.code(), refusal.to_string());
        if let Refusal::InsufficientScope(scope) = &refusal {
            error.refused = Some(Refused::Scope(scope.clone()));
        }
        match &refusal {
            Refusal::Denied(Denied::Unavailable { retry_after }) => {
                error.with(RETRY_AFTER, Some(HeaderValue::from(retry_after.as_secs().max(1))))
            }
            _ => error.with(WWW_AUTHENTICATE, refusal.challenge(REALM)),
        }
    }
}

impl From<AuthorityError> for ApiError {
    fn from(error: AuthorityError) -> Self {
        let message = error.to_string();
        match error {
            AuthorityError::Invalid { field, .. } => Self::bad_request(message).about(field),
            AuthorityError::Policy { field, .. } => {
                Self::new(StatusCode::FORBIDDEN, "not_allowed_by_policy", message).about(field)
            }
            AuthorityError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            AuthorityError::InsufficientScope { scope } => Refusal::InsufficientScope(scope).into(),
            AuthorityError::NotAdministrator => {
                let refused = Some(Refused::Admin);
                Self { refused, ..Self::new(StatusCode::FORBIDDEN, "forbidden", message) }
            }
            AuthorityError::IdempotencyKeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
            }
            AuthorityError::SessionOnly(_) => Self::new(StatusCode::FORBIDDEN, "session_required", message),
            AuthorityError::Conflict(_) | AuthorityError::TooManyEnd { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", message)
            }
            AuthorityError::SignedOut => Refusal::Missing.into(),
            AuthorityError::OffLimits(off) => off.into(),
            AuthorityError::WrongCredentials => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong_credentials", message)
            }
            AuthorityError::Throttled { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message)
                    .with(RETRY_AFTER, Some(HeaderValue::from(retry_after.as_secs().max(1))))
            }
            AuthorityError::Denied(denied) => Refusal::Denied(denied).into(),
            AuthorityError::Unavailable(cause) => {
                tracing::warn!(%cause, "the database is not available");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
                    .with(RETRY_AFTER, Some(HeaderValue::from_static("1")))
            }
            AuthorityError::Internal(cause) => {
                tracing::error!(cause, "internal error");
                Self::internal()
            }
            _ => Self::internal(),
        }
    }
}

impl ApiError {
    pub(crate) fn internal() -> Self {
        let message = "something went wrong on the server; the server log has the details under this answer's x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": { "code": self.code, "message": self.message } }));
        self.with_body(body)
    }
}
