//! The two eras of MCP, and what each request says of its own.
//!
//! Session era: 2025-03-26, 2025-06-18 and 2025-11-25 (`initialize`, `Mcp-Session-Id`). Stateless era: 2026-07-28 (each request says in
//! `_meta` and in its headers what it needs to be served).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::envelope::{HEADER_MISMATCH, INVALID_PARAMS, Message, RawObject, UNSUPPORTED_VERSION, raw};
use crate::trace;
use crate::upstream::ROOM;

/// Which of the two a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Era {
    Session,
    Stateless,
}

/// The stateless era's version.
pub(crate) const STATELESS: &str = "2026-07-28";
/// The session era's versions, newest first: what `initialize` offers when the client's is unknown.
pub(crate) const SESSION_VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// What a client may say without asking for anything, in any version of the protocol (its schemas, `ClientNotification`;
/// `notifications/tasks/status` is of 2025-11-25). Anything else must have an id: without one a request would pass
/// neither the scopes nor the record, and some servers run it all the same.
pub(crate) const CLIENT_NOTIFICATIONS: [&str; 5] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
];

pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PARAM_PREFIX: &str = "mcp-param-";

// The keys of `_meta` (MCP 2026-07-28, "General fields").
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(crate) const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub(crate) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// Which era a request is of. What it says in `_meta` outweighs its method, and that its headers.
pub(crate) fn of(headers: &HeaderMap, message: &Message) -> Era {
    if message.has_meta(META_VERSION) {
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

/// Why a stateless request is refused, with HTTP 400.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) message: String,
    /// `data` of the error.
    pub(crate) data: Option<serde_json::Value>,
}

impl Refused {
    fn mismatch(message: &str) -> Self {
        Self { code: HEADER_MISMATCH, message: message.to_owned(), data: None }
    }
}

/// What a stateless request says of its sender.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sender {
    /// Its capabilities, as JSON.
    pub(crate) capabilities: String,
    /// Its name and version, as JSON.
    pub(crate) client: Option<Box<RawValue>>,
    /// The least severe log message that it wants.
    pub(crate) log_level: Option<String>,
}

/// Reads what every stateless request must say, and holds its headers against its body (MCP 2026-07-28, "Server
/// Validation").
pub(crate) fn sender(headers: &HeaderMap, message: &Message) -> Result<Sender, Refused> {
    let (sender, asked) = stated(headers, message)?;
    if asked != STATELESS {
        let supported: Vec<&str> = std::iter::once(STATELESS).chain(SESSION_VERSIONS).collect();
        return Err(Refused {
            code: UNSUPPORTED_VERSION,
            message: "this protocol version is not supported".into(),
            data: Some(serde_json::json!({ "supported": supported, "requested": asked })),
        });
    }
    Ok(sender)
}

/// The same, and the version: whoever serves it says whether it is supported.
pub(crate) fn stated(headers: &HeaderMap, message: &Message) -> Result<(Sender, String), Refused> {
    let Some(version) = only(headers, &VERSION) else {
        return Err(Refused::mismatch("the header MCP-Protocol-Version is missing, or there twice"));
    };
    let missing = |key: &str| {
        let message = format!("`params._meta` must have `{key}` (MCP {STATELESS}, \"_meta\")");
        Refused { code: INVALID_PARAMS, message, data: None }
    };
    let meta = message.meta().unwrap_or_default();
    let asked = meta.str(META_VERSION).ok_or_else(|| missing(META_VERSION))?;
    if version.as_bytes() != asked.as_bytes() {
        return Err(Refused::mismatch("the header MCP-Protocol-Version differs from `_meta`"));
    }
    let capabilities = meta.object(META_CAPABILITIES).ok_or_else(|| missing(META_CAPABILITIES))?;
    if !says(headers, &METHOD, message.method()) {
        return Err(Refused::mismatch("the header Mcp-Method is missing or differs from `method`"));
    }
    if let Some(named) = name_of(message) {
        let named: String = serde_json::from_str(named).unwrap_or_default();
        if !says(headers, &NAME, &named) {
            return Err(Refused::mismatch("the header Mcp-Name is missing or differs from the body"));
        }
    }
    let sender = Sender {
        capabilities: capabilities.to_raw().get().to_owned(),
        client: meta.get(META_CLIENT).map(ToOwned::to_owned),
        log_level: meta.str(META_LOG_LEVEL),
    };
    Ok((sender, asked))
}

