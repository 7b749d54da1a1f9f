//! An MCP server of both eras that does as little as one can: what a relay adds shows all the
//! better.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::mcp::{SESSION, STATELESS};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// As much of a message as is looked at.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: &'a str,
}

/// Serves on a free port of loopback until it is ended.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes away ends its connection.
        tokio::spawn(async move {
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await);
        });
    }
}

#[allow(clippy::print_stdout, reason = "whoever started the server reads the address there")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    if request.method() == Method::GET {
        return Ok(open_stream(None));
    }
    if request.method() != Method::POST {
        return Ok(empty(StatusCode::OK));
    }
    let body = request.into_body().collect().await?.to_bytes();
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    let Some(id) = message.id else { return Ok(empty(StatusCode::ACCEPTED)) };
    let result = match message.method {
        "tools/call" => RESULT.to_owned(),
        "tools/list" => TOOLS.to_owned(),
        "initialize" => format!(
            r#"{{"protocolVersion":"{SESSION}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"fast","version":"1"}}}}"#
        ),
        "server/discover" => format!(
            r#"{{"resultType":"complete","supportedVersions":["{STATELESS}","{SESSION}"],"capabilities":{{"tools":{{}}}}}}"#
        ),
        "subscriptions/listen" => return Ok(open_stream(Some(acknowledged(id)))),
        _ => {
            let error = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no such method"}}}}"#
            );
            return Ok(json(error));
        }
    };
    let mut answer = json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    if message.method == "initialize" {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let session = HeaderValue::from(SESSIONS.fetch_add(1, Ordering::Relaxed));
        answer.headers_mut().insert("mcp-session-id", session);
    }
    Ok(answer)
}

/// What the tool says, in a form that whatever stands between leaves alone.
pub(crate) const SAID: &[u8] = b"The quick brown fox jumps over the lazy dog.";
/// The fixed, small answer; in the session era `resultType` is a field like any other.
const RESULT: &str = r#"{"content":[{"type":"text","text":"The quick brown fox jumps over the lazy dog."}],"isError":false,"resultType":"complete"}"#;
const TOOLS: &str = r#"{"tools":[{"name":"echo","description":"Answers.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}],"resultType":"complete","ttlMs":60000,"cacheScope":"private"}"#;

fn acknowledged(id: &RawValue) -> Bytes {
    let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    let params = format!(r#"{{"notifications":{{"toolsListChanged":true}},"_meta":{meta}}}"#);
    let message = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{params}}}"#
    );
    format!("event: message\ndata: {message}\n\n").into()
}

fn json(body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A stream that says at most one thing, and stays open until its client goes.
fn open_stream(first: Option<Bytes>) -> Response<Body> {
    let first = first.unwrap_or(Bytes::from_static(b": open\n\n"));
    let said = stream::iter([Ok(Frame::data(first))]);
    let body = StreamBody::new(futures_util::StreamExt::chain(said, stream::pending()));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
