//! Translation between the eras of MCP. `docs/MCP.md` lists the correspondences.

use http::StatusCode;
use serde_json::value::RawValue;

use crate::envelope::{
    self, HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, Message, RESOURCE_NOT_FOUND, RawObject,
    UNSUPPORTED_VERSION, raw,
};
use crate::era::{
    self, META_CAPABILITIES, META_CLIENT, META_LOG_LEVEL, META_SERVER, META_SUBSCRIPTION, META_VERSION,
};

/// The time for which a stateless client may cache a list, in milliseconds. The relay's own list is
/// no fresher.
pub(crate) const LIST_TTL_MS: u64 = 15_000;

/// Returns whether complete results of a method carry caching hints (MCP 2026-07-28, "Caching").
fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// Adds the members that the stateless era requires to a result, unless they are present.
pub(crate) fn complete(method: &str, result: &mut RawObject, server: Option<&RawValue>) {
    result.default_to("resultType", || raw("complete"));
    if is_cacheable(method) {
        let ttl = if method == "resources/read" { 0 } else { LIST_TTL_MS };
        result.default_to("ttlMs", || raw(&ttl));
        result.default_to("cacheScope", || raw("private"));
    }
    if let Some(server) = server {
        let mut meta = result.object("_meta").unwrap_or_default();
        meta.default_to(META_SERVER, || server.to_owned());
        result.set("_meta", meta.to_raw());
    }
}

/// Translates a session upstream's response for a stateless client. Returns it with its HTTP
/// status.
pub(crate) fn response_to_stateless(
    message: &Message,
    id: &str,
    method: &str,
    server: Option<&RawValue>,
) -> Option<(StatusCode, String)> {
    if let Some(result) = message.result() {
        let mut result = RawObject::parse(result).ok()?;
        complete(method, &mut result, server);
        return Some((StatusCode::OK, envelope::result(id, &result)));
    }
    let mut error = RawObject::parse(message.error()?).ok()?;
    let mut code: i64 = serde_json::from_str(error.get("code")?.get()).ok()?;
    if code == RESOURCE_NOT_FOUND {
        code = INVALID_PARAMS;
        error.set("code", raw(&code));
    }
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, error.to_raw());
    Some((stateless_status(code), body))
}

