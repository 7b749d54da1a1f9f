//! Which tokens are not used.

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_authority::{PatRecord, StoreError, UnusedStore};

use super::PostgresStore;
use super::errors::Failure;
use super::link::Links;
use super::rows::{self, PAT, whole};

async fn unused(links: &Links, now: Timestamp, by: Timestamp, limit: u64) -> Result<Vec<PatRecord>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "SELECT {PAT} FROM pats p WHERE p.unused_days IS NOT NULL AND p.revoked_at IS NULL AND p.expires_at > $1 \
         AND p.unused_day <= $2::bigint / 86400000000 AND coalesce(p.last_used_at, p.created_at) + p.unused_days * 86400000000 <= $2 \
         AND NOT EXISTS (WITH RECURSIVE tree (pat_id, last_used_at) AS (\
           SELECT c.pat_id, c.last_used_at FROM pats c WHERE c.parent_id = p.pat_id \
           UNION SELECT c.pat_id, c.last_used_at FROM pats c JOIN tree t ON c.parent_id = t.pat_id) \
           SELECT 1 FROM tree WHERE tree.last_used_at + p.unused_days * 86400000000 > $2) \
         ORDER BY p.unused_day, p.pat_id LIMIT $3"
    );
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &[&now.as_microsecond(), &by.as_microsecond(), &whole(limit)]).await?;
    link.keep(found.iter().map(rows::pat).collect())
}

#[async_trait]
impl UnusedStore for PostgresStore {
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError> {
        self.links().run(|| unused(self.links(), now, by, limit)).await
    }
}
