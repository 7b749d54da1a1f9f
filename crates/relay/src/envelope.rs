//! JSON-RPC messages as text with marked positions. Only the members that decide something are
//! parsed; the rest passes unchanged.
//!
//! A [`Message`] keeps its text and remembers the positions of its members, so that an id or a name
//! can be replaced in place and every other byte survives. A [`RawObject`] is for messages that the
//! relay creates: members keep their order and their bytes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::decimal::Decimal;
use crate::lookalike::is_lookalike;

pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const INTERNAL: i64 = -32603;
/// Used in the session era only (MCP 2025-11-25, "Resources"); the stateless era uses
/// [`INVALID_PARAMS`].
pub(crate) const RESOURCE_NOT_FOUND: i64 = -32002;
/// MCP 2026-07-28, "Error Codes".
pub(crate) const HEADER_MISMATCH: i64 = -32020;
/// MCP 2026-07-28, "Error Codes".
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;
/// An upstream is down, slow or sends invalid answers.
pub(crate) const UPSTREAM: i64 = -32000;
/// The token was revoked or expired while the call ran.
pub(crate) const ENDED: i64 = -32001;
/// The token's scopes do not allow the request.
pub(crate) const FORBIDDEN: i64 = -32003;

/// The members of an object, borrowed from the parsed text.
///
/// Repeated names are refused. Given `{"name":1,"name":2}`, the relay would judge one value and the
/// upstream might obey the other.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Parses an object. Returns `None` if the text is not an object or repeats a name.
    pub(crate) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }
}

