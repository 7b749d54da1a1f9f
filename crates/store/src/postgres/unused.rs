//! Which tokens are not used.

use std::num::NonZeroU16;

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_authority::{PatRecord, StoreError, UnusedStore};

use super::PostgresStore;
use super::errors::Failure;
use super::link::Links;
use super::rows::{self, PAT, whole};
use crate::unused::{Days, first, question};

async fn unused(
    links: &Links,
    now: Timestamp,
    by: Timestamp,
    of_all: Option<NonZeroU16>,
    limit: u64,
) -> Result<Vec<PatRecord>, Failure> {
    let link = links.link().await?;
    let (now, by, rows) = (now.as_microsecond(), by.as_microsecond(), whole(limit));
    let select = link.prepare(&question('$', PAT, Days::Own)).await?;
    let own = link.rows(&select, &[&now, &by, &rows]).await?;
    let own: Result<Vec<_>, Failure> = own.iter().map(rows::pat).collect();
    let Some(days) = of_all else { return link.keep(own) };
    let select = link.prepare(&question('$', PAT, Days::OfAll)).await?;
    let all = link.rows(&select, &[&now, &by, &rows, &i64::from(days.get())]).await?;
    let all: Result<Vec<_>, Failure> = link.keep(all.iter().map(rows::pat).collect());
    Ok(first(own?, all?, days, limit))
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
