//! What a refused request is answered (RFC 6750 §3).

use std::fmt::Write;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use trustrelay_token::{Denied, Principal};

use crate::authorization::BadAuthorization;

/// The header in which an answer to a token says when the token expires: RFC 3339.
pub const TOKEN_EXPIRATION: HeaderName = HeaderName::from_static("trustrelay-token-expiration");

/// The value of [`TOKEN_EXPIRATION`] for a principal that came with a token.
pub fn expiration(principal: &Principal) -> Option<HeaderValue> {
    principal.pat_id()?;
    HeaderValue::from_str(&principal.expires_at().to_string()).ok()
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no credential.
    #[error("this needs a personal access token: send `Authorization: Bearer tr_pat_…`")]
    Missing,
    /// Its header names no token.
    #[error(transparent)]
    Bad(#[from] BadAuthorization),
    /// Its token is refused.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Its token is good but does not hold this scope.
    #[error("the token does not have the scope `{0}`")]
    InsufficientScope(String),
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Missing | Self::Bad(_) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::Unavailable { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
        }
    }

    /// The code in the answer's body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "unauthenticated",
            Self::Denied(Denied::Unavailable { .. }) => "unavailable",
            Self::Bad(_) | Self::Denied(_) => "invalid_token",
            Self::InsufficientScope(_) => "insufficient_scope",
        }
    }

    /// The value of `WWW-Authenticate`: without an error code where there was no credential (RFC 6750 §3.1).
    pub fn challenge(&self, realm: &str) -> Option<HeaderValue> {
        let mut value = format!("Bearer realm=\"{realm}\"");
        match self {
            Self::Missing => {}
            Self::Denied(Denied::Unavailable { .. }) => return None,
            Self::Bad(_) | Self::Denied(_) | Self::InsufficientScope(_) => {
                let description = quotable(&self.to_string());
                // Writing to a string does not fail.
                let _ = write!(value, ", error=\"{}\", error_description=\"{description}\"", self.code());
            }
        }
        if let Self::InsufficientScope(scope) = self {
            let _ = write!(value, ", scope=\"{}\"", quotable(scope));
        }
        HeaderValue::from_str(&value).ok()
    }

    /// The whole answer, its body as JSON: `{"error":{"code","message"}}`.
    pub fn response<B: From<String>>(&self, realm: &str) -> Response<B> {
        let message = json_text(&self.to_string());
        let body = format!("{{\"error\":{{\"code\":\"{}\",\"message\":\"{message}\"}}}}", self.code());
        let mut response = Response::new(B::from(body));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(challenge) = self.challenge(realm) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::Denied(Denied::Unavailable { retry_after }) = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        }
        response
    }
}

/// The text as it stands between the quotes of a JSON string (RFC 8259 §7).
fn json_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string does not fail; all control characters are in the first plane.
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// The characters that `error_description` may have (RFC 6750 §3): printable ASCII but `"` and `\`.
fn quotable(text: &str) -> String {
    text.replace('…', "...")
        .chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            c if c == ' ' || c.is_ascii_graphic() => c,
            _ => '?',
        })
        .collect()
}
