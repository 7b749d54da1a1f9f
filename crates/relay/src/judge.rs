//! Strict parsing of client messages, so that no other parser reads a message differently.
//!
//! Parsers differ in the names that they accept. Go's `encoding/json` and cJSON ignore case, cJSON
//! ends a name at a NUL, and pydantic can be configured to read `resource_subscriptions` as
//! `resourceSubscriptions`. The relay judges one member. Therefore no other member may look like
//! it, neither instead of it nor beside it.

use crate::envelope::{INVALID_REQUEST, Malformed, Members, Message};
use crate::lookalike::is_lookalike;
use crate::names::{
    META_CAPABILITIES, META_CLIENT, META_LOG_LEVEL, META_SERVER, META_SUBSCRIPTION, META_VERSION,
};

/// The members of `params` that the relay reads, in any method. Each of them affects where a
/// request goes, whether it is allowed, or how it is answered.
const PARAMS: [&str; 15] = [
    "_meta",
    "arguments",
    "capabilities",
    "clientInfo",
    "cursor",
    "inputResponses",
    "level",
    "name",
    "notifications",
    "progressToken",
    "protocolVersion",
    "ref",
    "requestId",
    "requestState",
    "uri",
];
const META: [&str; 10] = [
    META_VERSION,
    META_CLIENT,
    META_CAPABILITIES,
    META_LOG_LEVEL,
    META_SUBSCRIPTION,
    META_SERVER,
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
];
const NOTIFICATIONS: [&str; 4] =
    ["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"];
const REFERENCE: [&str; 3] = ["type", "name", "uri"];

/// The members of `params` that contain further members which matter.
const NESTED: [(&str, &[&str]); 3] =
    [("_meta", &META), ("notifications", &NOTIFICATIONS), ("ref", &REFERENCE)];

/// A client's message. `names_version` is true if its `_meta` names a protocol version.
pub(crate) struct Judged {
    pub(crate) message: Message,
    pub(crate) names_version: bool,
}

/// Parses a client's message. Refuses names that two parsers could read differently.
pub(crate) fn read(text: String) -> Result<Judged, Malformed> {
    let invalid = |why| Malformed { code: INVALID_REQUEST, why };
    let message = Message::parse(text)?;
    if message.param_names().any(|name| is_lookalike(name, &PARAMS)) {
        return Err(invalid("a member name of `params` is easily confused with a known one"));
    }
    let mut names_version = false;
    for (param, known) in NESTED {
        let Some(json) = message.param(param).filter(|json| is_object(json, param)) else { continue };
        let members = Members::read(json).ok_or(invalid(
            "`_meta`, `notifications` and `ref` must be objects with distinct member names",
        ))?;
        if members.names().any(|name| is_lookalike(name, known)) {
            return Err(invalid("a member name inside `params` is easily confused with a known one"));
        }
        names_version |= param == "_meta" && members.get(META_VERSION).is_some();
    }
    Ok(Judged { message, names_version })
}

/// Returns whether a parameter must be parsed as an object. Other types are judged where the
/// parameter is used. `_meta` is the exception: any method may have one, so it must be an object,
/// or `null`, which some clients send instead of leaving it out.
fn is_object(json: &str, param: &str) -> bool {
    if param == "_meta" { json != "null" && json != "{}" } else { json.starts_with('{') }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(params: &str) -> bool {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{params}}}"#);
        match read(text) {
            Ok(_) => false,
            Err(malformed) => malformed.code == INVALID_REQUEST,
        }
    }

    /// Returns variants of a name that lenient parsers accept as the same name.
    fn disguised(name: &str) -> Vec<String> {
        let mut capital = name.to_owned();
        let first = name.find(|c: char| c.is_ascii_lowercase()).unwrap_or_default();
        capital[first..=first].make_ascii_uppercase();
        let snake: String = name
            .chars()
            .flat_map(|c| if c.is_ascii_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        let mut all =
            vec![capital, name.to_uppercase(), format!("_{name}"), format!("{name}\\u0000x"), snake];
        all.push(name.replacen('s', "ſ", 1));
        all.push(name.replacen('k', "\u{212a}", 1));
        all.push(name.replacen('i', "ı", 1));
        all.push(name.replacen('i', "İ", 1));
        all.retain(|other| other != name);
        all
    }

    #[test]
    fn every_member_that_decides_something_is_judged() {
        for name in PARAMS {
            assert!(!refused(&format!(r#"{{"{name}":{{}}}}"#)), "{name}");
            for other in disguised(name) {
                assert!(refused(&format!(r#"{{"{other}":{{}}}}"#)), "{other}");
                assert!(refused(&format!(r#"{{"{name}":{{}},"{other}":{{}}}}"#)), "{name} {other}");
            }
        }
        for (param, names) in NESTED {
            for name in names {
                assert!(!refused(&format!(r#"{{"{param}":{{"{name}":1}}}}"#)), "{param}: {name}");
                assert!(refused(&format!(r#"{{"{param}":{{"{name}":1,"{name}":1}}}}"#)), "{param}: {name}");
                for other in disguised(name) {
                    assert!(refused(&format!(r#"{{"{param}":{{"{other}":1}}}}"#)), "{param}: {other}");
                }
            }
        }
    }

    #[test]
    fn other_names_are_free() {
        for params in [
            r#"{"names":1,"Title":2,"title":3}"#,
            r#"{"_meta":null}"#,
            r#"{"_meta":{"com.example/progressToken":1,"x":1,"X":2}}"#,
            r#"{"arguments":{"Name":1,"name":2,"_Meta":3}}"#,
        ] {
            assert!(!refused(params), "{params}");
        }
        assert!(refused(r#"{"_meta":[]}"#) && refused(r#"{"_meta":"x"}"#));
    }

    #[test]
    fn a_version_is_seen_however_its_name_is_spelled() {
        for (meta, names) in [
            (r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#, true),
            (r#"{"io.modelcontextprotocol/pr\u006ftocolVersion":"2026-07-28"}"#, true),
            (r#"{"protocolVersion":"2026-07-28"}"#, false),
            ("{}", false),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"_meta":{meta}}}}}"#);
            assert_eq!(read(text).unwrap().names_version, names, "{meta}");
        }
    }
}
