//! JSON-RPC, as raw JSON: only what decides is read, the rest passes as it came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const RESOURCE_NOT_FOUND: i64 = -32002;
/// An upstream is down, slow or talks nonsense.
pub(crate) const UPSTREAM: i64 = -32000;
/// The token's scopes don't reach.
pub(crate) const FORBIDDEN: i64 = -32003;
/// The token was revoked or has expired while the call ran.
pub(crate) const ENDED: i64 = -32001;

/// A JSON object whose members keep their order and their bytes.
///
/// Repeated names are refused: of `{"name":1,"name":2}` the relay would judge one and the upstream might
/// obey the other.
#[derive(Debug, Default)]
pub(crate) struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    pub(crate) fn str(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Replaces a member in its place, or adds it at the end.
    pub(crate) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn to_raw(&self) -> Box<RawValue> {
        raw(self)
    }

    /// A name that a lenient reader (Go's, for one) would take for `names`, though it isn't.
    fn has_lookalike(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(key, _)| {
            let folded = key.to_lowercase().replace('ſ', "s");
            names.iter().any(|name| folded == *name && key != name)
        })
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom("a member name is repeated"));
                    }
                    members.push((key, map.next_value()?));
                }
                Ok(RawObject(members))
            }
        }
        deserializer.deserialize_map(Members)
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

/// What we made ourselves always serializes; `null` stands in for what can't happen.
pub(crate) fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    /// All of it, as it came.
    pub(crate) whole: String,
    pub(crate) id: Option<Box<RawValue>>,
    pub(crate) method: Option<String>,
    pub(crate) params: Option<RawObject>,
}

impl Message {
    /// Reads one message. The error is for a person.
    pub(crate) fn parse(json: &str) -> Result<Self, &'static str> {
        let object = RawObject::parse(json).map_err(|_| "not an object with distinct member names")?;
        if object.has_lookalike(&["jsonrpc", "id", "method", "params", "result", "error"]) {
            return Err("a member name differs from a JSON-RPC one only in case");
        }
        if object.str("jsonrpc").as_deref() != Some("2.0") {
            return Err("`jsonrpc` must be \"2.0\"");
        }
        let id = object.get("id").map(ToOwned::to_owned);
        if let Some(id) = &id
            && !id.get().starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit())
        {
            return Err("`id` must be a string or a number");
        }
        let method = match object.get("method") {
            Some(_) => Some(object.str("method").ok_or("`method` must be a string")?),
            None => None,
        };
        let answers = object.get("result").is_some() || object.get("error").is_some();
        if method.is_some() == answers || (answers && id.is_none()) {
            return Err("neither a request, a notification nor a response");
        }
        let params = match object.get("params") {
            Some(params) => Some(
                RawObject::parse(params.get())
                    .map_err(|_| "`params` must be an object with distinct member names")?,
            ),
            None => None,
        };
        if let Some(params) = &params
            && params.has_lookalike(&["name", "uri"])
        {
            return Err("a member name of `params` differs from a known one only in case");
        }
        Ok(Self { whole: json.to_owned(), id, method, params })
    }

    pub(crate) fn is_request(&self) -> bool {
        self.method.is_some() && self.id.is_some()
    }

    /// The id's JSON; `null` for none.
    pub(crate) fn id_json(&self) -> &str {
        self.id.as_ref().map_or("null", |id| id.get())
    }

    pub(crate) fn param(&self, name: &str) -> Option<String> {
        self.params.as_ref()?.str(name)
    }

    /// The same message with one parameter replaced; all else raw.
    pub(crate) fn with_param(&self, name: &str, value: &str) -> String {
        self.with_raw_param(name, raw(value))
    }

    pub(crate) fn with_raw_param(&self, name: &str, value: Box<RawValue>) -> String {
        let mut whole = RawObject::parse(&self.whole).unwrap_or_default();
        let mut params = whole.get("params").and_then(|p| RawObject::parse(p.get()).ok()).unwrap_or_default();
        params.set(name, value);
        whole.set("params", params.to_raw());
        whole.to_raw().get().to_owned()
    }

    /// The same message with its id replaced.
    pub(crate) fn with_id(&self, id: Box<RawValue>) -> String {
        let mut whole = RawObject::parse(&self.whole).unwrap_or_default();
        whole.set("id", id);
        whole.to_raw().get().to_owned()
    }
}

/// A JSON-RPC error.
pub(crate) fn error(id: &str, code: i64, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}}}}}"#, raw(message))
}

/// A JSON-RPC result.
pub(crate) fn result<T: Serialize + ?Sized>(id: &str, result: &T) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, raw(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_call_keeps_every_other_byte_of_its_params() {
        let m = Message::parse(
            r#"{"jsonrpc":"2.0","id":1e2,"method":"tools/call","x":[ 1 ],"params":{"a":123456789012345678901234567890,"name":"up__t","z":{"k":1.0}}}"#,
        )
        .unwrap();
        assert_eq!(
            m.with_param("name", "t"),
            r#"{"jsonrpc":"2.0","id":1e2,"method":"tools/call","x":[ 1 ],"params":{"a":123456789012345678901234567890,"name":"t","z":{"k":1.0}}}"#
        );
    }

    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        for bad in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            "[]",
            "1",
        ] {
            assert!(Message::parse(bad).is_err(), "{bad}");
        }
    }
}
