//! The two eras of MCP, and the data that each request carries in them.
//!
//! Session era: 2024-11-05, 2025-03-26, 2025-06-18 and 2025-11-25 (`initialize`,
//! `Mcp-Session-Id`). Stateless era: 2026-07-28 (each request carries in `_meta` and in its headers
//! all that is needed to serve it).

use std::borrow::Cow;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::envelope::{INVALID_PARAMS, Members, Message, RawObject, UNSUPPORTED_VERSION, raw};
use crate::headers::ROOM;
pub(crate) use crate::headers::{Refused, only};
use crate::judge::Judged;
use crate::mirror::{self, Unreadable, decoded, encoded};
pub(crate) use crate::names::*;
use crate::trace;

/// The era that a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Era {
    Session,
    Stateless,
}

/// Determines the era of a request. Its `_meta` takes precedence over its method, and the method
/// over its headers.
pub(crate) fn of(headers: &HeaderMap, Judged { message, names_version }: &Judged) -> Era {
    if *names_version {
        return Era::Stateless;
    }
    if message.method() == "initialize" {
        return Era::Session;
    }
    match headers.get(VERSION) {
        Some(version) if SESSION_VERSIONS.iter().any(|known| version == known) => Era::Session,
        Some(version) if version == STATELESS => Era::Stateless,
        _ if headers.contains_key(SESSION) => Era::Session,
        Some(_) => Era::Stateless,
        None if headers.contains_key(METHOD) => Era::Stateless,
        None => Era::Session,
    }
}

/// The data about its sender that a stateless request carries.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sender {
    /// The sender's capabilities, as JSON.
    pub(crate) capabilities: String,
    /// The sender's name and version, as JSON.
    pub(crate) client: Option<Box<RawValue>>,
    /// The least severe log level that the sender wants.
    pub(crate) log_level: Option<String>,
}

/// Maximum size of a client's capabilities, in bytes. A shared session keeps them in memory.
pub(crate) const MAX_CAPABILITIES: usize = 4096;

/// Parses the data that every stateless request must carry, and compares its headers with its body
/// (MCP 2026-07-28, "Server Validation").
pub(crate) fn sender(headers: &HeaderMap, message: &Message) -> Result<Sender, Refused> {
    let meta = stated(headers, message)?;
    let asked = meta.version()?;
    if asked != STATELESS {
        let supported: Vec<&str> = std::iter::once(STATELESS).chain(SESSION_VERSIONS).collect();
        return Err(Refused {
            code: UNSUPPORTED_VERSION,
            message: "this protocol version is not supported".into(),
            data: Some(serde_json::json!({ "supported": supported, "requested": asked })),
        });
    }
    let capabilities = meta.0.get(META_CAPABILITIES).and_then(|json| RawObject::parse(json).ok());
    let client = meta.0.get(META_CLIENT).and_then(|json| RawValue::from_string(json.to_owned()).ok());
    let log_level = meta.0.get(META_LOG_LEVEL).and_then(|json| serde_json::from_str(json).ok());
    let capabilities = capabilities.ok_or_else(|| missing(META_CAPABILITIES))?.to_raw().get().to_owned();
    if capabilities.len() > MAX_CAPABILITIES {
        let message = format!("`{META_CAPABILITIES}` is longer than {MAX_CAPABILITIES} bytes");
        return Err(Refused { code: INVALID_PARAMS, message, data: None });
    }
    Ok(Sender { capabilities, client, log_level })
}

fn missing(key: &str) -> Refused {
    let message = format!("`params._meta` must have `{key}` (MCP {STATELESS}, \"_meta\")");
    Refused { code: INVALID_PARAMS, message, data: None }
}

/// The `_meta` of a request whose headers match its body.
pub(crate) struct Stated<'a>(Members<'a>);

impl<'a> Stated<'a> {
    fn version(&self) -> Result<Cow<'a, str>, Refused> {
        self.0.get(META_VERSION).and_then(text).ok_or_else(|| missing(META_VERSION))
    }
}

/// Parses a JSON string, borrowing it if it has no escapes.
fn text(json: &str) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(json).ok().map(|Text(text)| text)
}

