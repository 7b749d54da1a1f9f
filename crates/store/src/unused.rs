//! Which tokens are not used.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::params;
use trustrelay_authority::{PatRecord, StoreError, UnusedStore};

use crate::errors::OrStoreError;
use crate::rows::{self, PAT};
use crate::sqlite::SqliteStore;

/// The tokens whose days went by, by the day (see the index `pats_to_be_used`); and of them those of which no child was used.
pub(crate) fn unused() -> String {
    format!(
        "SELECT {PAT} FROM pats p WHERE p.unused_days IS NOT NULL AND p.revoked_at IS NULL AND p.expires_at > ?1 \
         AND p.unused_day <= ?2 / 86400000000 \
         AND coalesce(p.last_used_at, p.created_at) + p.unused_days * 86400000000 <= ?2 \
         AND NOT EXISTS (WITH RECURSIVE tree (pat_id, last_used_at) AS (\
           SELECT c.pat_id, c.last_used_at FROM pats c WHERE c.parent_id = p.pat_id \
           UNION SELECT c.pat_id, c.last_used_at FROM pats c JOIN tree t ON c.parent_id = t.pat_id) \
           SELECT 1 FROM tree WHERE tree.last_used_at + p.unused_days * 86400000000 > ?2) \
         ORDER BY p.unused_day, p.pat_id LIMIT ?3"
    )
}

#[async_trait]
impl UnusedStore for SqliteStore {
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError> {
        let sql = unused();
        let (now, by) = (now.as_microsecond(), by.as_microsecond());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&sql).or_store()?;
                let unused = statement.query_map(params![now, by, limit], rows::pat).or_store()?;
                unused.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }
}
