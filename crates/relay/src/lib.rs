//! The MCP relay. It decides from a client's [`Principal`] alone which parts of the upstreams the
//! client can see.
//!
//! The relay speaks both eras of the protocol to clients and upstreams: sessions (2024-11-05,
//! 2025-03-26, 2025-06-18, 2025-11-25) and the stateless version (2026-07-28). Clients use
//! Streamable HTTP; upstreams use it or the pipes of child processes. The relay translates where
//! the two sides differ. It never sees a token. Relayed bodies stay raw JSON, so that unknown
//! fields and numbers of any size survive. One registry holds everything that a token has open, so
//! that a single call ends all of it.
//!
//! [`Principal`]: trustrelay_token::Principal

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]
#![allow(clippy::result_large_err, reason = "an answer that refuses is an answer: made once, and sent")]

mod admitted;
mod body;
mod builtin;
mod call;
mod catalogue;
mod client;
mod clock;
mod config;
mod context;
mod decimal;
mod envelope;
mod era;
mod front;
mod headers;
mod home;
mod input;
mod judge;
mod lists;
mod live;
mod lookalike;
mod mirror;
mod names;
mod outgoing;
mod outlet;
mod parked;
mod pump;
mod record;
mod registry;
mod relay;
mod reply;
mod routes;
mod seal;
mod serve;
mod session;
mod sessions;
mod single;
mod sse;
mod subscribe;
mod trace;
mod translate;
mod upstream;
mod watch;
mod whole;

pub use admitted::Admitted;
pub use body::{BoxError, RelayBody};
pub use catalogue::{ListFailure, ListFlaw, UpstreamStatus};
pub use config::{Limits, RelayConfig, RelayError, UpstreamConfig, UpstreamTransport};
pub use front::BadOrigin;
pub use home::{Elsewhere, Here};
pub use record::{CallRecord, Recorder};
pub use registry::{AllowsFrom, Cut, Ended};
pub use relay::Relay;
pub use trace::{Propagator, continue_trace, set_propagator};
