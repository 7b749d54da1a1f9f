//! The record of use: each call is known by time, token, upstream, tool, outcome, duration and bytes; never by arguments or
//! results.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// One call that went through the relay, or was refused by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// When it began.
    pub at: Timestamp,
    /// The token.
    pub pat_id: Uuid,
    /// The token's owner.
    pub user_id: Uuid,
    /// The upstream; `trustrelay` for the built-in tools.
    pub upstream: String,
    /// The tool, by the upstream's own name for it; for what is not a tool the method, such as `resources/read`.
    pub tool: String,
    /// `ok`, `error` (the upstream's), `cut`, `cancelled`, `forbidden`, `upstream_down`, `upstream_slow`, `upstream_busy`,
    /// `upstream_garbage` or `upstream_refused`.
    pub outcome: &'static str,
    /// From the request to the end of its answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
}

/// Who keeps the records. Quick, and never waits.
pub trait Recorder: Send + Sync + 'static {
    /// Notes a call that has ended.
    fn record(&self, call: CallRecord);
}

/// Longest tool name that is kept, in bytes: a client can send any.
const MAX_TOOL: usize = 128;

/// Logs and counts a call, and hands it to the recorder.
pub(crate) fn note(recorder: Option<&dyn Recorder>, mut call: CallRecord) {
    if call.tool.len() > MAX_TOOL {
        let mut end = MAX_TOOL;
        while !call.tool.is_char_boundary(end) {
            end -= 1;
        }
        call.tool.truncate(end);
    }
    tracing::info!(
        upstream = call.upstream,
        tool = call.tool,
        outcome = call.outcome,
        duration_us = u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX),
        bytes_in = call.bytes_in,
        bytes_out = call.bytes_out,
        pat_id = %call.pat_id,
        "call"
    );
    let labels = [("upstream", call.upstream.clone()), ("outcome", call.outcome.to_owned())];
    metrics::counter!("trustrelay_mcp_calls_total", &labels).increment(1);
    metrics::histogram!("trustrelay_mcp_call_seconds", &labels).record(call.duration.as_secs_f64());
    metrics::counter!("trustrelay_mcp_bytes_total", "direction" => "in").increment(call.bytes_in);
    metrics::counter!("trustrelay_mcp_bytes_total", "direction" => "out").increment(call.bytes_out);
    if let Some(recorder) = recorder {
        recorder.record(call);
    }
}
