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
use support::{Api, Place, Server};

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

/// The `traceparent` of a call, as an upstream hears it: in the headers, and in `_meta`; empty for
/// none.
type Heard = (String, String);

/// An MCP server of the session era; what it hears of each call of its tool.
async fn upstream() -> (String, Arc<Mutex<Vec<Heard>>>) {
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
                let in_meta = message["params"]["_meta"]["traceparent"].as_str().unwrap_or_default();
                keep.lock().expect("whole").push((parent.to_owned(), in_meta.to_owned()));
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

/// Where a client says what its request is part of.
#[derive(Clone, Copy)]
enum Part<'a> {
    OfNothing,
    InHeaders(&'a str),
    InMeta(&'a str),
}

/// Calls a tool in a new session; the answer.
async fn asked(api: &Api, path: &str, tool: &str, part: Part<'_>) -> String {
    let send = async |session: &str, body: Value| {
        let mut request =
            api.request(Method::POST, path).header(ACCEPT, "application/json, text/event-stream");
        if !session.is_empty() {
            request = request.header("mcp-session-id", session);
        }
        if let Part::InHeaders(parent) = part {
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
    let mut params = json!({ "name": tool, "arguments": { "q": SECRETS[0] } });
    if let Part::InMeta(parent) = part {
        params["_meta"] = json!({ "traceparent": parent });
    }
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params });
    send(&session, call).await.text().await.expect("text")
}

/// Calls an upstream's tool, which answers.
async fn call(api: &Api, path: &str, tool: &str, part: Part<'_>) {
    let answer = asked(api, path, tool, part).await;
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

/// Ends a server as its operator does, so that all its spans have been sent; them.
fn ended(server: Server, sent: &Mutex<Vec<Bytes>>) -> Vec<Span> {
    server.signal(Signal::TERM);
    let (code, _, log) = server.end();
    assert_eq!(code, Some(0), "{log:?}");
    sent.lock().expect("whole").iter().flat_map(|request| spans(request)).collect()
}

/// The request that a span is part of.
fn request_of<'a>(spans: &'a [Span], span: &Span) -> &'a Span {
    let request = spans.iter().find(|other| other.id == span.parent).expect("it is part of a request");
    assert_eq!((request.name.as_str(), &request.trace), ("mcp", &span.trace));
    request
}

fn name_of(span: &Span) -> String {
    format!("00-{}-{}-01", span.trace, span.id)
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
    // One upstream alone, where every byte of the body passes; and through all of them; and as part
    // of no trace.
    call(&api, "/mcp/up", "search", Part::InHeaders(&parent)).await;
    call(&api, "/mcp", "up__search", Part::InHeaders(&parent)).await;
    call(&api, "/mcp", "up__search", Part::OfNothing).await;
    assert_eq!(api.whoami().await.0, 200);
    let spans = ended(server, &sent);

    let calls: Vec<_> = spans.iter().filter(|span| has(span, "tool=search")).collect();
    assert_eq!(calls.len(), 3, "{spans:#?}");
    for span in &calls {
        assert_eq!(span.name, "call");
        assert!(has(span, "upstream=up") && has(span, "outcome=ok"), "{span:?}");
        let is_clients = span.trace == CLIENT_TRACE;
        assert_eq!(request_of(&spans, span).parent, if is_clients { CLIENT_SPAN } else { "" });
    }
    assert_eq!(calls.iter().filter(|span| span.trace == CLIENT_TRACE).count(), 2);
    assert!(spans.iter().any(|span| span.name == "request"), "the REST API's requests are spans too");

    let mut named: Vec<_> = calls.iter().map(|span| name_of(span)).collect();
    let heard = heard.lock().expect("whole").clone();
    let mut in_headers: Vec<_> = heard.iter().map(|(parent, _)| parent.clone()).collect();
    named.sort();
    in_headers.sort();
    assert_eq!(in_headers, named, "an upstream hears of the call's own span");
    assert_eq!(heard[0].1, "", "every byte of the body passes");
    for (parent, in_meta) in &heard[1..] {
        assert_eq!(in_meta, parent, "what the relay writes names it too");
    }

    let bytes = String::from_utf8_lossy(&sent.lock().expect("whole").concat()).into_owned();
    for secret in SECRETS.iter().copied().chain([token.token.as_str(), "tr_pat_"]) {
        assert!(!bytes.contains(secret), "a trace holds `{secret}`");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_the_body_names_goes_on_where_the_headers_name_none() {
    let (collector, sent) = collector().await;
    let (upstream, heard) = upstream().await;
    let place = Place::with_account();
    let token = place.token("mcp");
    let server = place.serve(&["--otlp-endpoint", &collector, "--upstream", &format!("up={upstream}/mcp")]);
    let api = server.api(&token.token);
    let parent = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01");
    call(&api, "/mcp/up", "search", Part::InMeta(&parent)).await;
    call(&api, "/mcp", "up__search", Part::InMeta(&parent)).await;
    call(&api, "/mcp", "up__search", Part::InMeta("of no trace")).await;
    let spans = ended(server, &sent);
    let calls: Vec<_> = spans.iter().filter(|span| has(span, "tool=search")).collect();
    let parents: Vec<_> = calls.iter().map(|span| request_of(&spans, span).parent.as_str()).collect();
    assert_eq!(parents, [CLIENT_SPAN, CLIENT_SPAN, ""], "{spans:#?}");
    assert!(calls[..2].iter().all(|span| span.trace == CLIENT_TRACE));

    let heard = heard.lock().expect("whole").clone();
    let named: Vec<_> = calls.iter().map(|span| name_of(span)).collect();
    assert_eq!(heard[0], (named[0].clone(), parent), "every byte of the body passes");
    assert_eq!(heard[1..], [1, 2].map(|at| (named[at].clone(), named[at].clone())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_hears_of_the_call_in_its_message() {
    let (collector, sent) = collector().await;
    let place = Place::with_account();
    // An MCP server of the session era that writes down what it reads.
    let script = place.write("server.sh", COMMAND);
    let lines = place.path("lines");
    let upstream = format!("up=sh {script} {}", lines.display());
    let token = place.token("mcp");
    let server = place.serve(&["--otlp-endpoint", &collector, "--upstream", &upstream]);
    let api = server.api(&token.token);
    let parent = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01");
    call(&api, "/mcp/up", "search", Part::InHeaders(&parent)).await;
    call(&api, "/mcp", "up__search", Part::InMeta(&parent)).await;
    let spans = ended(server, &sent);
    let calls: Vec<_> = spans.iter().filter(|span| has(span, "tool=search")).collect();
    assert_eq!(calls.len(), 2, "{spans:#?}");
    let read = std::fs::read_to_string(lines).expect("written");
    for span in calls {
        assert_eq!(request_of(&spans, span).parent, CLIENT_SPAN);
        let named = format!(r#""_meta":{{"traceparent":"{}"}}"#, name_of(span));
        assert!(read.lines().any(|line| line.contains(&named)), "{named} in {read}");
    }
}

const COMMAND: &str = r#"
while read -r line; do
    printf '%s\n' "$line" >> "$1"
    id=${line#*\"id\":}
    id=${id%%,*}
    case $line in
    *'"method":"initialize"'*)
        result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}' ;;
    *'"method":"tools/call"'*) result='{"content":[{"type":"text","text":"a-result-of-the-tool"}]}' ;;
    *'"method":"notifications/'*) continue ;;
    *) result='{"tools":[]}' ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_reach_no_upstream_are_spans_with_their_outcome() {
    let (collector, sent) = collector().await;
    let (upstream, heard) = upstream().await;
    let place = Place::with_account();
    let up = format!("up={upstream}/mcp");
    let args =
        ["--otlp-endpoint", &collector, "--upstream", &up, "--upstream", "down=http://127.0.0.1:9/mcp"];
    let narrow = place.token("mcp:up/other");
    let token = place.token("mcp");
    let server = place.serve(&args);
    let api = server.api(&token.token);
    let parent = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01");
    let part = Part::InHeaders(&parent);
    let long = format!("nowhere__{}", "x".repeat(200));
    for (tool, says) in [
        ("trustrelay__whoami", "days_left"),
        ("trustrelay__nothing", "no such tool"),
        (long.as_str(), "no such tool"),
        ("down__search", "`down` is down"),
    ] {
        let answer = asked(&api, "/mcp", tool, part).await;
        assert!(answer.contains(says), "{tool}: {answer}");
    }
    let refused = asked(&server.api(&narrow.token), "/mcp", "up__search", part).await;
    assert!(refused.contains("mcp:up/search"), "{refused}");
    let spans = ended(server, &sent);
    let calls: Vec<_> = spans.iter().filter(|span| span.name == "call").collect();
    for span in &calls {
        assert_eq!(request_of(&spans, span).parent, CLIENT_SPAN);
        assert_eq!(span.trace, CLIENT_TRACE);
    }
    let mut found: Vec<_> = calls.iter().map(|span| told(span)).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "down search upstream_down",
            "trustrelay nothing unknown",
            &format!("trustrelay {} unknown", &long[..128]),
            "trustrelay whoami ok",
            "up search forbidden",
        ]
    );
    assert!(heard.lock().expect("whole").is_empty());
}

/// A call's upstream, tool and outcome.
fn told(span: &Span) -> String {
    let value = |key: &str| span.attributes.iter().find_map(|known| known.strip_prefix(key)).unwrap_or("?");
    ["upstream=", "tool=", "outcome="].map(value).join(" ")
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
    call(&server.api(&token.token), "/mcp/up", "search", Part::InHeaders(&parent)).await;
    assert_eq!(*heard.lock().expect("whole"), [(parent, String::new())]);
}

#[tokio::test]
async fn a_collector_that_is_down_costs_nobody_anything() {
    let (upstream, _) = upstream().await;
    let place = Place::with_account();
    let token = place.token("mcp");
    // Nobody listens on the discard port.
    let args = ["--otlp-endpoint", "http://127.0.0.1:9", "--upstream", &format!("up={upstream}/mcp")];
    let server = place.serve(&args);
    call(&server.api(&token.token), "/mcp", "up__search", Part::OfNothing).await;
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
}
