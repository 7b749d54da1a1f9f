//! The store contract, run by the model store itself: so the model is held to the stories, too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use trustrelay_authority::contract::MemoryStore;

async fn fresh() -> Arc<MemoryStore> {
    Arc::default()
}

trustrelay_authority::store_contract!(fresh);
