//! For those who run it: `/healthz`, `/readyz`, `/metrics`.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde_json::json;
use trustrelay_authority::{AuthorityError, CLOCK_TOLERANCE};

use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Value<serde_json::Value> {
    Value { value: json!({ "status": "ok" }) }
}

/// `GET /readyz`: the store answers, tokens are verified from memory, and nobody has told this node
/// to stop.
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Value<serde_json::Value>, ApiError> {
    if state.config.stopping.is_cancelled() {
        return Err(ApiError::not_ready("this node is stopping"));
    }
    match state.authority.ready().await {
        // Such as after a newer program has brought the schema up to date: it is the node that is
        // behind, and no error of the request.
        Err(AuthorityError::Internal(cause)) => {
            tracing::warn!(cause, "not ready");
            return Err(ApiError::not_ready(
                "the database does not match this node's version; see the node's log",
            ));
        }
        other => other?,
    }
    if !state.authority.holds_lease() {
        return Err(ApiError::not_ready("this node has no lease; see the node's log"));
    }
    let mut ready = json!({ "status": "ready" });
    if let Some(ahead) = state.authority.clock_ahead()
        && ahead.unsigned_abs() > CLOCK_TOLERANCE
    {
        ready["clock_ahead_seconds"] = json!(ahead.as_secs_f64());
    }
    Ok(Value { value: ready })
}

/// `GET /metrics`: Prometheus text.
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    metrics::gauge!("trustrelay_index_entries").set(state.authority.indexed() as f64);
    metrics::gauge!("trustrelay_lease_held").set(if state.authority.holds_lease() { 1.0 } else { 0.0 });
    if let Some(ahead) = state.authority.clock_ahead() {
        metrics::gauge!("trustrelay_clock_ahead_seconds").set(ahead.as_secs_f64());
    }
    metrics::gauge!("trustrelay_node_url_shared").set(state.authority.namesakes().len() as f64);
    state.authority.publish_numbers();
    tokio::join!(count_nodes(&state), count_due_soon(&state));
    let text = state.config.metrics.as_ref().map(|metrics| metrics.render()).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// How long the numbers that the store has may hold the others up.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The nodes and the log, as the store has them; left as they were if it does not answer.
async fn count_nodes(state: &AppState) {
    let Ok(Ok(found)) = tokio::time::timeout(STORE_PATIENCE, state.authority.all_nodes()).await else {
        return;
    };
    let held = found.nodes.iter().filter(|node| node.lease_left.is_some()).count();
    metrics::gauge!("trustrelay_log_head").set(found.log_head as f64);
    metrics::gauge!("trustrelay_nodes", "lease" => "held").set(held as f64);
    metrics::gauge!("trustrelay_nodes", "lease" => "expired").set((found.nodes.len() - held) as f64);
}

/// The tokens by the days that they have left, of all accounts; left as they were if it is not time
/// yet or the store does not answer.
async fn count_due_soon(state: &AppState) {
    if !state.numbers.may_count_due_soon(state.authority.clock().since_boot()) {
        return;
    }
    let Ok(Ok(counts)) = tokio::time::timeout(STORE_PATIENCE, state.authority.count_due_soon()).await else {
        return;
    };
    for (days, tokens) in counts {
        metrics::gauge!("trustrelay_tokens_expiring", "within_days" => days.to_string()).set(tokens as f64);
    }
}
