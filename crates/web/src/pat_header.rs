//! Carries the expiry of the token that made a request to the answer, where `TrustRelay-Token-Expiration` says it.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use trustrelay_guard::expiration;
use trustrelay_token::Principal;

/// Put into the request by the envelope, and filled in by the extractor of the caller: also an answer that refuses what was
/// asked says when the token expires.
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

    pub(crate) fn get(&self) -> Option<&HeaderValue> {
        self.0.get()
    }
}
