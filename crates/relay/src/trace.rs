//! Where a trace goes on: a request under its client's, and an upstream under the call's.
//!
//! A trace is named in headers, or in a message's `_meta` (MCP 2026-07-28, "OpenTelemetry trace context"). The relay knows no tracing
//! system. The program installs one for the process, as it installs what records spans.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::envelope::{Message, RawObject, raw};
use crate::names::BUILTIN;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
/// What names a trace (W3C Trace Context, Baggage), in headers and in `_meta` alike.
pub(crate) const NAMES: [&str; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];
/// Longest value that goes from `_meta` into a header, in bytes: what W3C Baggage has everybody pass on, and more than the others have.
const MAX_VALUE: usize = 8192;

/// Carries traces over HTTP headers (W3C Trace Context).
pub trait Propagator: Send + Sync + 'static {
    /// Makes a span part of the trace that headers name, if they name one.
    fn continue_trace(&self, span: &Span, headers: &HeaderMap);
    /// Names a span in headers, in place of what they name; leaves them as they are if it is not recorded.
    fn name(&self, span: &Span, headers: &mut HeaderMap);
}

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Installs what carries traces, for the whole process. Once: whether this was the first time.
pub fn set_propagator(propagator: impl Propagator) -> bool {
    PROPAGATOR.set(Box::new(propagator)).is_ok()
}

/// Makes a span part of the trace that a client's headers name. Does nothing unless traces are carried.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator.continue_trace(span, headers);
    }
}

/// The trace that a client's headers name.
pub(crate) fn of_headers(headers: &HeaderMap) -> HeaderMap {
    let mut trace = HeaderMap::new();
    for name in NAMES {
        for value in headers.get_all(name) {
            trace.append(HeaderName::from_static(name), value.clone());
        }
    }
    trace
}

/// Adds to the trace of a client's headers what its message names, where they name nothing. The current span goes on under it.
pub(crate) fn adopt(trace: &mut HeaderMap, message: &Message) {
    let Some(meta) = message.param("_meta").filter(|meta| NAMES.iter().any(|name| meta.contains(name)))
    else {
        return;
    };
    let Ok(meta) = RawObject::parse(meta) else { return };
    let given = |name| {
        let value = meta.str(name).filter(|value| value.len() <= MAX_VALUE)?;
        Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
    };
    if !trace.contains_key(BAGGAGE) {
        trace.extend(given(BAGGAGE));
    }
    if !trace.contains_key(TRACEPARENT) {
        // The state is of its own parent alone.
        trace.remove(TRACESTATE);
        trace.extend(given(TRACEPARENT).into_iter().chain(given(TRACESTATE)));
        continue_trace(&Span::current(), trace);
    }
}

/// The message with a trace in its `_meta`, in place of what it names there; every other byte as it was. `None` where there is nothing to
/// change, or nowhere to write it.
pub(crate) fn in_meta(message: &Message, trace: &HeaderMap) -> Option<Message> {
    if trace.is_empty() {
        return None;
    }
    let mut meta = match message.param("_meta") {
        Some(meta) => RawObject::parse(meta).ok()?,
        None => RawObject::default(),
    };
    for name in NAMES {
        let values: Vec<&str> = trace.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            meta.remove(name);
        } else {
            meta.set(name, raw(&values.join(",")));
        }
    }
    Message::parse(message.with_param("_meta", meta.to_raw().get())).ok()
}

/// The span of a call. Its tool and its outcome are said when it ends, as in the record of use. Finer than what is logged by default:
/// the log has the record itself.
pub(crate) fn call(upstream: &str) -> Span {
    tracing::debug_span!("call", upstream, tool = tracing::field::Empty, outcome = tracing::field::Empty)
}

/// The span of a call that named nothing that is there: it is over at once.
pub(crate) fn unknown(message: &Message) {
    let named = message.param_str("name").or_else(|| message.param_str("uri"));
    let what = named.unwrap_or_else(|| message.method().to_owned());
    call(BUILTIN).record("tool", crate::record::shortened(&what)).record("outcome", "unknown");
}

/// Names the current span to an upstream.
pub(crate) fn name_current(headers: &mut HeaderMap) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator.name(&Span::current(), headers);
    }
}
