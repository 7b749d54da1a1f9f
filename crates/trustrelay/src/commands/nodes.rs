//! `trustrelay nodes`.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{NodesList, Place};
use crate::open::{self, Missing};
use crate::output::say;

/// Lists the nodes, their leases, and how far each has applied the log.
pub(crate) async fn list(place: &Place, list: NodesList) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let found = opened.authority.all_nodes().await?;
    if list.json {
        let nodes: Vec<_> = found
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "node_id": node.node_id,
                    "name": node.name,
                    "node_url": node.url,
                    "applied_seq": node.applied_seq,
                    "lease_left_ms": node.lease_left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                })
            })
            .collect();
        say(serde_json::to_string_pretty(&json!({ "log_head": found.log_head, "nodes": nodes }))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("log\t{} entries", found.log_head))?;
    for node in found.nodes {
        let lease = match node.lease_left {
            Some(left) => format!("lease {} ms", left.as_millis()),
            None => "lease expired".to_owned(),
        };
        let url = node.url.as_deref().unwrap_or("-");
        say(format_args!("{}\t{}\tapplied {}\t{lease}\t{url}", node.node_id, node.name, node.applied_seq))?;
    }
    Ok(ExitCode::SUCCESS)
}
