//! The record of use. It stores each call's time, token, upstream, tool, outcome, duration and byte
//! counts, but never arguments or results.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
use uuid::Uuid;

/// A call that went through the relay or was refused by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The time at which the call began.
    pub at: Timestamp,
    /// The token's id.
    pub pat_id: Uuid,
    /// The id of the token's owner.
    pub user_id: Uuid,
    /// The upstream's name; `trustrelay` for the built-in tools.
    pub upstream: String,
    /// The tool, by the upstream's own name. For other requests the method, such as
    /// `resources/read`.
    pub tool: String,
    /// The outcome: `ok`, `error` (reported by the upstream, or by its tool with `isError`), `cut`,
    /// `cancelled`, `forbidden`, `upstream_down`, `upstream_slow`, `upstream_busy`,
    /// `upstream_garbage` or `upstream_refused`.
    pub outcome: &'static str,
    /// The time from the request to the end of its answer.
    pub duration: Duration,
    /// The size of the request's body, in bytes.
    pub bytes_in: u64,
    /// The size of the answer's body, in bytes.
    pub bytes_out: u64,
}

/// The keeper of the records.
pub trait Recorder: Send + Sync + 'static {
    /// Records a call that has ended. Must be quick and must not block.
    fn record(&self, call: CallRecord);
}

/// Maximum length of a stored tool name, in bytes. A client can send names of any length.
const MAX_TOOL: usize = 128;

/// Shortens a tool's name to the length that is stored.
pub(crate) fn shortened(tool: &str) -> &str {
    &tool[..tool.floor_char_boundary(MAX_TOOL)]
}

/// The metrics of one upstream's calls with one outcome. Kept, so that each is looked up only once.
#[derive(Clone)]
struct Numbers {
    calls: Counter,
    seconds: Histogram,
}

impl Numbers {
    fn of(upstream: &str, outcome: &'static str) -> Self {
        let labels = [("upstream", upstream.to_owned()), ("outcome", outcome.to_owned())];
        Self {
            calls: metrics::counter!("trustrelay_mcp_calls_total", &labels),
            seconds: metrics::histogram!("trustrelay_mcp_call_seconds", &labels),
        }
    }
}

/// The sink for finished calls: logs, metrics and the recorder.
pub(crate) struct Records {
    recorder: Option<Arc<dyn Recorder>>,
    /// The metrics by upstream and outcome. There are few of both.
    numbers: RwLock<HashMap<String, HashMap<&'static str, Numbers>>>,
    /// The metrics of bytes in and out. Created at the first call, because the program may install
    /// the metrics recorder after it created the relay.
    bytes: OnceLock<[Counter; 2]>,
}

impl Records {
    pub(crate) fn new(recorder: Option<Arc<dyn Recorder>>) -> Self {
        Self { recorder, numbers: RwLock::default(), bytes: OnceLock::new() }
    }

    fn numbers(&self, upstream: &str, outcome: &'static str) -> Numbers {
        if let Some(numbers) = self.numbers.read().get(upstream).and_then(|of| of.get(outcome)) {
            return numbers.clone();
        }
        let made = Numbers::of(upstream, outcome);
        self.numbers.write().entry(upstream.to_owned()).or_default().entry(outcome).or_insert(made).clone()
    }

    /// Logs and counts a call, and passes it to the recorder.
    pub(crate) fn note(&self, mut call: CallRecord) {
        let end = shortened(&call.tool).len();
        call.tool.truncate(end);
        // Only a call's span has these fields; other spans ignore them.
        tracing::Span::current().record("tool", call.tool.as_str()).record("outcome", call.outcome);
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
        let numbers = self.numbers(&call.upstream, call.outcome);
        numbers.calls.increment(1);
        numbers.seconds.record(call.duration.as_secs_f64());
        let [bytes_in, bytes_out] = self.bytes.get_or_init(|| {
            ["in", "out"].map(|way| metrics::counter!("trustrelay_mcp_bytes_total", "direction" => way))
        });
        bytes_in.increment(call.bytes_in);
        bytes_out.increment(call.bytes_out);
        if let Some(recorder) = &self.recorder {
            recorder.record(call);
        }
    }
}
