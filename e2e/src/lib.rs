//! What the end-to-end tests stand on: the built program, a real MCP server behind it, real
//! clients, a real browser.
//!
//! Every program that is started here runs in a process group of its own, which is killed when its
//! handle is dropped. `cargo xtask tools` installs what is not built here.

pub mod agent;
pub mod api;
pub mod browser;
pub mod cdp;
pub mod everything;
pub mod process;
pub mod receivers;
pub mod schemathesis;
pub mod server;
pub mod tools;

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};

/// How long anything may take that a test waits for. It is long, so that a busy machine fails no
/// test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until the answer is there. `what` says what was waited for if it never comes.
pub async fn until<T, F, A>(what: &str, mut ask: A) -> Result<T>
where
    A: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| anyhow!("waited in vain for {what}"))
}
