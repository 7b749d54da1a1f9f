//! Which tokens of the store in memory are not used.

use std::num::NonZeroU16;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{Data, MemoryStore};
use crate::admin::unused_day;
use crate::limits::UnusedStore;
use crate::record::PatRecord;
use crate::store::StoreError;

/// When a token was last used, or one that was made with it.
fn last_use(data: &Data, pat: &PatRecord) -> Option<Timestamp> {
    let children = data.pats.iter().filter(|child| child.parent_id == Some(pat.pat_id));
    children.filter_map(|child| last_use(data, child)).max().max(pat.last_used_at)
}

#[async_trait]
impl UnusedStore for MemoryStore {
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        of_all: Option<NonZeroU16>,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError> {
        let data = self.data()?;
        let days = |pat: &PatRecord| {
            let own = pat.limits.as_ref().and_then(|limits| limits.unused_days);
            own.into_iter().chain(of_all).min()
        };
        let is_unused = |pat: &&PatRecord| {
            let Some(days) = days(pat) else { return false };
            let since = last_use(&data, pat).unwrap_or(pat.created_at);
            since + SignedDuration::from_hours(24 * i64::from(days.get())) <= by
        };
        let stands = |pat: &&PatRecord| pat.revoked_at.is_none() && pat.expires_at > now;
        let mut unused: Vec<_> = data.pats.iter().filter(stands).filter(is_unused).cloned().collect();
        let by_day = |pat: &PatRecord| {
            unused_day(pat.last_used_at.unwrap_or(pat.created_at))
                + days(pat).map_or(0, |days| i64::from(days.get()))
        };
        unused.sort_by_key(|pat| (by_day(pat), pat.pat_id));
        unused.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(unused)
    }
}
