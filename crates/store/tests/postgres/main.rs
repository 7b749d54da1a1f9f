//! Tests that are specific to PostgreSQL: several nodes on one database, and behaviour when the
//! database fails or is the wrong one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod audit;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/database.rs"]
mod database;
mod failures;
mod fence;
mod kit;
mod nodes;
mod opening;
mod searches;
mod tls;
