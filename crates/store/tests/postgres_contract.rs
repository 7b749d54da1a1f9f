//! The contract tests of stores, run with PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/database.rs"]
mod database;

use database::Fresh;

async fn fresh() -> Fresh {
    Fresh::emptied().await
}

trustrelay_authority::store_contract!(fresh);
