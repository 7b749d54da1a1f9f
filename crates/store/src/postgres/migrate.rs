//! Schema migrations. Several nodes may start at the same time: one migrates, and the others find
//! the work done.

use super::errors::{Failure, PostgresOpenError};
use super::link::{Link, Links};
use super::rows::{corrupt, get, number};

/// The migrations, in order. Never change a released migration.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_initial.sql"),
    include_str!("../../migrations/postgres/0002_leases.sql"),
    include_str!("../../migrations/postgres/0003_audit.sql"),
    include_str!("../../migrations/postgres/0004_audit_log.sql"),
    include_str!("../../migrations/postgres/0005_rotation.sql"),
    include_str!("../../migrations/postgres/0006_limits.sql"),
    include_str!("../../migrations/postgres/0007_administration.sql"),
    include_str!("../../migrations/postgres/0008_notices.sql"),
    include_str!("../../migrations/postgres/0009_searches.sql"),
    include_str!("../../migrations/postgres/0010_networks.sql"),
    include_str!("../../migrations/postgres/0011_unused.sql"),
    include_str!("../../migrations/postgres/0012_keys.sql"),
    include_str!("../../migrations/postgres/0013_ended_secrets.sql"),
    include_str!("../../migrations/postgres/0014_node_urls.sql"),
    include_str!("../../migrations/postgres/0015_first_uses.sql"),
];

/// The key of the lock that serializes nodes which start at the same time. An arbitrary constant
/// ("tr_relay").
const LOCK: i64 = 0x7472_5f72_656c_6179;

pub(super) async fn bring_up_to_date(links: &Links, at: &str, begin: bool) -> Result<(), PostgresOpenError> {
    let failed = |failure| PostgresOpenError::new(at, &failure);
    let link = links.link().await.map_err(failed)?;
    let encoding = encoding(&link).await.map_err(failed)?;
    if encoding != "UTF8" {
        return Err(PostgresOpenError::Encoding { at: at.to_owned(), encoding });
    }
    // Usually nothing is missing, and then no node waits.
    match missing(&link, at).await?.len() {
        0 => return link.keep(Ok(())),
        all if all == MIGRATIONS.len() && !begin => {
            return Err(PostgresOpenError::Empty { at: at.to_owned() });
        }
        _ => {}
    }
    // A session-level lock instead of a transaction-level one: a transaction that begins before it
    // has the lock may not see the tables that another node has just created.
    link.batch(&format!("SET lock_timeout = '60s'; SELECT pg_advisory_lock({LOCK})"))
        .await
        .map_err(failed)?;
    link.batch("BEGIN").await.map_err(failed)?;
    // Checked again under the lock, because another node may have migrated meanwhile.
    for migration in missing(&link, at).await? {
        link.batch(migration).await.map_err(failed)?;
    }
    let known = MIGRATIONS.len();
    link.batch(&format!("UPDATE trustrelay_schema SET version = {known}; COMMIT")).await.map_err(failed)
    // The connection is closed instead of kept, which releases the lock.
}

async fn encoding(link: &Link) -> Result<String, Failure> {
    let show = link.prepare("SELECT current_setting('server_encoding')").await?;
    let row = link.row(&show, &[]).await?.ok_or_else(|| corrupt("a setting has no row"))?;
    get(&row, 0)
}

/// Returns the migrations that were not applied yet.
async fn missing(link: &Link, at: &str) -> Result<&'static [&'static str], PostgresOpenError> {
    let found = version(link).await.map_err(|failure| PostgresOpenError::new(at, &failure))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let known = MIGRATIONS.len();
    MIGRATIONS.get(found..).ok_or_else(|| PostgresOpenError::NewerSchema { at: at.to_owned(), found, known })
}

async fn version(link: &Link) -> Result<u64, Failure> {
    let is_there = link.prepare("SELECT to_regclass('trustrelay_schema') IS NOT NULL").await?;
    let row = link.row(&is_there, &[]).await?.ok_or_else(|| corrupt("a question has no answer"))?;
    if !get::<bool>(&row, 0)? {
        return Ok(0);
    }
    let select = link.prepare("SELECT version FROM trustrelay_schema").await?;
    let row = link.row(&select, &[]).await?;
    number(&row.ok_or_else(|| corrupt("the schema has no version"))?, 0)
}

/// Checks that the database answers and has the schema that this program knows.
pub(super) async fn is_current(links: &Links) -> Result<(), Failure> {
    let link = links.link().await?;
    let version = version(&link).await?;
    link.keep(if version == MIGRATIONS.len() as u64 {
        Ok(())
    } else {
        Err(corrupt(format!(
            "the database has schema version {version}, but this program has {}",
            MIGRATIONS.len()
        )))
    })
}
