//! `Mcp-Param-*`: arguments that a tool wants to have repeated as headers (MCP 2026-07-28, "Custom
//! Headers from Tool Parameters").
//!
//! An intermediary between the relay and a tool may act on the header, and the tool on its
//! argument. The relay therefore compares them exactly, and refuses arguments that the tool might
//! parse differently.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::decimal::Decimal;
use crate::envelope::{Members, Message};
use crate::headers::{Refused, only};
use crate::lookalike::is_lookalike;

const PARAM_PREFIX: &str = "mcp-param-";
/// Maximum depth to which `x-mcp-header` is searched. No tool's parameters are nested that deeply.
const MAX_DEPTH: usize = 16;
const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// The arguments are ambiguous between parsers, or some parser cannot read them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// An argument, in the form in which it is compared with its header.
enum Scalar {
    Text(String),
    /// The number as written.
    Number(String),
    Truth(bool),
}

impl Scalar {
    fn read(json: &str) -> Result<Option<Self>, Unreadable> {
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str(json).map(Self::Text).map(Some).map_err(|_| Unreadable),
            Some(b't') => Ok(Some(Self::Truth(true))),
            Some(b'f') => Ok(Some(Self::Truth(false))),
            Some(b'-' | b'0'..=b'9') => Ok(Some(Self::Number(json.to_owned()))),
            // `null` counts as absent. An object or an array cannot be a header parameter.
            _ => Ok(None),
        }
    }

    /// Returns whether a header's text has this value. `42.0` equals 42, but `"42"` does not, and
    /// `"007"` or `007` is not seven.
    fn is_said_by(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => own == text,
            Self::Truth(own) => text == if *own { "true" } else { "false" },
            Self::Number(own) => {
                Decimal::read(own).zip(Decimal::read(text)).is_some_and(|(own, given)| own == given)
            }
        }
    }

    fn header(&self) -> HeaderValue {
        match self {
            Self::Text(text) => encoded(text),
            Self::Truth(true) => HeaderValue::from_static("true"),
            Self::Truth(false) => HeaderValue::from_static("false"),
            Self::Number(text) => {
                let plain = Decimal::read(text).and_then(|number| number.plain());
                encoded(plain.as_deref().unwrap_or(text))
            }
        }
    }
}

/// Returns the headers that the tool's schema asks for, with the values of the call's arguments.
fn wanted(schema: &Value, message: &Message) -> Result<Vec<(HeaderName, Scalar)>, Unreadable> {
    let mut all = Vec::new();
    let Some(arguments) = message.param("arguments").filter(|_| wants_any(schema, 0)) else {
        return Ok(all);
    };
    // Arguments that this parser cannot read (a number out of range, an unpaired surrogate, too
    // much nesting) may be read in any way by others.
    serde_json::from_str::<Value>(arguments).map_err(|_| Unreadable)?;
    collect(schema, arguments, &mut all, 0)?;
    Ok(all)
}

/// Collects the wanted headers. Only `properties` are followed.
fn collect(
    schema: &Value,
    given: &str,
    all: &mut Vec<(HeaderName, Scalar)>,
    depth: usize,
) -> Result<(), Unreadable> {
    if !given.starts_with('{') || properties(schema).next().is_none() {
        return Ok(());
    }
    let members = Members::read(given).ok_or(Unreadable)?;
    let declared = |name: &str| properties(schema).any(|(key, _)| key == name);
    for (key, property) in properties(schema) {
        let name = header_of(property);
        if name.is_none() && (depth == MAX_DEPTH || properties(property).next().is_none()) {
            continue;
        }
        if members.names().any(|other| is_lookalike(other, &[key]) && !declared(other)) {
            return Err(Unreadable);
        }
        let Some(value) = members.get(key) else { continue };
        match name {
            Some(name) => all.extend(Scalar::read(value)?.map(|scalar| (name, scalar))),
            None => collect(property, value, all, depth + 1)?,
        }
    }
    Ok(())
}

/// Compares the headers that a tool's schema asks for with the call's arguments (MCP 2026-07-28,
/// "Server Behavior for Custom Headers").
pub(crate) fn check(headers: &HeaderMap, message: &Message, schema: &Value) -> Result<(), Refused> {
    let wanted = wanted(schema, message).map_err(|Unreadable| {
        Refused::mismatch("the arguments cannot be compared with the headers that repeat them")
    })?;
    for (name, expected) in &wanted {
        let Some(given) = only(headers, name).and_then(decoded) else {
            return Err(Refused::mismatch(&format!("the header {name} is missing or malformed")));
        };
        if !expected.is_said_by(&given) {
            return Err(Refused::mismatch(&format!("the header {name} differs from the argument")));
        }
    }
    let mut known = HeaderMap::new();
    names(schema, &mut known, 0);
    let is_wanted = |name: &HeaderName| wanted.iter().any(|(wanted, _)| wanted == name);
    match known.keys().find(|name| headers.contains_key(*name) && !is_wanted(name)) {
        Some(name) => {
            Err(Refused::mismatch(&format!("the header {name} repeats an argument that is missing")))
        }
        None => Ok(()),
    }
}

/// Adds the headers that a tool's schema asks for, with the values of the call's arguments.
pub(crate) fn add(headers: &mut HeaderMap, message: &Message, schema: &Value) -> Result<(), Unreadable> {
    for (name, value) in wanted(schema, message)? {
        headers.insert(name, value.header());
    }
    Ok(())
}

/// Returns whether a request has a header that repeats an argument.
pub(crate) fn has_any(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PARAM_PREFIX))
}

fn wants_any(schema: &Value, depth: usize) -> bool {
    properties(schema).any(|(_, property)| {
        header_of(property).is_some() || (depth < MAX_DEPTH && wants_any(property, depth + 1))
    })
}

/// Collects the names of all headers that a schema can ask for, regardless of the arguments.
fn names(schema: &Value, headers: &mut HeaderMap, depth: usize) {
    for (_, property) in properties(schema) {
        match header_of(property) {
            Some(name) => drop(headers.insert(name, HeaderValue::from_static(""))),
            None if depth < MAX_DEPTH => names(property, headers, depth + 1),
            None => {}
        }
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(|properties| properties.as_object()).into_iter().flatten()
}

fn header_of(property: &Value) -> Option<HeaderName> {
    let name = property.get("x-mcp-header")?.as_str()?;
    HeaderName::try_from(format!("{PARAM_PREFIX}{}", name.to_ascii_lowercase())).ok()
}

/// Returns a header's value, decoded if it is in the Base64 form (MCP 2026-07-28, "Value
/// Encoding").
pub(crate) fn decoded(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?;
    match text.strip_prefix(SENTINEL.0).and_then(|rest| rest.strip_suffix(SENTINEL.1)) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

/// Encodes a value for a header: in plain text where that is safe, otherwise in the Base64 form.
pub(crate) fn encoded(text: &str) -> HeaderValue {
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

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
