//! The contract tests of stores, run with SQLite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use support::Fresh;

async fn fresh() -> Fresh {
    Fresh::in_memory_if_possible()
}

trustrelay_authority::store_contract!(fresh);
