//! Trace propagation: a request continues its client's trace, and an upstream continues the call's.
//!
//! The trace context travels in headers, or in a message's `_meta` (MCP 2026-07-28, "OpenTelemetry
//! trace context"). The relay depends on no tracing system. The program installs one for the
//! process, as it installs the subscriber that records spans.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::envelope::{Message, RawObject, raw};
use crate::names::BUILTIN;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
/// The fields of a trace context (W3C Trace Context, Baggage), in headers and in `_meta`.
pub(crate) const NAMES: [&str; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];
/// Maximum length of a value that is copied from `_meta` into a header, in bytes. W3C Baggage
/// requires this much to be forwarded; the other fields are shorter.
const MAX_VALUE: usize = 8192;

/// Propagates traces over HTTP headers (W3C Trace Context).
pub trait Propagator: Send + Sync + 'static {
    /// Attaches a span to the trace that the headers name, if they name one.
    fn continue_trace(&self, span: &Span, headers: &HeaderMap);
    /// Writes a span's context to the headers, replacing theirs. Leaves them unchanged if the span
    /// is not recorded.
    fn name(&self, span: &Span, headers: &mut HeaderMap);
}

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Installs the propagator for the whole process. Returns true on the first call; later calls have
/// no effect.
pub fn set_propagator(propagator: impl Propagator) -> bool {
    PROPAGATOR.set(Box::new(propagator)).is_ok()
}

/// Attaches a span to the trace that a client's headers name. Does nothing without a propagator.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator.continue_trace(span, headers);
    }
}

/// Returns the trace context in a client's headers.
pub(crate) fn of_headers(headers: &HeaderMap) -> HeaderMap {
    let mut trace = HeaderMap::new();
    for name in NAMES {
        for value in headers.get_all(name) {
            trace.append(HeaderName::from_static(name), value.clone());
        }
    }
    trace
}

/// Adds the trace context of a message to that of the client's headers, where the headers have
/// none. The current span continues the result.
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
        // The trace state belongs to its own parent only.
        trace.remove(TRACESTATE);
        trace.extend(given(TRACEPARENT).into_iter().chain(given(TRACESTATE)));
        continue_trace(&Span::current(), trace);
    }
}

/// Returns the message with a trace context in its `_meta`, replacing its own. Every other byte
/// stays the same. Returns `None` if there is nothing to change or no place to write it.
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

/// Creates the span of a call. The tool and the outcome are recorded at its end, as in the record
/// of use. Its level is below the default log level, because the log already contains the record.
pub(crate) fn call(upstream: &str) -> Span {
    tracing::debug_span!("call", upstream, tool = tracing::field::Empty, outcome = tracing::field::Empty)
}

/// Records a call to something that does not exist, with a span that ends at once.
pub(crate) fn unknown(message: &Message) {
    let named = message.param_str("name").or_else(|| message.param_str("uri"));
    let what = named.unwrap_or_else(|| message.method().to_owned());
    call(BUILTIN).record("tool", crate::record::shortened(&what)).record("outcome", "unknown");
}

/// Writes the current span's context to the headers for an upstream.
pub(crate) fn name_current(headers: &mut HeaderMap) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator.name(&Span::current(), headers);
    }
}
