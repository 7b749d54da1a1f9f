//! The ways in which an upstream fails.

use ::http::StatusCode;

/// A failure of an upstream. It omits the upstream's own words, which may contain secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Down,
    Slow,
    Busy,
    /// The token's share of the upstream is in use.
    TokenBusy,
    /// The session has reached its limit of subscriptions.
    Subscribed,
    Garbage,
    TooLarge,
    SessionGone,
    /// The upstream answered with this status and without a message.
    Refused(StatusCode),
    /// The upstream answered `initialize` or `subscriptions/listen` with an error.
    Rejected,
    /// The upstream answered the request for a list with an error.
    ListError,
}

impl From<crate::mirror::Unreadable> for Fault {
    fn from(_: crate::mirror::Unreadable) -> Self {
        Self::Garbage
    }
}

impl Fault {
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Down => "upstream_down",
            Self::Slow => "upstream_slow",
            Self::Busy | Self::TokenBusy | Self::Subscribed => "upstream_busy",
            Self::Garbage | Self::TooLarge => "upstream_garbage",
            Self::SessionGone | Self::Refused(_) | Self::Rejected | Self::ListError => "upstream_refused",
        }
    }

    pub(crate) fn message(self, upstream: &str) -> String {
        match self {
            Self::Down => format!("upstream `{upstream}` is down, and its tools are not available right now"),
            Self::Slow => format!("upstream `{upstream}` did not answer in time"),
            Self::Busy => {
                format!("upstream `{upstream}` has reached its process limit; try again later")
            }
            Self::TokenBusy => format!(
                "this token has reached its session limit for upstream `{upstream}`; end a session, or try again later"
            ),
            Self::Subscribed => format!(
                "this session has reached its subscription limit for upstream `{upstream}`; unsubscribe from some resources"
            ),
            Self::Garbage => format!("upstream `{upstream}` answered with something that is not MCP"),
            Self::TooLarge => format!("upstream `{upstream}` sent an answer that is too large"),
            Self::SessionGone => format!("upstream `{upstream}` ended its session; try again"),
            Self::Refused(status) => {
                format!("upstream `{upstream}` refused the request (HTTP {})", status.as_u16())
            }
            Self::Rejected => format!("upstream `{upstream}` refused to start a session"),
            Self::ListError => format!("upstream `{upstream}` answered a list with an error"),
        }
    }
}
