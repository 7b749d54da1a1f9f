//! Three nodes on one PostgreSQL, behind HAProxy with the configuration that is shipped, and a
//! client that is precise about where each of its requests goes.

pub mod balancer;
pub mod client;
#[allow(
    clippy::expect_used,
    clippy::panic,
    reason = "the stores' tests' own: a test that cannot go on fails"
)]
#[path = "../../../crates/store/tests/support/cluster.rs"]
pub mod cluster;
pub mod fleet;
