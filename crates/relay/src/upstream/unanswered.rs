//! Why an upstream over HTTP has not answered, whichever client asks; and the length to which both hold it.

/// Most bytes of an answer's head, and of its body before somebody takes them.
pub(super) const MAX_HEAD: u32 = 64 << 10;

/// Why there is no answer. The error's text may hold what is nobody's business: only its kind is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There is no connection, or it broke.
    Broken,
    /// What came back was no HTTP.
    Garbage,
}

impl From<hyper::Error> for Unanswered {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Garbage } else { Self::Broken }
    }
}
