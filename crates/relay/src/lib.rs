//! The relay of MCP: what a client sees of the upstreams, decided from its [`Principal`] alone.
//!
//! Both eras of the protocol in front and behind: sessions (2025-03-26, 2025-06-18, 2025-11-25) and the stateless one (2026-07-28), over Streamable HTTP
//! and, behind, over the pipes of child processes. The relay translates where the two sides differ. It never sees a token. Relayed
//! bodies stay raw JSON: fields it doesn't know and numbers too big for it survive. What a token holds open is in one registry, so
//! that cutting it is one call.
//!
//! [`Principal`]: trustrelay_token::Principal

#![allow(clippy::result_large_err, reason = "an answer that refuses is an answer: made once, and sent")]

mod admitted;
mod body;
mod builtin;
mod call;
mod catalogue;
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
mod lookalike;
mod mirror;
mod names;
mod outgoing;
mod outlet;
mod record;
mod registry;
mod relay;
mod reply;
mod routes;
mod seal;
mod serve;
mod session;
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