/// Compares a request's headers with its body. The caller decides whether it supports the version
/// that they name.
pub(crate) fn stated<'a>(headers: &HeaderMap, message: &'a Message) -> Result<Stated<'a>, Refused> {
    let Some(version) = only(headers, &VERSION) else {
        return Err(Refused::mismatch("the header MCP-Protocol-Version is missing or repeated"));
    };
    let meta = message.param("_meta").and_then(Members::read).ok_or_else(|| missing(META_VERSION))?;
    let meta = Stated(meta);
    if version.as_bytes() != meta.version()?.as_bytes() {
        return Err(Refused::mismatch("the header MCP-Protocol-Version differs from `_meta`"));
    }
    if meta.0.get(META_CAPABILITIES).is_none_or(|json| Members::read(json).is_none()) {
        return Err(missing(META_CAPABILITIES));
    }
    if !says(headers, &METHOD, message.method()) {
        return Err(Refused::mismatch("the header Mcp-Method is missing or differs from `method`"));
    }
    if let Some(named) = name_of(message)
        && !text(named).is_some_and(|named| says(headers, &NAME, &named))
    {
        return Err(Refused::mismatch("the header Mcp-Name is missing or differs from the body"));
    }
    Ok(meta)
}

/// Returns the parameter that `Mcp-Name` repeats, as JSON.
fn name_of(message: &Message) -> Option<&str> {
    match message.method() {
        "tools/call" | "prompts/get" => message.param("name"),
        "resources/read" => message.param("uri"),
        _ => None,
    }
}

/// Returns whether a header has this value, in plain text or Base64 form.
fn says(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    only(headers, name).and_then(decoded).is_some_and(|value| value == expected)
}

/// Builds the headers of a stateless request that the relay creates: the headers of every request,
/// and those that the tool's schema asks for. Returns `Err` if the arguments do not allow building
/// them.
pub(crate) fn headers_for(
    message: &Message,
    schema: Option<&serde_json::Value>,
) -> Result<HeaderMap, Unreadable> {
    let mut headers = HeaderMap::new();
    headers.insert(VERSION, HeaderValue::from_static(STATELESS));
    headers.insert(METHOD, encoded(message.method()));
    if let Some(name) = name_of(message) {
        headers.insert(NAME, encoded(&text(name).ok_or(Unreadable)?));
    }
    if let Some(schema) = schema {
        mirror::add(&mut headers, message, schema)?;
    }
    Ok(headers)
}

/// Returns the client's headers that are forwarded unchanged: those that do not describe the body.
/// The relay creates the others from the body, so that no upstream reads a request differently than
/// the relay judged it.
pub(crate) fn travelling(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(ROOM);
    for (name, value) in headers {
        if name == ACCEPT || trace::NAMES.contains(&name.as_str()) {
            out.append(name, value.clone());
        }
    }
    out
}

/// Returns the headers for a session request that is passed on byte for byte. The caller has
/// checked that the version is one of the session era.
pub(crate) fn travelling_in_session(headers: &HeaderMap) -> HeaderMap {
    let mut out = travelling(headers);
    if let Some(version) = only(headers, &VERSION) {
        out.insert(VERSION, version.clone());
    }
    out
}

/// Returns the headers for a stateless request that is passed on byte for byte, after [`stated`]
/// and [`mirror::check`] have compared them with the body.
pub(crate) fn travelling_stateless(
    headers: &HeaderMap,
    message: &Message,
    schema: Option<&serde_json::Value>,
) -> Result<HeaderMap, Unreadable> {
    let mut out = travelling(headers);
    // The version was already compared with the body's.
    if let Some(version) = only(headers, &VERSION) {
        out.insert(VERSION, version.clone());
    }
    out.insert(METHOD, repeated(headers, &METHOD, message.method()));
    if let Some(name) = name_of(message) {
        let name = text(name).ok_or(Unreadable)?;
        out.insert(NAME, repeated(headers, &NAME, &name));
    }
    if let Some(schema) = schema {
        mirror::add(&mut out, message, schema)?;
    }
    Ok(out)
}

/// Returns the header value for `text`. Reuses the client's own value if it is the same, which
/// avoids a copy.
fn repeated(headers: &HeaderMap, name: &HeaderName, text: &str) -> HeaderValue {
    match headers.get(name) {
        Some(given) if given.as_bytes() == text.as_bytes() && decoded(given).as_deref() == Some(text) => {
            given.clone()
        }
        _ => encoded(text),
    }
}

