//! Says in every answer to a token when that token expires.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use trustrelay_guard::{TOKEN_EXPIRATION, expiration};
use trustrelay_token::Principal;

/// Where the extractor of the caller leaves the expiry for the answer.
#[derive(Clone, Default)]
pub(crate) struct Expiry(Arc<OnceLock<HeaderValue>>);

impl Expiry {
    /// Notes the expiry of a token that was accepted.
    pub(crate) fn note(&self, principal: &Principal) {
        if let Some(value) = expiration(principal) {
            // A request has one credential: a second note says the same.
            let _ = self.0.set(value);
        }
    }
}

/// Adds the header.
pub(crate) async fn pat_header(mut request: Request, next: Next) -> Response {
    let expiry = Expiry::default();
    request.extensions_mut().insert(expiry.clone());
    let mut answer = next.run(request).await;
    if let Some(value) = expiry.0.get() {
        answer.headers_mut().insert(TOKEN_EXPIRATION, value.clone());
    }
    answer
}
