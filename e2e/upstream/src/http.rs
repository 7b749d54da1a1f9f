//! Streamable HTTP, on loopback.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use rmcp::{
    model::ErrorCode,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{era::Era, fixture::Fixture, reconnection::Sessions, world::World};

/// How soon a client should come back to a stream that closed: a test does not wait for seconds.
const RETRY: Duration = Duration::from_millis(100);

/// The largest body that is looked at to name the request that is refused.
const MAX_BODY: usize = 4 << 20;

/// Serves until `ended`. Says on standard output where.
pub(crate) async fn serve(listen: SocketAddr, era: Era, ended: CancellationToken) -> anyhow::Result<()> {
    if !listen.ip().is_loopback() {
        bail!("{listen} is no loopback address: this server is for tests on this machine; use 127.0.0.1:0");
    }
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    let address = listener.local_addr()?;
    say(&format!("listening on http://{address}/mcp"));
    // Without this a call takes 40 ms: the last piece of an answer waits for the acknowledgement of
    // the first.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let stopped = ended.clone();
    axum::serve(listener, router(address, era, ended))
        .with_graceful_shutdown(stopped.cancelled_owned())
        .await?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "whoever started the server reads the address there")]
fn say(line: &str) {
    println!("{line}");
}

fn router(address: SocketAddr, era: Era, ended: CancellationToken) -> Router {
    let world = Arc::new(World::new());
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.sse_retry = Some(RETRY);
    let port = address.port();
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(era != Era::Stateless)
        .with_sse_retry(Some(RETRY))
        .with_allowed_origins(["127.0.0.1", "localhost", "[::1]"].map(|host| format!("http://{host}:{port}")))
        .with_cancellation_token(ended);
    let service = StreamableHttpService::new(
        move || Ok(Fixture::new(Arc::clone(&world), era)),
        Arc::new(Sessions::new(sessions)),
        config,
    );
    Router::new().route_service("/mcp", service).layer(from_fn_with_state(era, gate))
}

/// Answers requests of an era that this server does not speak as a server that has never heard of
/// it would. The SDK knows both eras, and would answer from the other one's knowledge.
async fn gate(State(era): State<Era>, request: Request, next: Next) -> Response {
    let version = version(request.headers());
    match era {
        Era::Both => next.run(request).await,
        Era::Session => match version {
            Some(version) if !era.speaks(&version) => {
                let message = format!(
                    "Bad Request: Unsupported protocol version: {version} (supported versions: {})",
                    era.named()
                );
                refuse(StatusCode::BAD_REQUEST, &Value::Null, ErrorCode(-32000), &message, None)
            }
            _ => next.run(request).await,
        },
        Era::Stateless if request.method() != Method::POST => {
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response()
        }
        Era::Stateless => match version {
            Some(version) if era.speaks(&version) => next.run(request).await,
            version => refuse_old(era, version, request).await,
        },
    }
}

fn version(headers: &HeaderMap) -> Option<String> {
    headers.get("mcp-protocol-version").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// A server of the stateless era names what it speaks, also to `initialize`, whose client has no
/// other way to learn it.
async fn refuse_old(era: Era, version: Option<String>, request: Request) -> Response {
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let id = serde_json::from_slice::<Value>(&body).map_or(Value::Null, |message| message["id"].clone());
    let supported = era.versions();
    match version {
        Some(version) => refuse(
            StatusCode::BAD_REQUEST,
            &id,
            ErrorCode::UNSUPPORTED_PROTOCOL_VERSION,
            "Unsupported protocol version",
            Some(json!({ "supported": supported, "requested": version })),
        ),
        None => refuse(
            StatusCode::BAD_REQUEST,
            &id,
            ErrorCode::HEADER_MISMATCH,
            &format!("the header MCP-Protocol-Version is missing; this server speaks {}", era.named()),
            Some(json!({ "supported": supported })),
        ),
    }
}

fn refuse(status: StatusCode, id: &Value, code: ErrorCode, message: &str, data: Option<Value>) -> Response {
    let mut error = json!({ "code": code.0, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(Bytes::from(body))).into_response()
}
