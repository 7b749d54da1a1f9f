//! TrustRelay over HTTP: the REST API, the pages, the MCP endpoint's door, and the router of them all.
//!
//! Handlers translate and never decide: decode, one call into the authority, encode.

mod api;
mod credential;
mod envelope;
mod error;
mod json;
mod mcp;
mod openapi;
mod ops;
mod pages;
mod pat_header;
mod router;
mod state;

pub use router::router;
pub use state::{AppState, WebConfig};
