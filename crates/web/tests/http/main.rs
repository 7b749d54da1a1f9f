//! TrustRelay over HTTP, as stories: the real router over the real store. The folders mirror the
//! URLs.
//!
//! What is true of every answer is checked on every answer (`support::Answer::check`): its shape,
//! its headers, that it repeats no secret, and that the OpenAPI document describes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod anything;
mod api;
mod authorization;
mod envelope;
mod life;
mod limits;
mod logs;
mod mcp;
mod ops;
mod pages;
mod proxies;
mod support;
