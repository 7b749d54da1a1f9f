//! TrustRelay over HTTP: the REST API, the pages, the MCP endpoint's door, and the router of them
//! all.
//!
//! Handlers translate and never decide: decode, one call into the authority, encode.

mod api;
mod asker;
mod body;
mod client;
mod credential;
mod envelope;
mod error;
mod extract;
mod gate;
mod github;
mod json;
mod limits;
mod mcp;
mod nodes;
mod numbers;
mod oauth;
mod openapi;
mod ops;
mod pages;
mod redact;
mod refused;
mod router;
mod routes;
mod state;
mod written;

pub use client::{ProxyHeader, TrustedProxies};
pub use github::{BadGithubKeys, GithubKeys};
pub use nodes::Nodes;
pub use openapi::document as openapi;
pub use router::{ops_router, router};
pub use routes::{Door, Route, routes};
pub use state::{AppState, WebConfig};
