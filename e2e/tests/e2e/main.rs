//! The main job, end to end: a person makes a token, an agent uses it, revoking it ends everything.

// A test may fail.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod accessible;
mod clients;
mod inspector;
mod looks;
mod notices;
mod openapi;
mod pages;
mod people;
mod policy;
mod power;
mod resent;
mod rotation;
mod snippets;
