//! The official MCP conformance suite, run against a server directly and through TrustRelay.
//!
//! [`run_suite`] runs it and reads its result files. [`fewer_than`] tells what a relay has made
//! worse.
//!
//! The suite is an npm package; `package.json` and `package-lock.json` beside this crate pin it. It
//! is installed below `target/e2e/conformance` when it is first needed.

pub mod install;
pub mod programs;
pub mod proxy;
pub mod relay;
pub mod report;
pub mod requirements;
pub mod suite;
pub mod upstream;

pub use report::{Report, fewer_than};
pub use requirements::Revision;
pub use suite::run_suite;
