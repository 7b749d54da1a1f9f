//! The errors and the head limit that both HTTP clients for upstreams share.

/// Maximum size of an answer's head, and of its unread body, in bytes.
pub(super) const MAX_HEAD: u32 = 64 << 10;

/// The reason why there is no answer. The error's text may contain secrets, so only its kind is
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There is no connection, or it broke.
    Broken,
    /// The answer was not valid HTTP.
    Garbage,
}

impl From<hyper::Error> for Unanswered {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Garbage } else { Self::Broken }
    }
}