/// Builds the `_meta` of a stateless request on behalf of a session, from the session's
/// `initialize` parameters.
pub(crate) fn meta_of(
    client: Option<&RawValue>,
    capabilities: &str,
    log_level: Option<&str>,
    base: RawObject,
) -> String {
    let mut meta = base;
    meta.set(META_VERSION, raw(STATELESS));
    if let Some(client) = client {
        meta.set(META_CLIENT, client.to_owned());
    }
    let capabilities = RawValue::from_string(capabilities.to_owned());
    meta.set(META_CAPABILITIES, capabilities.unwrap_or_else(|_| raw(&serde_json::json!({}))));
    if let Some(level) = log_level {
        meta.set(META_LOG_LEVEL, raw(level));
    }
    meta.to_raw().get().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::HEADER_MISMATCH;
    use crate::judge;

    fn message(text: &str) -> Message {
        Message::parse(text.to_owned()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ü","_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    const GOOD: [(&str, &str); 3] = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w7w=?="),
    ];

    #[test]
    fn a_request_says_of_which_era_it_is() {
        let of = |headers: &HeaderMap, message: &str| of(headers, &judge::read(message.to_owned()).unwrap());
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        for (given, era) in [
            (headers(&[]), Era::Session),
            (headers(&[("mcp-session-id", "x")]), Era::Session),
            (headers(&[("mcp-protocol-version", "2025-06-18")]), Era::Session),
            (headers(&[("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "x")]), Era::Stateless),
            (headers(&[("mcp-protocol-version", "1900-01-01")]), Era::Stateless),
            (headers(&[("mcp-protocol-version", "1900-01-01"), ("mcp-session-id", "x")]), Era::Session),
            (headers(&[("mcp-method", "ping")]), Era::Stateless),
        ] {
            assert_eq!(of(&given, ping), era, "{given:?}");
        }
        assert_eq!(of(&headers(&[("mcp-protocol-version", "2025-06-18")]), CALL), Era::Stateless);
        let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
        assert_eq!(of(&headers(&[("mcp-protocol-version", "2026-07-28")]), initialize), Era::Session);
    }

    #[test]
    fn headers_must_say_what_the_body_says() {
        assert_eq!(sender(&headers(&GOOD), &message(CALL)).unwrap().capabilities, "{}");
        for (at, other, code) in [
            (0, None, HEADER_MISMATCH),
            (0, Some("2025-11-25"), HEADER_MISMATCH),
            (1, None, HEADER_MISMATCH),
            (1, Some("Tools/Call"), HEADER_MISMATCH),
            (2, None, HEADER_MISMATCH),
            (2, Some("=?base64?!!?="), HEADER_MISMATCH),
        ] {
            let mut pairs = GOOD.to_vec();
            match other {
                Some(value) => pairs[at].1 = value,
                None => drop(pairs.remove(at)),
            }
            assert_eq!(sender(&headers(&pairs), &message(CALL)).unwrap_err().code, code, "{pairs:?}");
        }
        let mut twice = headers(&GOOD);
        twice.append(METHOD, HeaderValue::from_static("tools/list"));
        assert_eq!(sender(&twice, &message(CALL)).unwrap_err().code, HEADER_MISMATCH);
    }

    #[test]
    fn what_is_missing_or_of_another_version_is_named() {
        let without = message(&CALL.replace(META_CAPABILITIES, "x/y"));
        assert!(sender(&headers(&GOOD), &without).unwrap_err().message.contains(META_CAPABILITIES));
        let mut pairs = GOOD;
        pairs[0].1 = "1900-01-01";
        let old = message(&CALL.replace("2026-07-28", "1900-01-01"));
        let refused = sender(&headers(&pairs), &old).unwrap_err();
        assert_eq!(refused.code, UNSUPPORTED_VERSION);
        assert_eq!(refused.data.unwrap()["supported"][0], STATELESS);
    }

    #[test]
    fn only_headers_that_say_nothing_of_the_body_travel() {
        let given = headers(&[
            ("accept", "application/json"),
            ("traceparent", "00-1"),
            ("mcp-param-x", "1"),
            ("mcp-method", "tools/list"),
            ("mcp-name", "other"),
            ("content-type", "application/json; charset=utf-7"),
            ("content-encoding", "gzip"),
            ("last-event-id", "7"),
            ("mcp-session-id", "ours"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1"),
            ("host", "h"),
            ("origin", "o"),
        ]);
        let mut kept: Vec<_> = travelling(&given).keys().map(ToString::to_string).collect();
        kept.sort();
        assert_eq!(kept, ["accept", "traceparent"]);
    }
}
