//! Which tokens are not used.

use std::num::NonZeroU16;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::params;
use trustrelay_authority::{PatRecord, StoreError, UnusedStore, unused_day};

use crate::errors::OrStoreError;
use crate::rows::{self, PAT};
use crate::sqlite::SqliteStore;

/// Which days of a token are asked about: whichever are fewer go by first, so that both questions together find what either of them ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Days {
    /// Its own.
    Own,
    /// Those of all, the fourth value.
    OfAll,
}

/// The tokens whose days went by, by the day (see the indexes `pats_to_be_used` and `pats_by_use`); and of them those of which no child was used.
/// Its values: now, by when, and how many. `mark` is how they begin.
pub(crate) fn question(mark: char, pat: &str, days: Days) -> String {
    const DAY: &str = "86400000000";
    let (held, day, day_by, days) = match days {
        Days::Own => (
            "p.unused_days IS NOT NULL AND ",
            "p.unused_day",
            format!("{mark}2 / {DAY}"),
            "p.unused_days".to_owned(),
        ),
        Days::OfAll => ("", "p.used_day", format!("{mark}2 / {DAY} - {mark}4"), format!("{mark}4")),
    };
    format!(
        "SELECT {pat} FROM pats p WHERE {held}p.revoked_at IS NULL AND p.expires_at > {mark}1 \
         AND {day} <= {day_by} \
         AND coalesce(p.last_used_at, p.created_at) + {days} * {DAY} <= {mark}2 \
         AND NOT EXISTS (WITH RECURSIVE tree (pat_id, last_used_at) AS (\
           SELECT c.pat_id, c.last_used_at FROM pats c WHERE c.parent_id = p.pat_id \
           UNION SELECT c.pat_id, c.last_used_at FROM pats c JOIN tree t ON c.parent_id = t.pat_id) \
           SELECT 1 FROM tree WHERE tree.last_used_at + {days} * {DAY} > {mark}2) \
         ORDER BY {day}, p.pat_id LIMIT {mark}3"
    )
}

/// Of what both questions found, each token once, and those first whose days went by first.
pub(crate) fn first(
    own: Vec<PatRecord>,
    all: Vec<PatRecord>,
    of_all: NonZeroU16,
    limit: u64,
) -> Vec<PatRecord> {
    let ends = |pat: &PatRecord| {
        let own = pat.limits.as_ref().and_then(|limits| limits.unused_days);
        let days = own.map_or(of_all, |own| own.min(of_all));
        unused_day(pat.last_used_at.unwrap_or(pat.created_at)) + i64::from(days.get())
    };
    let mut found = own;
    found.extend(all);
    found.sort_by_key(|pat| (ends(pat), pat.pat_id));
    found.dedup_by_key(|pat| pat.pat_id);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found
}

#[async_trait]
impl UnusedStore for SqliteStore {
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        of_all: Option<NonZeroU16>,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError> {
        let (now, by) = (now.as_microsecond(), by.as_microsecond());
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&question('?', PAT, Days::Own)).or_store()?;
                let own = statement.query_map(params![now, by, rows], rows::pat).or_store()?;
                let own = own.collect::<rusqlite::Result<Vec<_>>>().or_store()?;
                let Some(days) = of_all else { return Ok(own) };
                let mut statement = connection.prepare_cached(&question('?', PAT, Days::OfAll)).or_store()?;
                let all = statement.query_map(params![now, by, rows, days.get()], rows::pat).or_store()?;
                let all = all.collect::<rusqlite::Result<Vec<_>>>().or_store()?;
                Ok(first(own, all, days, limit))
            })
            .await
    }
}
