//! Headers that repeat what a message says: read, compared and refused.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::envelope::HEADER_MISMATCH;

/// Room for the headers of a request to an upstream: as a rule it has no more.
pub(crate) const ROOM: usize = 12;

/// Why a stateless request is refused, with HTTP 400.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// `data` of the error.
    pub(crate) data: Option<serde_json::Value>,
}

impl Refused {
    pub(crate) fn mismatch(message: &str) -> Self {
        Self { code: HEADER_MISMATCH, message: message.to_owned(), data: None }
    }
}

/// The value of a header that is there once: of two, each reader might take another.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