/// Holds the headers that a tool's schema asks for against the call's arguments (MCP 2026-07-28, "Server Behavior for Custom
/// Headers").
pub(crate) fn check_mirrored(
    headers: &HeaderMap,
    message: &Message,
    schema: &serde_json::Value,
) -> Result<(), Refused> {
    let mut wanted = HeaderMap::new();
    let arguments = message.param("arguments").and_then(|json| serde_json::from_str(json).ok());
    mirror(schema, &arguments.unwrap_or_default(), &mut wanted, 0);
    for (name, expected) in &wanted {
        let given = only(headers, name).and_then(decoded);
        let (Some(given), Some(expected)) = (given, decoded(expected)) else {
            return Err(Refused::mismatch(&format!("the header {name} is missing or malformed")));
        };
        let number = |text: &str| text.parse::<f64>().ok();
        let same = given == expected
            || number(&given)
                .is_some_and(|given| number(&expected).is_some_and(|expected| given == expected));
        if !same {
            return Err(Refused::mismatch(&format!("the header {name} differs from the argument")));
        }
    }
    let mut known = HeaderMap::new();
    names(schema, &mut known, 0);
    match known.keys().find(|name| headers.contains_key(*name) && !wanted.contains_key(*name)) {
        Some(name) => {
            Err(Refused::mismatch(&format!("the header {name} is of an argument that is not there")))
        }
        None => Ok(()),
    }
}

/// The parameter that `Mcp-Name` repeats, as JSON.
fn name_of(message: &Message) -> Option<&str> {
    match message.method() {
        "tools/call" | "prompts/get" => message.param("name"),
        "resources/read" => message.param("uri"),
        _ => None,
    }
}