/// Returns the HTTP status of an error in the stateless era.
pub(crate) fn stateless_status(code: i64) -> StatusCode {
    match code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        UNSUPPORTED_VERSION..=HEADER_MISMATCH => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// Translates a stateless client's request for a session upstream: without the era's `_meta`, and
/// with an id and a progress token that are unique on the session.
pub(crate) fn request_to_session(message: &Message, id: u64) -> String {
    let id = id.to_string();
    let Some(mut meta) = message.meta() else { return message.with_id(&id) };
    for key in [META_VERSION, META_CLIENT, META_CAPABILITIES, META_LOG_LEVEL] {
        meta.remove(key);
    }
    if meta.get("progressToken").is_some() {
        meta.set("progressToken", raw(&id));
    }
    message.with(Some(&id), &[("_meta", meta.to_raw().get())])
}

/// Translates a session client's request for a stateless upstream.
pub(crate) fn request_to_stateless(message: &Message, init: &RawObject, log_level: Option<&str>) -> String {
    let capabilities = init.get("capabilities").map_or("{}", RawValue::get);
    let meta = message.meta().unwrap_or_default();
    let meta = era::meta_of(init.get("clientInfo"), capabilities, log_level, meta);
    message.with_param("_meta", &meta)
}

/// The input that a stateless upstream asks its client for before it continues (MCP 2026-07-28,
/// "Multi Round-Trip Requests").
pub(crate) struct InputRequired {
    /// Key, method and parameters.
    pub(crate) requests: Vec<(String, String, Box<RawValue>)>,
    pub(crate) state: Option<Box<RawValue>>,
}

/// Parses an interim result. Returns `None` for any other result.
pub(crate) fn input_required(message: &Message) -> Option<InputRequired> {
    let result = RawObject::parse(message.result()?).ok()?;
    if result.str("resultType")? != "input_required" {
        return None;
    }
    let asked = result.object("inputRequests").unwrap_or_default();
    let mut requests = Vec::new();
    for (key, request) in asked.iter() {
        let request = RawObject::parse(request.get()).ok()?;
        let params = request.get("params").map_or_else(|| raw(&serde_json::json!({})), ToOwned::to_owned);
        requests.push((key.to_owned(), request.str("method")?, params));
    }
    let state = result.get("requestState").map(ToOwned::to_owned);
    Some(InputRequired { requests, state })
}

/// Builds the interim result that carries a session upstream's request to a stateless client.
pub(crate) fn input_required_result(
    id: &str,
    key: &str,
    request: &Message,
    state: &str,
    server: Option<&RawValue>,
) -> String {
    let mut asked = RawObject::default();
    asked.set("method", raw(request.method()));
    if !request.params().is_empty() {
        asked.set("params", request.params().to_raw());
    }
    let mut requests = RawObject::default();
    requests.set(key, asked.to_raw());
    let mut result = RawObject::default();
    result.set("resultType", raw("input_required"));
    result.set("inputRequests", requests.to_raw());
    result.set("requestState", raw(state));
    if let Some(server) = server {
        let mut meta = RawObject::default();
        meta.set(META_SERVER, server.to_owned());
        result.set("_meta", meta.to_raw());
    }
    envelope::result(id, &result)
}

/// Builds a notification of a subscription, with the subscription's id.
pub(crate) fn subscribed(method: &str, params: RawObject, id: &str) -> String {
    let mut params = params;
    let mut meta = params.object("_meta").unwrap_or_default();
    let id = RawValue::from_string(id.to_owned()).unwrap_or_else(|_| raw(&()));
    meta.set(META_SUBSCRIPTION, id);
    params.set("_meta", meta.to_raw());
    envelope::notification(method, params.to_raw().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn a_result_gets_what_it_lacks_and_keeps_what_it_has() {
        let given = message(r#"{"jsonrpc":"2.0","id":9,"result":{"ttlMs":5,"tools":[1.0]}}"#);
        let server = raw(&serde_json::json!({"name": "s"}));
        let (status, text) = response_to_stateless(&given, "\"a\"", "tools/list", Some(&server)).unwrap();
        assert_eq!(status, 200);
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":"a","result":{"ttlMs":5,"tools":[1.0],"resultType":"complete","cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}}"#
        );
        let call = message(r#"{"jsonrpc":"2.0","id":9,"result":{"content":[]}}"#);
        let (_, text) = response_to_stateless(&call, "1", "tools/call", None).unwrap();
        assert!(!text.contains("ttlMs") && text.contains(r#""resultType":"complete""#));
    }

    #[test]
    fn errors_get_the_code_and_the_status_of_the_era() {
        for (given, code, status) in
            [(-32002, -32602, 200), (-32601, -32601, 404), (-32021, -32021, 400), (5, 5, 200)]
        {
            let error = message(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{given},"message":"m","data":{{"uri":"x"}}}}}}"#
            ));
            let (found, text) = response_to_stateless(&error, "1", "resources/read", None).unwrap();
            assert_eq!(found.as_u16(), status);
            assert!(
                text.contains(&format!("\"code\":{code},")) && text.contains(r#""data":{"uri":"x"}"#),
                "{text}"
            );
        }
    }

    #[test]
    fn a_stateless_request_loses_its_meta_and_back_again() {
        let given = message(
            r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"p","mine":1}}}"#,
        );
        assert_eq!(
            request_to_session(&given, 4),
            r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"4","mine":1}}}"#
        );
        let init = RawObject::parse(r#"{"capabilities":{"roots":{}},"clientInfo":{"name":"c"}}"#).unwrap();
        let plain = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        let made = message(&request_to_stateless(&plain, &init, Some("info")));
        let meta = made.meta().unwrap();
        assert_eq!(meta.str(META_LOG_LEVEL).unwrap(), "info");
        assert_eq!(meta.get(META_CAPABILITIES).unwrap().get(), r#"{"roots":{}}"#);
    }

    #[test]
    fn what_a_server_asks_is_read_and_made() {
        let interim = message(
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}},"requestState":"s"}}"#,
        );
        let asked = input_required(&interim).unwrap();
        assert_eq!((asked.requests[0].0.as_str(), asked.requests[0].1.as_str()), ("k", "roots/list"));
        assert!(
            input_required(&message(r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete"}}"#))
                .is_none()
        );
        let request =
            message(r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"?"}}"#);
        assert_eq!(
            input_required_result("1", "k", &request, "sealed", None),
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"?"}}},"requestState":"sealed"}}"#
        );
    }
}
