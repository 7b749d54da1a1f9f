//! The audit log of the store in memory.

use async_trait::async_trait;

use super::{Data, MemoryStore};
use crate::audit::{AUDIT_BEGINNING, AuditEntry, AuditRecord, AuditStore, chained};
use crate::store::StoreError;

pub(super) fn append(data: &mut Data, entry: &AuditEntry) -> Result<(), StoreError> {
    let (seq, before) = data.audit.last().map_or((1, AUDIT_BEGINNING), |last| (last.seq + 1, last.hash));
    let entry = entry.to_bytes()?;
    let hash = chained(&before, seq, &entry);
    data.audit.push(AuditRecord { seq, entry, hash });
    Ok(())
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut data = self.data()?;
        entries.iter().try_for_each(|entry| append(&mut data, entry))
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(self.data()?.audit.iter().filter(|record| record.seq > seq).take(limit).cloned().collect())
    }
}
