//! No request makes the MCP endpoint panic, and its answer is one JSON object or none.
#![no_main]

use std::sync::{Arc, LazyLock};

use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use trustrelay_relay::{Relay, RelayConfig};
use trustrelay_token::{Account, Pat, Principal};
use uuid::Uuid;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// A relay without upstreams, and who asks it.
static RELAY: LazyLock<(Relay, Arc<Principal>)> = LazyLock::new(|| {
    let account =
        Account { user_id: Uuid::from_u128(2), email: "fuzz@example.com".into(), ..Account::default() };
    let pat = Pat::new(Uuid::from_u128(1), "fuzz", "...fuzz");
    let scopes = Arc::new("mcp".parse().expect("a scope"));
    let principal = Principal::with_pat(Arc::new(account), pat, scopes, jiff::Timestamp::MAX);
    (Relay::new(RelayConfig::default()).expect("a relay"), Arc::new(principal))
});

// Up to the first line break, what the three headers of the stateless era say; then the body.
fuzz_target!(|bytes: &[u8]| {
    let (head, body) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let mut request = http::Request::post("/mcp")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    let names = ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id"];
    for (name, value) in names.into_iter().zip(head.trim_ascii_end().split(|byte| *byte == b'\t')) {
        if let Ok(value) = http::HeaderValue::from_bytes(value) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Full::from(body.to_vec())).expect("a request");
    let (relay, principal) = &*RELAY;
    RUNTIME.block_on(async {
        let answer = relay.handle(Arc::clone(principal), None, request).await;
        if answer.headers().get("content-type").is_some_and(|kind| kind == "application/json") {
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
        }
    });
});