/// The value of a header that is there once: of two, each reader might take another.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a header says this, in plain text or in the Base64 form.
fn says(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    only(headers, name).and_then(decoded).is_some_and(|value| value == expected)
}

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// A header's value, out of its Base64 form if it is in it (MCP 2026-07-28, "Value Encoding").
fn decoded(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    match text.strip_prefix(SENTINEL.0).and_then(|rest| rest.strip_suffix(SENTINEL.1)) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

/// A value as a header carries it: plain where that is safe, else in the Base64 form.
fn encoded(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        && text.trim() == text
        && !(text.starts_with(SENTINEL.0) && text.ends_with(SENTINEL.1));
    let value = if plain {
        HeaderValue::from_str(text)
    } else {
        HeaderValue::from_str(&format!("{}{}{}", SENTINEL.0, STANDARD.encode(text), SENTINEL.1))
    };
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The headers of a stateless request that the relay makes: those of every request, and those that the tool's schema asks
/// for.
pub(crate) fn headers_for(message: &Message, schema: Option<&serde_json::Value>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(VERSION, HeaderValue::from_static(STATELESS));
    headers.insert(METHOD, encoded(message.method()));
    if let Some(name) = name_of(message) {
        let name: String = serde_json::from_str(name).unwrap_or_default();
        headers.insert(NAME, encoded(&name));
    }
    if let Some(schema) = schema {
        let arguments = message.param("arguments").and_then(|json| serde_json::from_str(json).ok());
        mirror(schema, &arguments.unwrap_or_default(), &mut headers, 0);
    }
    headers
}

/// How deep `x-mcp-header` is looked for: deeper than any tool's parameters are.
const MAX_DEPTH: usize = 16;

/// `x-mcp-header`: parameters that the upstream wants to see as headers as well. Only `properties` are followed.
fn mirror(schema: &serde_json::Value, given: &serde_json::Value, headers: &mut HeaderMap, depth: usize) {
    for (key, property) in properties(schema) {
        let Some(value) = given.get(key) else { continue };
        if let Some(name) = header_of(property) {
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::Bool(truth) => truth.to_string(),
                _ => continue,
            };
            headers.insert(name, encoded(&text));
        } else if depth < MAX_DEPTH {
            mirror(property, value, headers, depth + 1);
        }
    }
}

/// All headers that a schema asks for, whatever the arguments.
fn names(schema: &serde_json::Value, headers: &mut HeaderMap, depth: usize) {
    for (_, property) in properties(schema) {
        match header_of(property) {
            Some(name) => drop(headers.insert(name, HeaderValue::from_static(""))),
            None if depth < MAX_DEPTH => names(property, headers, depth + 1),
            None => {}
        }
    }
}

fn properties(schema: &serde_json::Value) -> impl Iterator<Item = (&String, &serde_json::Value)> {
    schema.get("properties").and_then(|properties| properties.as_object()).into_iter().flatten()
}

fn header_of(property: &serde_json::Value) -> Option<HeaderName> {
    let name = property.get("x-mcp-header")?.as_str()?;
    HeaderName::try_from(format!("{PARAM_PREFIX}{}", name.to_ascii_lowercase())).ok()
}

/// The headers of a client that belong to the protocol and travel to the upstream as they came. Nothing else does.
pub(crate) fn travelling(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(ROOM);
    for (name, value) in headers {
        let text = name.as_str();
        let travels = [&VERSION, &METHOD, &NAME].contains(&name)
            || text.starts_with(PARAM_PREFIX)
            || matches!(text, "accept" | "content-type" | "last-event-id")
            || trace::NAMES.contains(&text);
        if travels {
            out.append(name, value.clone());
        }
    }
    out
}

/// The `_meta` of a stateless request made from a session: what the session's client said when it began.
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
        let ping = message(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        for (given, era) in [
            (headers(&[]), Era::Session),
            (headers(&[("mcp-session-id", "x")]), Era::Session),
            (headers(&[("mcp-protocol-version", "2025-06-18")]), Era::Session),
            (headers(&[("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "x")]), Era::Stateless),
            (headers(&[("mcp-protocol-version", "1900-01-01")]), Era::Stateless),
            (headers(&[("mcp-protocol-version", "1900-01-01"), ("mcp-session-id", "x")]), Era::Session),
            (headers(&[("mcp-method", "ping")]), Era::Stateless),
        ] {
            assert_eq!(of(&given, &ping), era, "{given:?}");
        }
        assert_eq!(of(&headers(&[("mcp-protocol-version", "2025-06-18")]), &message(CALL)), Era::Stateless);
        let initialize = message(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#);
        assert_eq!(of(&headers(&[("mcp-protocol-version", "2026-07-28")]), &initialize), Era::Session);
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
    fn parameters_become_headers_where_the_schema_says_so() {
        let call = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"r":"eu\r\nX: 1","n":{"deep":7},"b":true,"z":1.5}}}"#,
        );
        let schema = serde_json::json!({"properties": {
            "r": {"x-mcp-header": "Region"}, "n": {"properties": {"deep": {"x-mcp-header": "Deep"}}},
            "b": {"x-mcp-header": "bad name"}, "absent": {"x-mcp-header": "Absent"}, "z": {"type": "number"},
        }});
        let made = headers_for(&call, Some(&schema));
        assert_eq!(decoded(&made["mcp-param-region"]).unwrap(), "eu\r\nX: 1");
        assert_eq!(made["mcp-param-deep"], "7");
        assert_eq!(made.len(), 5, "{made:?}");
    }

    #[test]
    fn headers_of_arguments_are_held_against_them() {
        let schema =
            serde_json::json!({"properties": {"n": {"x-mcp-header": "N"}, "t": {"x-mcp-header": "T"}}});
        let call = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":42}}}"#,
        );
        for (given, good) in [
            (headers(&[("mcp-param-n", "42")]), true),
            (headers(&[("mcp-param-n", "42.0")]), true),
            (headers(&[("mcp-param-n", "=?base64?NDI=?=")]), true),
            (headers(&[("mcp-param-n", "42"), ("mcp-param-other", "x")]), true),
            (headers(&[]), false),
            (headers(&[("mcp-param-n", "43")]), false),
            (headers(&[("mcp-param-n", "=?base64?N?=")]), false),
            (headers(&[("mcp-param-n", "42"), ("mcp-param-t", "x")]), false),
        ] {
            assert_eq!(check_mirrored(&given, &call, &schema).is_ok(), good, "{given:?}");
        }
    }

    #[test]
    fn only_headers_of_the_protocol_travel() {
        let given = headers(&[
            ("mcp-param-x", "1"),
            ("traceparent", "00-1"),
            ("mcp-session-id", "ours"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1"),
            ("host", "h"),
            ("origin", "o"),
        ]);
        let mut kept: Vec<_> = travelling(&given).keys().map(ToString::to_string).collect();
        kept.sort();
        assert_eq!(kept, ["mcp-param-x", "traceparent"]);
    }
}
