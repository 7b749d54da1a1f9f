//! `GET /api/admin/nodes`: who is there, and how far each is. For administrators.

use axum::extract::State;
use serde::Serialize;
use trustrelay_authority::NodeRecord;
use uuid::Uuid;

use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::{Queried, Whole};
use crate::json::Value;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Nodes {
    log_head: u64,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    node_id: Uuid,
    name: String,
    /// Where the other nodes reach it, if it was told. No two should have the same.
    node_url: Option<String>,
    /// Whether this one answers.
    is_this: bool,
    applied_seq: u64,
    /// `null` if it has run out.
    lease_left_ms: Option<u64>,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    _: Queried<Whole>,
) -> Result<Value<Nodes>, ApiError> {
    let own = state.authority.node_id();
    let found = state.authority.nodes(&by).await?;
    let node = |record: NodeRecord| Node {
        is_this: record.node_id == own,
        node_id: record.node_id,
        name: record.name,
        node_url: record.url,
        applied_seq: record.applied_seq,
        lease_left_ms: record.lease_left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    };
    let nodes = found.nodes.into_iter().map(node).collect();
    Ok(Value { value: Nodes { log_head: found.log_head, nodes } })
}
