//! The suite, asking the upstream through the relay: it has to find what it finds directly.

use anyhow::Result;
use trustrelay_e2e_conformance::relay::Relay;
use trustrelay_e2e_conformance::upstream::{Era, Upstream};
use trustrelay_e2e_conformance::{Revision, fewer_than, run_suite};

#[tokio::test]
async fn the_suite_finds_the_same_through_the_relay_in_the_session_era() -> Result<()> {
    let upstream = Upstream::start(Era::Both).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2025_11_25).await
}

/// Every check that passes when the upstream is asked directly passes through the relay in front of `upstream`.
async fn finds_the_same(upstream: &str, revision: Revision) -> Result<()> {
    let asked_directly = Upstream::start(Era::Both).await?;
    let relay = Relay::start(upstream).await?;
    let direct = run_suite(&asked_directly.url, revision).await?;
    let relayed = run_suite(&relay.url, revision).await?;
    assert_eq!(fewer_than(&direct, &relayed), Vec::<String>::new());
    Ok(())
}
