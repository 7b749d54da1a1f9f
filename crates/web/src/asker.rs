//! Carries from the extractor of the caller to the answer who it was: the expiry of a token, which
//! `TrustRelay-Token-Expiration` says, what is left of its rate, and whom the audit log names if
//! something is refused.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue};
use trustrelay_authority::{Allowance, By};
use trustrelay_guard::{TOKEN_EXPIRATION, expiration};

use crate::limits;

/// Put into the request by the envelope, and filled in by the extractor of the caller: also an
/// answer that refuses what was asked says when the token expires.
#[derive(Clone, Default)]
pub(crate) struct Asker(Arc<Noted>);

#[derive(Default)]
struct Noted {
    expires: OnceLock<HeaderValue>,
    by: OnceLock<By>,
    allowance: OnceLock<Allowance>,
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

    /// Notes what is left of its rate.
    pub(crate) fn may(&self, allowance: Allowance) {
        let _ = self.0.allowance.set(allowance);
    }

    /// Says what is to be said of a token.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(expires) = self.0.expires.get() {
            headers.insert(TOKEN_EXPIRATION, expires.clone());
        }
        if let Some(allowance) = self.0.allowance.get() {
            limits::tell(headers, allowance);
        }
    }

    pub(crate) fn by(&self) -> Option<&By> {
        self.0.by.get()
    }
}
