//! An answer, as the stories show it.

use std::fmt;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use trustrelay_token::Token;
use uuid::Uuid;

/// What is on every answer: looked at by [`Answer::check`] and in one story, and not repeated in
/// all of them.
const USUAL: [&str; 8] = [
    "x-request-id",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "content-length",
];

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// The paths that answer in OAuth's shape.
const OAUTH: [&str; 4] = ["/api/revoke", "/register", "/authorize", "/token"];

impl Answer {
    pub(super) async fn read(response: Response<axum::body::Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        Self { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) fn header(&self, name: impl AsRef<str>) -> &str {
        self.headers.get(name.as_ref()).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn kind(&self) -> &str {
        self.header(CONTENT_TYPE).split(';').next().unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// `{"value": …}`.
    pub(crate) fn value(&self) -> Value {
        self.json()["value"].take()
    }

    /// The session of `Set-Cookie`.
    pub(crate) fn cookie(&self) -> String {
        let cookie = self.header("set-cookie").strip_prefix("session=").expect("a session cookie");
        cookie.split(';').next().unwrap_or_default().to_owned()
    }

    /// The token, if this is the answer that makes one.
    pub(crate) fn new_token(&self) -> Option<String> {
        let json: Value = serde_json::from_str(&self.text).ok()?;
        Some(json["value"]["pat_token"].as_str()?.to_owned())
    }

    /// What is true of every answer.
    pub(super) fn check(&self, method: &Method, path: &str, secrets: &[String]) {
        let id = self.header("x-request-id");
        assert!(!id.is_empty() && id.len() <= 64, "no x-request-id: {self}");
        for secret in secrets {
            let in_a_header = self
                .headers
                .values()
                .any(|value| value.as_bytes().windows(secret.len()).any(|w| w == secret.as_bytes()));
            assert!(!in_a_header && !self.text.contains(secret), "{method} {path} repeats a secret");
        }
        let says_nothing = method == Method::HEAD || self.text.is_empty();
        if path.starts_with("/mcp") || path.starts_with("/api/mcp") {
            return;
        }
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert_eq!(self.header("x-frame-options"), "DENY");
        assert_eq!(self.header("referrer-policy"), "same-origin");
        assert!(self.header("content-security-policy").contains("frame-ancestors 'none'"));
        let may_be_kept = path == "/api/openapi.json" || path.starts_with("/assets/");
        if !may_be_kept || self.status != StatusCode::OK {
            assert_eq!(self.header(CACHE_CONTROL), "no-store", "{method} {path}");
        }
        let says_nothing_by_its_standard = path == "/api/revoke" && self.status == StatusCode::OK;
        if path.starts_with("/api/") && !says_nothing_by_its_standard {
            let is_export = path.ends_with("/export") && self.status == StatusCode::OK;
            let kind = if is_export { "application/jsonl" } else { "application/json" };
            assert_eq!(self.kind(), kind, "{method} {path}: {}", self.text);
        }
        match self.kind() {
            "application/json" if says_nothing => {}
            "application/json" if OAUTH.contains(&path.split('?').next().unwrap_or(path)) => {
                self.check_oauth()
            }
            "application/json" if self.text.starts_with('[') => assert_eq!(path, "/api/leaks", "{self}"),
            "application/json" => self.check_shape(),
            "application/jsonl" => {
                assert!(self.text.is_empty() || self.text.ends_with("}\n"), "{}", self.text)
            }
            "text/html" => self.check_page(),
            "text/plain" => assert_eq!(path, "/metrics", "{}", self.text),
            "" => assert!(self.text.is_empty(), "{}", self.text),
            _ => assert!(path.starts_with("/assets/"), "{method} {path} answers {}", self.kind()),
        }
    }

    /// `{"value": T}` or `{"error": {"code", "message"}}`, by the status.
    fn check_shape(&self) {
        let json = self.json();
        if self.status.is_success() {
            assert!(json.get("value").is_some() != json.get("openapi").is_some(), "{self}");
        } else {
            let code = json["error"]["code"].as_str().expect("a code");
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
            assert!(json["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{self}");
        }
    }

    /// `{"error", "error_description"}` (RFC 6749 §5.2).
    fn check_oauth(&self) {
        let json = self.json();
        assert!(!self.status.is_success() && json["error"].is_string(), "{self}");
        let description = json["error_description"].as_str().expect("a description");
        let allowed = |byte: u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
        assert!(description.len() > 10 && description.bytes().all(allowed), "{self}");
    }

    /// No inline script or style, and nothing from elsewhere.
    fn check_page(&self) {
        let text = self.text.to_ascii_lowercase();
        for inline in ["<style", " style=", "javascript:", "<iframe", "<object", "<embed", "<base"] {
            assert!(!text.contains(inline), "{inline} in {text}");
        }
        for tag in text.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default()) {
            if tag.starts_with("script") {
                assert!(tag.starts_with("script src=\"/assets/"), "<{tag}>");
            }
            for attribute in tag.split_ascii_whitespace().skip(1) {
                assert!(!attribute.starts_with("on"), "<{tag}>");
                for place in ["src=\"", "href=\"", "action=\""] {
                    let target = attribute.strip_prefix(place);
                    let is_ours = |target: &str| !target.starts_with("//") && target.starts_with(['/', '#']);
                    assert!(target.is_none_or(is_ours), "<{tag}>");
                }
            }
        }
    }
}

/// Status, headers and body, with `[id]` and the like for what differs from run to run.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        let usual = |name: &str, value: &str| {
            USUAL.contains(&name)
                || (name, value) == ("content-type", "application/json")
                || (name, value) == ("cache-control", "no-store")
        };
        let mut headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
        headers.sort_unstable();
        for (name, value) in headers.into_iter().filter(|(name, value)| !usual(name, value)) {
            writeln!(f, "{name}: {}", redacted(value))?;
        }
        match serde_json::from_str::<Value>(&self.text) {
            Ok(json) => {
                write!(f, "{}", redacted(&serde_json::to_string_pretty(&json).map_err(|_| fmt::Error)?))
            }
            Err(_) => write!(f, "{}", redacted(&self.text)),
        }
    }
}

/// The text with a name in place of each id, token, hint and session.
fn redacted(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        shown.push_str(match word {
            _ if word.len() == 36 && Uuid::try_parse(word).is_ok() => "[id]",
            _ if word.parse::<Token>().is_ok() => "[token]",
            _ if word.len() == 7 && word.starts_with("...") => "[hint]",
            _ if word.len() == 43 => "[session]",
            _ => word,
        });
        let (between, next) = after.split_at(after.find(is_word).unwrap_or(after.len()));
        shown.push_str(between);
        rest = next;
    }
    shown
}
