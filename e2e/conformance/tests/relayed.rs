//! The suite, asking the upstream through the relay: it has to find what it finds directly.

use anyhow::Result;
use trustrelay_e2e_conformance::relay::Relay;
use trustrelay_e2e_conformance::upstream::{Era, Upstream};
use trustrelay_e2e_conformance::{Report, Revision, fewer_than, run_suite};

/// What the suite looks at in the event streams of an HTTP server. Where the relay makes the
/// answers itself it answers with JSON, as it may, and the suite notes that instead of passing it.
const OF_HTTP_STREAMS: [&str; 2] = ["server-sse-multiple-streams", "server-sse-polling"];

/// What the suite looks at in an upstream of the stateless era that one of the session era cannot
/// do, whoever translates: it asks one thing at a time, under keys that the relay chooses, and has
/// no error for a capability that its client lacks.
const OF_THE_STATELESS_ERA: [&str; 6] = [
    "input-required-result-basic-elicitation: sep-2322-elicitation",
    "input-required-result-ignore-extra-params: sep-2322-ignore-unexpected-params",
    "input-required-result-multiple-input-requests: sep-2322-multiple-inputs",
    "server-stateless: sep-2575-missing-capability-http-400",
    "server-stateless: sep-2575-server-rejects-undeclared-capability",
    "server-sse-multiple-streams: server-sse-streams-functional",
];

#[tokio::test]
async fn the_suite_finds_the_same_through_the_relay_in_the_session_era() -> Result<()> {
    let upstream = Upstream::start(Era::Both).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2025_11_25, &[]).await
}

#[tokio::test]
async fn the_suite_finds_the_same_through_the_relay_in_the_stateless_era() -> Result<()> {
    let upstream = Upstream::start(Era::Both).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2026_07_28, &[]).await
}

#[tokio::test]
async fn an_upstream_of_one_era_alone_is_relayed_as_well_in_it() -> Result<()> {
    let upstream = Upstream::start(Era::Session).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2025_11_25, &[]).await?;
    let upstream = Upstream::start(Era::Stateless).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2026_07_28, &[]).await
}

#[tokio::test]
async fn an_upstream_on_pipes_is_relayed_as_well_in_the_session_era() -> Result<()> {
    finds_the_same(&Upstream::command_line(Era::Session)?, Revision::V2025_11_25, &OF_HTTP_STREAMS).await
}

#[tokio::test]
async fn an_upstream_on_pipes_is_relayed_as_well_in_the_stateless_era() -> Result<()> {
    finds_the_same(&Upstream::command_line(Era::Stateless)?, Revision::V2026_07_28, &OF_HTTP_STREAMS).await
}

#[tokio::test]
async fn a_session_client_in_front_of_a_stateless_upstream_finds_the_same() -> Result<()> {
    let upstream = Upstream::start(Era::Stateless).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2025_11_25, &OF_HTTP_STREAMS).await
}

#[tokio::test]
async fn a_stateless_client_in_front_of_a_session_upstream_finds_what_that_can_do() -> Result<()> {
    let upstream = Upstream::start(Era::Session).await?;
    finds_the_same(upstream.url.as_str(), Revision::V2026_07_28, &OF_THE_STATELESS_ERA).await
}

/// Every check that passes when the upstream is asked directly passes through the relay in front of
/// `upstream`, but those that begin with one of `beside`.
async fn finds_the_same(upstream: &str, revision: Revision, beside: &[&str]) -> Result<()> {
    let asked_directly = Upstream::start(Era::Both).await?;
    let relay = Relay::start(upstream).await?;
    let direct = run_suite(&asked_directly.url, revision).await?;
    let relayed = run_suite(&relay.url, revision).await?;
    assert_eq!(differences(&direct, &relayed, beside), Vec::<String>::new());
    Ok(())
}

fn differences(direct: &Report, relayed: &Report, beside: &[&str]) -> Vec<String> {
    let mut differences = fewer_than(direct, relayed);
    differences.retain(|difference| !beside.iter().any(|known| difference.starts_with(known)));
    differences
}
