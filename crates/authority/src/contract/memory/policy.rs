//! The policy, in the store in memory.

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::{append, permit};
use super::{MemoryStore, head};
use crate::audit::AuditEntry;
use crate::policy::{Policy, PolicyRecord, PolicyStore};
use crate::record::{Change, LogEntry};
use crate::store::StoreError;

#[async_trait]
impl PolicyStore for MemoryStore {
    async fn policy(&self) -> Result<PolicyRecord, StoreError> {
        Ok(self.data()?.policy.clone())
    }

    async fn set_policy(
        &self,
        policy: &Policy,
        replaces: u64,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        if data.policy.seq != replaces {
            return Ok(None);
        }
        let seq = head(&data) + 1;
        data.log.push(LogEntry { seq, at: now, change: Change::PolicyChanged });
        data.policy = PolicyRecord { seq, policy: policy.clone() };
        append(&mut data, audit)?;
        Ok(Some(seq))
    }
}
