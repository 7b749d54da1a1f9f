//! The suite, asking the upstream directly: whatever it finds through the relay is measured against
//! this.

use anyhow::Result;
use trustrelay_e2e_conformance::upstream::{Era, Upstream};
use trustrelay_e2e_conformance::{Revision, run_suite};

#[tokio::test]
async fn the_upstream_gets_full_marks_in_the_session_era() -> Result<()> {
    full_marks(Era::Both, Revision::V2025_11_25, 84).await
}

#[tokio::test]
async fn the_upstream_gets_full_marks_in_the_stateless_era() -> Result<()> {
    full_marks(Era::Both, Revision::V2026_07_28, 153).await
}

#[tokio::test]
async fn an_upstream_of_the_session_era_alone_gets_full_marks_in_it() -> Result<()> {
    full_marks(Era::Session, Revision::V2025_11_25, 84).await
}

#[tokio::test]
async fn an_upstream_of_the_stateless_era_alone_gets_full_marks_in_it() -> Result<()> {
    full_marks(Era::Stateless, Revision::V2026_07_28, 153).await
}

#[tokio::test]
async fn an_upstream_of_the_other_era_does_not_pass() -> Result<()> {
    let upstream = Upstream::start(Era::Session).await?;
    let report = run_suite(&upstream.url, Revision::V2026_07_28).await?;
    assert_eq!(report.passed("tools-list"), 0);
    assert!(!report.blemishes().is_empty());
    Ok(())
}

async fn full_marks(era: Era, revision: Revision, checks: usize) -> Result<()> {
    let upstream = Upstream::start(era).await?;
    let report = run_suite(&upstream.url, revision).await?;
    assert_eq!(report.blemishes(), Vec::<String>::new());
    assert_eq!(report.passed_in_all(), checks);
    Ok(())
}
