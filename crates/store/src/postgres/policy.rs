//! The policy: a single row, locked before the accounts, the log's head and the audit log's head.

use async_trait::async_trait;
use futures_util::future::try_join4;
use jiff::Timestamp;
use trustrelay_authority::{AuditEntry, Policy, PolicyRecord, PolicyStore, StoreError};
use uuid::Uuid;

use super::PostgresStore;
use super::audit::Entry;
use super::errors::Failure;
use super::link::Links;
use super::log;
use super::rows::{corrupt, get, number};
use crate::sqlite::policy::record;

async fn policy(links: &Links) -> Result<PolicyRecord, Failure> {
    let link = links.link().await?;
    let select = link.prepare("SELECT version, entry FROM policy").await?;
    let row = link.row(&select, &[]).await?.ok_or_else(|| corrupt("there is no policy"))?;
    Ok(link.keep(record(number(&row, 0)?, get(&row, 1)?))?)
}

async fn set_policy(
    links: &Links,
    policy: &Policy,
    replaces: u64,
    now: Timestamp,
    audit: &AuditEntry,
) -> Result<Option<u64>, Failure> {
    let entry = Entry::of(audit)?.replacing_policy(replaces);
    let link = links.link().await?;
    let append_audit = Entry::statement(&link).await?;
    let append = log::append(&link).await?;
    let update = link.prepare("UPDATE policy SET version = (SELECT seq FROM log_head), entry = $1").await?;
    let (link, permit) = match entry.begin(link).await {
        Err(Failure::Answer(StoreError::PolicyChanged)) => return Ok(None),
        begun => begun?,
    };
    // Pipelined in one round trip, so that the log's head is not locked while this node is busy.
    let (seq, _, (), ()) = try_join4(
        link.row(&append, &[&now.as_microsecond(), &"policy", &None::<Uuid>]),
        link.count(&update, &[&policy.to_json()]),
        entry.append(&link, &append_audit, permit),
        link.batch(log::TELL_AND_COMMIT),
    )
    .await?;
    let seq = log::numbered(seq)?;
    Ok(link.keep(Some(seq)))
}

#[async_trait]
impl PolicyStore for PostgresStore {
    async fn policy(&self) -> Result<PolicyRecord, StoreError> {
        self.links().run(|| policy(self.links())).await
    }

    async fn set_policy(
        &self,
        policy: &Policy,
        replaces: u64,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.links().run(|| set_policy(self.links(), policy, replaces, now, audit)).await
    }
}
