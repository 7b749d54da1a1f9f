//! The record of use: each call is known by time, token, upstream, tool, outcome, duration and bytes; never by arguments or
//! results.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
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
    /// `ok`, `error` (the upstream's, or its tool's: `isError`), `cut`, `cancelled`, `forbidden`, `upstream_down`, `upstream_slow`, `upstream_busy`,
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

/// A tool's name as it is kept.
pub(crate) fn shortened(tool: &str) -> &str {
    &tool[..tool.floor_char_boundary(MAX_TOOL)]
}

/// The numbers of one upstream's calls with one outcome: looked up once, kept.
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

/// Where every call's end is noted.
pub(crate) struct Records {
    recorder: Option<Arc<dyn Recorder>>,
    /// By upstream and outcome: both are few.
    numbers: RwLock<HashMap<String, HashMap<&'static str, Numbers>>>,
    /// Bytes in and out. Made at the first call: the program may install what counts after it made the relay.
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

    /// Logs and counts a call, and hands it to the recorder.
    pub(crate) fn note(&self, mut call: CallRecord) {
        let end = shortened(&call.tool).len();
        call.tool.truncate(end);
        // The call's span; others know no such fields.
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
