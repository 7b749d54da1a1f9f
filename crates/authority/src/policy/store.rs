//! What a store does for the policy.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Policy;
use crate::audit::AuditEntry;
use crate::store::StoreError;

/// The policy, and since which entry of the log it is so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyRecord {
    /// The log entry that made it so; 0 if it never was changed.
    pub seq: u64,
    /// What is decided.
    pub policy: Policy,
}

/// Keeps the policy.
#[async_trait]
pub trait PolicyStore: Send + Sync + 'static {
    /// The policy, as it is now.
    async fn policy(&self) -> Result<PolicyRecord, StoreError>;
    /// Puts a policy in the place of the one that entry `replaces` made. The number of the log
    /// entry to wait for; `None`, and nothing is done, if another one has been put there since.
    async fn set_policy(
        &self,
        policy: &Policy,
        replaces: u64,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError>;
}
