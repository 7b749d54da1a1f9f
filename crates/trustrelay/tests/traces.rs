//! Stories of traces: what a collector is sent, and what an upstream hears of them.

#![cfg(feature = "otlp")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use reqwest::Method;
use reqwest::header::ACCEPT;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Api, Place};

const CLIENT_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";
/// What no span may hold: an agent's argument, a result, an upstream's credential.
const SECRETS: [&str; 3] = ["an-argument-of-the-agent", "a-result-of-the-tool", "the-upstream-s-credential"];

/// Serves on a port of its own until the test ends; the address.
async fn serves(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A collector; what it was sent.
async fn collector() -> (String, Arc<Mutex<Vec<Bytes>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let keep = sent.clone();
    let traces = post(move |body: Bytes| async move { keep.lock().expect("whole").push(body) });
    (serves(Router::new().route("/v1/traces", traces)).await, sent)
}

/// An MCP server of the session era; the `traceparent` of each call of its tool.
async fn upstream() -> (String, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    let mcp = post(move |headers: HeaderMap, body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).expect("JSON");
        let result = match message["method"].as_str().expect("a method") {
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "up", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [{ "name": "search", "inputSchema": { "type": "object" } }] }),
            "tools/call" => {
                let parent = headers.get("traceparent").map_or("", |value| value.to_str().expect("text"));
                keep.lock().expect("whole").push(parent.to_owned());
                json!({ "content": [{ "type": "text", "text": SECRETS[1] }] })
            }
            _ if message["id"].is_null() => return StatusCode::ACCEPTED.into_response(),
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                return answered(&json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }));
            }
        };
        answered(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
    });
    (serves(Router::new().route("/mcp", mcp)).await, heard)
}

fn answered(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

/// Calls the upstream's tool in a new session, as part of a trace or not.
async fn call(api: &Api, path: &str, tool: &str, traceparent: Option<&str>) {
    let send = async |session: &str, body: Value| {
        let mut request =
            api.request(Method::POST, path).header(ACCEPT, "application/json, text/event-stream");
        if !session.is_empty() {
            request = request.header("mcp-session-id", session);
        }
        if let Some(parent) = traceparent {
            request = request.header("traceparent", parent);
        }
        request.json(&body).send().await.expect("answers")
    };
    let client = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let opened = send("", hello).await;
    let session =
        opened.headers().get("mcp-session-id").map_or("", |id| id.to_str().expect("text")).to_owned();
    send(&session, json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    let params = json!({ "name": tool, "arguments": { "q": SECRETS[0] } });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
    let answer = send(&session, call).await.text().await.expect("text");
    assert!(answer.contains(SECRETS[1]), "{answer}");
}

/// A message of protobuf: its fields by number, those of a length alone (protobuf.dev, "Encoding").
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("goes on");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).expect("small"),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        if tag & 7 == 2 {
            found.push((tag >> 3, field));
        }
    }
    found
}

fn all(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter(move |(of, _)| *of == number).map(|(_, field)| field)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    /// Those that are text, as `key=value`.
    attributes: Vec<String>,
}

/// The spans of an `ExportTraceServiceRequest` (opentelemetry-proto, `trace.proto`).
fn spans(request: &[u8]) -> Vec<Span> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    for scope in all(request, 1).flat_map(|resource| all(resource, 2)) {
        for span in all(scope, 2) {
            let one = |number| all(span, number).next().unwrap_or_default();
            let attributes = all(span, 9).map(|attribute| {
                let key = all(attribute, 1).next().unwrap_or_default();
                let value = all(attribute, 2).flat_map(|value| all(value, 1)).next().unwrap_or_default();
                format!("{}={}", text(key), text(value))
            });
            found.push(Span {
                trace: hex(one(1)),
                id: hex(one(2)),
                parent: hex(one(4)),
                name: text(one(5)),
                attributes: attributes.collect(),
            });
        }
    }
    found
}

// The collector answers while the test waits for the server's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_a_span_of_its_client_s_trace_and_its_upstream_hears_of_it() {
    let (collector, sent) = collector().await;
    let (upstream, heard) = upstream().await;
    let place = Place::with_account();
    let config = format!(
        "otlp-endpoint = \"{collector}\"\n[upstreams.up]\nurl = \"{upstream}/mcp\"\nheaders = {{ x-key = \"{}\" }}\n",
        SECRETS[2]
    );
    let config = place.write("trustrelay.toml", &config);
    let token = place.token("mcp api");
    let server = place.serve(&["--config", &config]);
    let api = server.api(&token.token);
    let parent = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01");
    // One upstream alone, where every byte of the body passes; and through all of them; and as part of no trace.
    call(&api, "/mcp/up", "search", Some(&parent)).await;
    call(&api, "/mcp", "up__search", Some(&parent)).await;
    call(&api, "/mcp", "up__search", None).await;
    assert_eq!(api.whoami().await.0, 200);
    server.signal(Signal::TERM);
    let (code, _, log) = server.end();
    assert_eq!(code, Some(0), "{log:?}");

    let sent = sent.lock().expect("whole").clone();
    let spans: Vec<_> = sent.iter().flat_map(|request| spans(request)).collect();
    let calls: Vec<_> = spans.iter().filter(|span| has(span, "tool=search")).collect();
    assert_eq!(calls.len(), 3, "{spans:#?}");
    for span in &calls {
        assert_eq!(span.name, "call");
        assert!(has(span, "upstream=up") && has(span, "outcome=ok"), "{span:?}");
        let request = spans.iter().find(|other| other.id == span.parent).expect("it is part of a request");
        assert_eq!((request.name.as_str(), &request.trace), ("mcp", &span.trace));
        let is_clients = span.trace == CLIENT_TRACE;
        assert_eq!(request.parent, if is_clients { CLIENT_SPAN } else { "" });
    }
    assert_eq!(calls.iter().filter(|span| span.trace == CLIENT_TRACE).count(), 2);
    assert!(spans.iter().any(|span| span.name == "request"), "the REST API's requests are spans too");

    let mut named: Vec<_> = calls.iter().map(|span| format!("00-{}-{}-01", span.trace, span.id)).collect();
    let mut heard = heard.lock().expect("whole").clone();
    named.sort();
    heard.sort();
    assert_eq!(heard, named, "an upstream hears of the call's own span");

    let bytes = String::from_utf8_lossy(&sent.concat()).into_owned();
    for secret in SECRETS.iter().copied().chain([token.token.as_str(), "tr_pat_"]) {
        assert!(!bytes.contains(secret), "a trace holds `{secret}`");
    }
}

fn has(span: &Span, attribute: &str) -> bool {
    span.attributes.iter().any(|known| known == attribute)
}

#[tokio::test]
async fn without_a_collector_a_client_s_trace_passes_as_it_came() {
    let (upstream, heard) = upstream().await;
    let place = Place::with_account();
    let token = place.token("mcp");
    let server = place.serve(&["--upstream", &format!("up={upstream}/mcp")]);
    let parent = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01");
    call(&server.api(&token.token), "/mcp/up", "search", Some(&parent)).await;
    assert_eq!(*heard.lock().expect("whole"), [parent]);
}

#[tokio::test]
async fn a_collector_that_is_down_costs_nobody_anything() {
    let (upstream, _) = upstream().await;
    let place = Place::with_account();
    let token = place.token("mcp");
    // Nobody listens on the discard port.
    let args = ["--otlp-endpoint", "http://127.0.0.1:9", "--upstream", &format!("up={upstream}/mcp")];
    let server = place.serve(&args);
    call(&server.api(&token.token), "/mcp", "up__search", None).await;
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
}