/// A member name that serde borrows where possible.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Up to this many members, repeated names are found by comparing all of them; beyond it a set is
/// faster.
const FEW: usize = 16;

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    let repeated = if members.len() < FEW {
                        members.iter().any(|(known, _)| *known == name)
                    } else {
                        if seen.is_empty() {
                            seen.extend(members.iter().map(|(known, _)| known.clone()));
                        }
                        !seen.insert(name.clone())
                    };
                    if repeated {
                        return Err(A::Error::custom("a member name is repeated"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A JSON object whose members keep their order and their bytes; repeated names are refused.
#[derive(Debug, Default, Clone)]
pub(crate) struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let Members(members) = serde_json::from_str(json)?;
        Ok(Self(members.into_iter().map(|(name, value)| (name.into_owned(), value.to_owned())).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    pub(crate) fn str(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    pub(crate) fn object(&self, name: &str) -> Option<RawObject> {
        Self::parse(self.get(name)?.get()).ok()
    }

    /// Replaces a member in place, or appends it.
    pub(crate) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Adds a member unless one of that name exists.
    pub(crate) fn default_to(&mut self, name: &str, value: impl FnOnce() -> Box<RawValue>) {
        if self.get(name).is_none() {
            self.0.push((name.to_owned(), value()));
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    pub(crate) fn to_raw(&self) -> Box<RawValue> {
        raw(self)
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The relay's own values always serialize; `null` stands in for the impossible failure.
pub(crate) fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns whether two ids are equal, regardless of their spelling. Numbers are compared exactly.
pub(crate) fn is_same_id(one: &str, other: &str) -> bool {
    let text = |id: &str| serde_json::from_str::<String>(id).ok();
    one == other
        || text(one).zip(text(other)).is_some_and(|(one, other)| one == other)
        || Decimal::read(one).zip(Decimal::read(other)).is_some_and(|(one, other)| one == other)
}

/// Returns whether every parser preserves this id: a string, or an integer of 64 bits.
fn is_id(id: &str) -> bool {
    /// Integers with this many digits always fit into 64 bits.
    const FIT: usize = 18;
    if id.starts_with('"') {
        // The JSON is valid, so only an escape can still be wrong: an unpaired surrogate.
        return !id.contains('\\') || serde_json::from_str::<String>(id).is_ok();
    }
    (id.len() <= FIT && id.bytes().all(|byte| byte.is_ascii_digit()))
        || Decimal::read(id).is_some_and(|number| number.whole().is_some())
}

/// True if a result contains `isError: true`, in any spelling of the name.
struct SaysError(bool);

impl<'de> Deserialize<'de> for SaysError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = SaysError;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a result")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SaysError, A::Error> {
                let mut says = false;
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    // If the name is repeated with different values, `true` wins.
                    says |= name == "isError" && value.get() == "true";
                }
                Ok(SaysError(says))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The reason why a text is not a valid message, with its JSON-RPC error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) code: i64,
    pub(crate) why: &'static str,
}

const fn invalid(why: &'static str) -> Malformed {
    Malformed { code: INVALID_REQUEST, why }
}

/// A message: its text and the positions of its members. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Message(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    text: String,
    id: Option<Range<usize>>,
    method: Option<String>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
    /// The members of `params`.
    given: Vec<(String, Range<usize>)>,
}

/// Returns the position of a value that was borrowed from `text`.
fn place(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + value.get().len()
}

impl Message {
    /// Parses one message. If there are `params`, they must be an object, because MCP has no
    /// others.
    pub(crate) fn parse(text: String) -> Result<Self, Malformed> {
        let Members(members) = match serde_json::from_str(&text) {
            Ok(members) => members,
            Err(error) if error.is_data() && text.trim_start().starts_with('[') => {
                return Err(invalid("batches are not supported; send one message at a time"));
            }
            Err(error) if error.is_data() => {
                return Err(invalid("not an object with distinct member names"));
            }
            Err(_) => return Err(Malformed { code: PARSE_ERROR, why: "the body is not valid JSON" }),
        };
        let known = ["jsonrpc", "id", "method", "params", "result", "error"];
        if members.iter().any(|(name, _)| is_lookalike(name, &known)) {
            return Err(invalid("a member name differs from a JSON-RPC one only in case"));
        }
        let get = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        let string = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
        if get("jsonrpc").and_then(string).as_deref() != Some("2.0") {
            return Err(invalid("`jsonrpc` must be \"2.0\""));
        }
        let id = get("id");
        if id.is_some_and(|id| !is_id(id.get())) {
            return Err(invalid("`id` must be a string or an integer"));
        }
        let method = match get("method") {
            Some(method) => Some(string(method).ok_or(invalid("`method` must be a string"))?),
            None => None,
        };
        let (result, error) = (get("result"), get("error"));
        let answers = result.is_some() || error.is_some();
        if method.is_some() == answers || (result.is_some() && (error.is_some() || id.is_none())) {
            return Err(invalid("the message is not a request, a notification or a response"));
        }
        let mut given = Vec::new();
        let params = get("params");
        if let Some(params) = params {
            let Members(members) = serde_json::from_str(params.get())
                .map_err(|_| invalid("`params` must be an object with distinct member names"))?;
            given =
                members.into_iter().map(|(name, value)| (name.into_owned(), place(&text, value))).collect();
        }
        let at = |value: Option<&RawValue>| value.map(|value| place(&text, value));
        let (id, params, result, error) = (at(id), at(params), at(result), at(error));
        Ok(Self(Arc::new(Parts { id, method, params, result, error, given, text })))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn into_text(self) -> String {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.text.clone(), |parts| parts.text)
    }

    pub(crate) fn is_request(&self) -> bool {
        self.0.method.is_some() && self.0.id.is_some()
    }

    pub(crate) fn is_response(&self) -> bool {
        self.0.method.is_none()
    }

    pub(crate) fn method(&self) -> &str {
        self.0.method.as_deref().unwrap_or_default()
    }

    /// Returns the id as JSON, or `null` if there is none.
    pub(crate) fn id(&self) -> &str {
        self.0.id.clone().map_or("null", |at| &self.0.text[at])
    }

    pub(crate) fn result(&self) -> Option<&str> {
        self.0.result.clone().map(|at| &self.0.text[at])
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.0.error.clone().map(|at| &self.0.text[at])
    }

    /// Returns the code of an error response.
    pub(crate) fn error_code(&self) -> Option<i64> {
        let error = RawObject::parse(self.error()?).ok()?;
        serde_json::from_str(error.get("code")?.get()).ok()
    }

    /// Returns whether a response reports a failure: with an error, or in the manner of tools (MCP
    /// 2025-11-25, "Tools", "Error Handling").
    pub(crate) fn has_failed(&self) -> bool {
        let says_so = |result: &str| {
            // Most results do not contain `isError`, so this check saves parsing them. The name may
            // be written with escapes.
            (result.contains("\"isError\"") || result.contains("\\u00"))
                && serde_json::from_str(result).is_ok_and(|SaysError(says)| says)
        };
        self.error().is_some() || self.result().is_some_and(says_so)
    }

    /// Returns a parameter as JSON.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.0.given.iter().find(|(key, _)| key == name).map(|(_, at)| &self.0.text[at.clone()])
    }

    /// Returns a parameter that is a string.
    pub(crate) fn param_str(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.param(name)?).ok()
    }

    /// Returns the parameters as an editable object.
    pub(crate) fn params(&self) -> RawObject {
        self.0.params.clone().and_then(|at| RawObject::parse(&self.0.text[at]).ok()).unwrap_or_default()
    }

    /// Returns the names of the parameters.
    pub(crate) fn param_names(&self) -> impl Iterator<Item = &str> {
        self.0.given.iter().map(|(name, _)| name.as_str())
    }

    /// Returns `params._meta`, if it is an object.
    pub(crate) fn meta(&self) -> Option<RawObject> {
        RawObject::parse(self.param("_meta")?).ok()
    }

    /// Returns the text with another id. Every other byte stays the same.
    pub(crate) fn with_id(&self, id: &str) -> String {
        match self.0.id.clone() {
            Some(at) => self.replaced(vec![(at, id)]),
            None => self.0.text.clone(),
        }
    }

    /// Returns the text with one parameter replaced by the JSON `value`. Every other byte stays the
    /// same.
    pub(crate) fn with_param(&self, name: &str, value: &str) -> String {
        self.with(None, &[(name, value)])
    }

    /// Returns the text with another id, and with parameters replaced or prepended. Every other
    /// byte stays the same.
    pub(crate) fn with(&self, id: Option<&str>, changed: &[(&str, &str)]) -> String {
        let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
        if let (Some(at), Some(id)) = (self.0.id.clone(), id) {
            edits.push((at, id));
        }
        let mut added = String::new();
        for (name, value) in changed {
            match self.0.given.iter().find(|(key, _)| key == name) {
                Some((_, at)) => edits.push((at.clone(), value)),
                None => {
                    added.push_str(raw(*name).get());
                    added.push(':');
                    added.push_str(value);
                    added.push(',');
                }
            }
        }
        let whole;
        if !added.is_empty() {
            match self.0.params.clone() {
                Some(at) => {
                    if self.0.given.is_empty() {
                        added.pop();
                    }
                    edits.push((at.start + 1..at.start + 1, &added));
                }
                None => {
                    added.pop();
                    whole = format!("\"params\":{{{added}}},");
                    let start = self.0.text.find('{').map_or(0, |at| at + 1);
                    edits.push((start..start, &whole));
                }
            }
        }
        self.replaced(edits)
    }

    fn replaced(&self, mut edits: Vec<(Range<usize>, &str)>) -> String {
        edits.sort_by_key(|(at, _)| at.start);
        let more: usize = edits.iter().map(|(_, value)| value.len()).sum();
        let mut out = String::with_capacity(self.0.text.len() + more);
        let mut from = 0;
        for (at, value) in edits {
            out.push_str(&self.0.text[from..at.start]);
            out.push_str(value);
            from = at.end;
        }
        out.push_str(&self.0.text[from..]);
        out
    }
}

/// Builds a JSON-RPC error.
pub(crate) fn error(id: &str, code: i64, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}}}}}"#, raw(message))
}

/// Builds a JSON-RPC error with data.
pub(crate) fn error_with(id: &str, code: i64, message: &str, data: &impl Serialize) -> String {
    let (message, data) = (raw(message), raw(data));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message},"data":{data}}}}}"#)
}

/// Builds a JSON-RPC result.
pub(crate) fn result<T: Serialize + ?Sized>(id: &str, result: &T) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, raw(result))
}

/// Builds a JSON-RPC request.
pub(crate) fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{params}}}"#, raw(method))
}

/// Builds a JSON-RPC notification.
pub(crate) fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":{},"params":{params}}}"#, raw(method))
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
