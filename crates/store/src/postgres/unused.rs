//! Unused tokens.

use std::num::NonZeroU16;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use trustrelay_authority::{PatRecord, StoreError, UnusedStore};

use super::PostgresStore;
use super::errors::Failure;
use super::link::Links;
use super::rows::{self, PAT, get, whole};
use crate::sqlite::unused::{Days, first, question, spans};

async fn unused(
    links: &Links,
    now: Timestamp,
    by: Timestamp,
    of_all: Option<NonZeroU16>,
    limit: u64,
) -> Result<Vec<PatRecord>, Failure> {
    let link = links.link().await?;
    let (now, by, most) = (now.as_microsecond(), by.as_microsecond(), whole(limit));
    let mut found = Vec::new();
    for (days, of_all) in [(Days::Own, None)].into_iter().chain(of_all.map(|all| (Days::OfAll, Some(all)))) {
        let of_all = of_all.map(|all| i64::from(all.get()));
        let select = link.prepare(&spans('$', days)).await?;
        let ends = link.rows(&select, &[&now]).await?;
        let ends = ends.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, Failure>>()?;
        let select = link.prepare(&question('$', PAT, days)).await?;
        let asked = ends.iter().map(|span| {
            let values: [&(dyn ToSql + Sync); 4] = [&now, &by, &most, span];
            let values = values.into_iter().chain(of_all.iter().map(|all| all as &(dyn ToSql + Sync)));
            values.collect::<Vec<_>>()
        });
        let asked: Vec<_> = asked.collect();
        for page in try_join_all(asked.iter().map(|values| link.rows(&select, values))).await? {
            found.extend(page.iter().map(rows::pat).collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(link.keep(first(found, of_all, limit)))
}

#[async_trait]
impl UnusedStore for PostgresStore {
    async fn unused_pats(
        &self,
        now: Timestamp,
        by: Timestamp,
        of_all: Option<NonZeroU16>,
        limit: u64,
    ) -> Result<Vec<PatRecord>, StoreError> {
        self.links().run(|| unused(self.links(), now, by, of_all, limit)).await
    }
}
