//! Headers that repeat parts of a message: reading and refusing them.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::envelope::HEADER_MISMATCH;

/// The usual maximum number of headers in a request to an upstream. Their space is allocated at
/// once.
pub(crate) const ROOM: usize = 12;

/// The refusal of a stateless request, with HTTP 400.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// The `data` of the error.
    pub(crate) data: Option<serde_json::Value>,
}

impl Refused {
    pub(crate) fn mismatch(message: &str) -> Self {
        Self { code: HEADER_MISMATCH, message: message.to_owned(), data: None }
    }
}

/// Returns the value of a header that occurs once. Parsers could disagree on which of two values
/// counts.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
