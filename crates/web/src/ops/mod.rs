//! For those who run it: `/healthz`, `/readyz`, `/metrics`.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde_json::json;
use trustrelay_authority::AuthorityError;

use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Value<serde_json::Value> {
    Value { value: json!({ "status": "ok" }) }
}

/// `GET /readyz`: the store answers, tokens are verified from memory, and nobody has told this node to stop.
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Value<serde_json::Value>, ApiError> {
    if state.config.stopping.is_cancelled() {
        return Err(ApiError::not_ready("this node is stopping"));
    }
    match state.authority.ready().await {
        // Such as after a newer program has brought the schema up to date: it is the node that is behind, and no error of the request.
        Err(AuthorityError::Internal(cause)) => {
            tracing::warn!(cause, "not ready");
            return Err(ApiError::not_ready("the store is not as this node knows it; see its log"));
        }
        other => other?,
    }
    if !state.authority.holds_lease() {
        return Err(ApiError::not_ready("this node holds no lease yet, or has lost it; see its log"));
    }
    Ok(Value { value: json!({ "status": "ready" }) })
}

/// `GET /metrics`: Prometheus text.
pub(crate) async fn metrics(State(state): State<AppState>) -> Response {
    metrics::gauge!("trustrelay_index_entries").set(state.authority.indexed() as f64);
    metrics::gauge!("trustrelay_lease_held").set(if state.authority.holds_lease() { 1.0 } else { 0.0 });
    state.authority.publish_numbers();
    count_nodes(&state).await;
    let text = state.config.metrics.as_ref().map(|metrics| metrics.render()).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// How long the numbers of the nodes may hold the others up.
const NODES_PATIENCE: Duration = Duration::from_secs(1);

/// The nodes and the log, as the store has them; left as they were if it does not answer.
async fn count_nodes(state: &AppState) {
    let Ok(Ok(found)) = tokio::time::timeout(NODES_PATIENCE, state.authority.all_nodes()).await else {
        return;
    };
    let held = found.nodes.iter().filter(|node| node.lease_left.is_some()).count();
    metrics::gauge!("trustrelay_log_head").set(found.log_head as f64);
    metrics::gauge!("trustrelay_nodes", "lease" => "held").set(held as f64);
    metrics::gauge!("trustrelay_nodes", "lease" => "expired").set((found.nodes.len() - held) as f64);
}
