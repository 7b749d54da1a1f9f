//! Unused tokens.

use std::num::NonZeroU16;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params_from_iter};
use trustrelay_authority::{PatRecord, StoreError, UnusedStore, unused_day};

use crate::sqlite::SqliteStore;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows::{self, PAT};

/// The limit on unused days that a query applies. The smaller of a token's two limits passes first,
/// so the two queries together find every token that either limit ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Days {
    /// The token's own limit.
    Own,
    /// The limit for all tokens, the fifth value.
    OfAll,
}

impl Days {
    /// Returns the condition on the tokens, and the day by which each is found (see the indexes
    /// `pats_unused` and `pats_to_be_used`).
    fn held_and_day(self) -> (&'static str, &'static str) {
        match self {
            Self::Own => ("p.unused_days IS NOT NULL AND ", "p.unused_day"),
            Self::OfAll => ("", "p.used_day"),
        }
    }
}

/// The span of thirty days in which a token expires. Most tokens expire without being revoked, so
/// their number grows forever. With these spans the query skips expired tokens, except for those of
/// the current span.
const SPAN: &str = "p.expires_at / 2592000000000";

/// Builds the query for the spans in which tokens expire that may be unused. Its value is the
/// current time.
pub(crate) fn spans(mark: char, days: Days) -> String {
    let (held, _) = days.held_and_day();
    let next = |after: &str| {
        format!(
            "(SELECT {SPAN} FROM pats p WHERE {held}p.revoked_at IS NULL AND {SPAN} {after} ORDER BY {SPAN} LIMIT 1)"
        )
    };
    format!(
        "WITH RECURSIVE spans (span) AS (SELECT {} UNION ALL SELECT {} FROM spans s WHERE s.span IS NOT NULL) \
         SELECT span FROM spans WHERE span IS NOT NULL",
        next(&format!(">= {mark}1 / 2592000000000")),
        next("> s.span")
    )
}

/// Builds the query for the tokens that expire in a span and whose days have passed, ordered by
/// day, limited to those without a used child. Its values: the current time, the time by which the
/// days have passed, the limit, the span, and the days of all. `mark` precedes their numbers.
pub(crate) fn question(mark: char, pat: &str, days: Days) -> String {
    const DAY: &str = "86400000000";
    let (held, day) = days.held_and_day();
    let (day_by, days) = match days {
        Days::Own => (format!("{mark}2 / {DAY}"), "p.unused_days".to_owned()),
        Days::OfAll => (format!("{mark}2 / {DAY} - {mark}5"), format!("{mark}5")),
    };
    format!(
        "SELECT {pat} FROM pats p WHERE {held}p.revoked_at IS NULL AND {SPAN} = {mark}4 AND p.expires_at > {mark}1 \
         AND {day} <= {day_by} \
         AND coalesce(p.last_used_at, p.created_at) + {days} * {DAY} <= {mark}2 \
         AND NOT EXISTS (WITH RECURSIVE tree (pat_id, last_used_at) AS (\
           SELECT c.pat_id, c.last_used_at FROM pats c WHERE c.parent_id = p.pat_id \
           UNION SELECT c.pat_id, c.last_used_at FROM pats c JOIN tree t ON c.parent_id = t.pat_id) \
           SELECT 1 FROM tree WHERE tree.last_used_at + {days} * {DAY} > {mark}2) \
         ORDER BY {day}, p.pat_id LIMIT {mark}3"
    )
}

/// Removes duplicates, and orders the tokens by the day on which their unused days ran out.
pub(crate) fn first(mut found: Vec<PatRecord>, of_all: Option<NonZeroU16>, limit: u64) -> Vec<PatRecord> {
    let ends = |pat: &PatRecord| {
        let own = pat.limits.as_ref().and_then(|limits| limits.unused_days);
        let days = own.into_iter().chain(of_all).min().map_or(0, NonZeroU16::get);
        unused_day(pat.last_used_at.unwrap_or(pat.created_at)) + i64::from(days)
    };
    found.sort_by_key(|pat| (ends(pat), pat.pat_id));
    found.dedup_by_key(|pat| pat.pat_id);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found
}

fn unused(
    connection: &Connection,
    now: Timestamp,
    by: Timestamp,
    of_all: Option<NonZeroU16>,
    limit: u64,
) -> Result<Vec<PatRecord>, StoreError> {
    let (now, by) = (now.as_microsecond(), by.as_microsecond());
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for (days, of_all) in [(Days::Own, None)].into_iter().chain(of_all.map(|all| (Days::OfAll, Some(all)))) {
        let mut ends = connection.prepare_cached(&spans('?', days)).or_store()?;
        let ends = ends.query_map([now], |row| row.get(0)).or_store()?;
        let ends = ends.collect::<rusqlite::Result<Vec<i64>>>().or_store()?;
        let mut statement = connection.prepare_cached(&question('?', PAT, days)).or_store()?;
        for span in ends {
            let values = [Some(now), Some(by), Some(most), Some(span), of_all.map(|all| all.get().into())];
            let values = values.into_iter().flatten();
            let pats = statement.query_map(params_from_iter(values), rows::pat).or_store()?;
            found.extend(pats.collect::<rusqlite::Result<Vec<_>>>().or_store()?);
        }
    }
    Ok(first(found, of_all, limit))
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
        self.threads().read(move |connection| unused(connection, now, by, of_all, limit)).await
    }
}
