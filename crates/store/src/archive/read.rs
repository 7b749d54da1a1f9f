//! Reading whole tables, from either store.

use rusqlite::{Connection, Row};
use tokio_postgres::Row as PostgresRow;
use trustrelay_authority::StoreError;

use crate::postgres::{Failure, Link};
use crate::sqlite::errors::OrStoreError;

pub(super) fn from_sqlite<T>(
    connection: &Connection,
    sql: &str,
    one: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql).or_store()?;
    let rows = statement.query_map([], one).or_store()?;
    rows.collect::<rusqlite::Result<_>>().or_store()
}

pub(super) async fn from_postgres<T>(
    link: &Link,
    sql: &str,
    one: impl Fn(&PostgresRow) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let select = link.prepare(sql).await?;
    link.rows(&select, &[]).await?.iter().map(one).collect()
}
