//! Carries from the extractor of the caller to the answer who it was: the expiry of a token, which `TrustRelay-Token-Expiration` says,
//! and whom the audit log names if something is refused.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use trustrelay_authority::By;
use trustrelay_guard::expiration;

/// Put into the request by the envelope, and filled in by the extractor of the caller: also an answer that refuses what was
/// asked says when the token expires.
#[derive(Clone, Default)]
pub(crate) struct Asker(Arc<Noted>);

#[derive(Default)]
struct Noted {
    expires: OnceLock<HeaderValue>,
    by: OnceLock<By>,
}

impl Asker {
    /// Notes who was accepted.
    pub(crate) fn note(&self, by: &By) {
        if let Some(value) = expiration(by) {
            // A request has one credential: a second note says the same.
            let _ = self.0.expires.set(value);
        }
        let _ = self.0.by.set(by.clone());
    }

    pub(crate) fn expires(&self) -> Option<&HeaderValue> {
        self.0.expires.get()
    }

    pub(crate) fn by(&self) -> Option<&By> {
        self.0.by.get()
    }
}
