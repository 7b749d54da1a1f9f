//! The answers to refused requests (RFC 6750 §3).

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
    // Room for microseconds: it does not grow, which costs more than the writing.
    let mut text = String::with_capacity(32);
    write!(text, "{}", principal.expires_at()).ok()?;
    HeaderValue::from_str(&text).ok()
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

    /// Returns the value of `WWW-Authenticate`. It has no error code where there was no credential
    /// (RFC 6750 §3.1).
    pub fn challenge(&self, realm: &str) -> Option<HeaderValue> {
        self.challenge_that_says(realm, &self.to_string())
    }

    fn challenge_that_says(&self, realm: &str, message: &str) -> Option<HeaderValue> {
        // Room for all but its escapes, of which there are few.
        let mut value = String::with_capacity(64 + realm.len() + message.len());
        value.extend(["Bearer realm=\"", realm, "\""]);
        match self {
            Self::Missing => {}
            Self::Denied(Denied::Unavailable { .. }) => return None,
            Self::Bad(_) | Self::Denied(_) | Self::InsufficientScope(_) => {
                value.extend([", error=\"", self.code(), "\", error_description=\""]);
                quote(message, &mut value);
                value.push('"');
            }
        }
        if let Self::InsufficientScope(scope) = self {
            value.push_str(", scope=\"");
            quote(scope, &mut value);
            value.push('"');
        }
        HeaderValue::from_str(&value).ok()
    }

    /// The whole answer, its body as JSON: `{"error":{"code","message"}}`.
    pub fn response<B: From<String>>(&self, realm: &str) -> Response<B> {
        let message = self.to_string();
        let mut body = String::with_capacity(64 + message.len());
        body.extend(["{\"error\":{\"code\":\"", self.code(), "\",\"message\":\""]);
        escape(&message, &mut body);
        body.push_str("\"}}");
        let mut response = Response::new(B::from(body));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(challenge) = self.challenge_that_says(realm, &message) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::Denied(Denied::Unavailable { retry_after }) = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        }
        response
    }
}

/// Writes the text as it stands between the quotes of a JSON string (RFC 8259 §7).
fn escape(text: &str, to: &mut String) {
    write_but(
        text,
        to,
        |byte| byte.is_ascii_control() || matches!(byte, b'"' | b'\\'),
        |c, to| match c {
            '"' | '\\' => to.extend(['\\', c]),
            // Writing to a string does not fail.
            c => drop(write!(to, "\\u{:04x}", u32::from(c))),
        },
    );
}

/// Writes the text in the characters that `error_description` may have (RFC 6750 §3): printable
/// ASCII but `"` and `\`.
fn quote(text: &str, to: &mut String) {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    write_but(
        text,
        to,
        |byte| !fits(byte),
        |c, to| match c {
            '…' => to.push_str("..."),
            '"' | '\\' => to.push('\''),
            _ => to.push('?'),
        },
    );
}

/// Writes the text; what begins with such a byte is written another way.
fn write_but(text: &str, to: &mut String, is_other: impl Fn(u8) -> bool, write: impl Fn(char, &mut String)) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(&is_other) {
        let (good, other) = rest.split_at_checked(at).unwrap_or((rest, ""));
        to.push_str(good);
        let mut chars = other.chars();
        chars.next().into_iter().for_each(|c| write(c, to));
        rest = chars.as_str();
    }
    to.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&str, &mut String), text: &str) -> String {
        let mut to = String::new();
        write(text, &mut to);
        to
    }

    #[test]
    fn a_message_is_escaped_as_json_has_it() {
        for (text, escaped) in [
            ("", ""),
            ("a name", "a name"),
            ("say \"no\"", "say \\\"no\\\""),
            ("a\\b\nc\u{7f}", "a\\\\b\\u000ac\\u007f"),
            ("tr_pat_… é", "tr_pat_… é"),
        ] {
            assert_eq!(written(escape, text), escaped);
        }
    }

    #[test]
    fn a_description_has_printable_characters_alone() {
        for (text, quoted) in
            [("", ""), ("a name", "a name"), ("say \"no\"\\", "say 'no''"), ("tr_pat_… é\n", "tr_pat_... ??")]
        {
            assert_eq!(written(quote, text), quoted);
        }
    }
}
