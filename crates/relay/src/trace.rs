//! Where a trace goes on: a request under its client's, and an upstream under the call's.
//!
//! The relay knows no tracing system. The program installs one for the process, as it installs what records spans.

use std::sync::OnceLock;

use http::HeaderMap;
use tracing::Span;

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

/// The span of a call that goes to an upstream. Its tool and its outcome are said when it ends, as in the record of use. Finer than
/// what is logged by default: the log has the record itself.
pub(crate) fn call(upstream: &str) -> Span {
    tracing::debug_span!("call", upstream, tool = tracing::field::Empty, outcome = tracing::field::Empty)
}

/// Names the current span to an upstream.
pub(crate) fn name_current(headers: &mut HeaderMap) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator.name(&Span::current(), headers);
    }
}
