//! The relay of MCP: what a client sees of the upstreams, decided from its [`Principal`] alone.
//!
//! Streamable HTTP of the session era (2025-03-26, 2025-06-18, 2025-11-25) in front and behind. The relay
//! never sees a token. Relayed bodies stay raw JSON: fields it doesn't know and numbers too big for it
//! survive. What a token holds open is in one registry, so that cutting it is one call.
//!
//! [`Principal`]: trustrelay_token::Principal

mod aggregate;
mod body;
mod builtin;
mod call;
mod catalogue;
mod clock;
mod config;
mod envelope;
mod front;
mod registry;
mod relay;
mod reply;
mod session;
mod single;
mod sse;
mod upstream;

pub use body::{BoxError, RelayBody};
pub use catalogue::UpstreamStatus;
pub use config::{Limits, RelayConfig, RelayError, UpstreamConfig, UpstreamTransport};
pub use registry::Cut;
pub use relay::Relay;
