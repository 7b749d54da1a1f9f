//! The audit log of the store in memory.

use async_trait::async_trait;
use jiff::Timestamp;

use super::keys::is_of_present_secret;
use super::{Data, MemoryStore};
use crate::audit::{
    AuditColumns, AuditEnds, AuditEntry, AuditLink, AuditLook, AuditPlace, AuditRecord, AuditSeal,
    AuditStore, chained,
};
use crate::power::{Credential, PowerFacts, TokenFacts};
use crate::store::StoreError;

/// The log, as a test may damage it.
#[derive(Default)]
pub struct Log {
    /// The entries, in their order.
    pub records: Vec<AuditRecord>,
    /// Their seals.
    pub seals: Vec<AuditSeal>,
    /// The last entry that was cut off.
    pub cut: Option<AuditLink>,
    /// The last entry.
    pub head: Option<AuditLink>,
}

impl Log {
    fn ends(&self) -> AuditEnds {
        let begin = AuditLink::BEGINNING;
        AuditEnds { cut: self.cut.unwrap_or(begin), head: self.head.unwrap_or(begin) }
    }
}

/// Whether the entry's actor may still do what it tells of: asked before anything is changed.
pub(super) fn permit(data: &Data, entry: &AuditEntry) -> Result<(), StoreError> {
    permit_power(data, entry)?;
    match entry.actor.policy() {
        Some(seq) if seq != data.policy.seq => Err(StoreError::PolicyChanged),
        _ => Ok(()),
    }
}

fn permit_power(data: &Data, entry: &AuditEntry) -> Result<(), StoreError> {
    let Some(power) = entry.actor.power() else { return Ok(()) };
    let user = data.users.iter().find(|user| user.user_id == power.user_id);
    let mut facts = PowerFacts {
        is_enabled: user.is_some_and(|user| user.disabled_at.is_none()),
        is_admin: user.is_some_and(|user| user.is_admin),
        ..PowerFacts::default()
    };
    match power.credential {
        Some(Credential::Session(digest)) => {
            let session = data.sessions.get(&digest).filter(|session| session.user_id == power.user_id);
            facts.session_expires_at = session.map(|session| session.expires_at);
        }
        Some(Credential::Secret { pat_id, digest }) => {
            let pat = data.pats.iter().find(|pat| pat.pat_id == pat_id && pat.user_id == power.user_id);
            let retired = data.retired.iter().find(|one| one.pat_id == pat_id && one.digest == digest);
            facts.token = pat.map(|pat| TokenFacts {
                revoked_at: pat.revoked_at,
                expires_at: pat.expires_at,
                is_current: is_of_present_secret(data, pat_id, &digest),
                valid_until: retired.map(|one| one.valid_until),
                has_ended: retired.is_some_and(|one| one.ended),
            });
        }
        None => {}
    }
    Ok(power.judge(&facts, entry.at)?)
}

pub(super) fn append(data: &mut Data, entry: &AuditEntry) -> Result<(), StoreError> {
    let before = data.audit.ends().head;
    let (seq, bytes) = (before.seq + 1, entry.to_bytes()?);
    let hash = chained(&before.hash, seq, &bytes);
    data.audit.records.push(AuditRecord { seq, entry: bytes, hash, columns: AuditColumns::of(entry) });
    data.audit.head = Some(AuditLink { seq, hash });
    Ok(())
}

fn place(record: &AuditRecord) -> Result<AuditPlace, StoreError> {
    let at = Timestamp::from_microsecond(record.columns.at);
    Ok(AuditPlace { at: at.map_err(|error| StoreError::Corrupt(error.to_string()))?, seq: record.seq })
}

fn most(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl MemoryStore {
    /// Damage: does what it likes to the audit log.
    pub fn tamper(&self, with: impl FnOnce(&mut Log)) {
        with(&mut self.data.lock().audit);
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut data = self.data()?;
        entries.iter().try_for_each(|entry| append(&mut data, entry))
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        let data = self.data()?;
        let mut later: Vec<_> =
            data.audit.records.iter().filter(|record| record.seq > seq).cloned().collect();
        later.sort_by_key(|record| record.seq);
        later.truncate(most(limit));
        Ok(later)
    }

    async fn audit_page(&self, look: &AuditLook) -> Result<Vec<AuditRecord>, StoreError> {
        let mut found = Vec::new();
        for record in &self.data()?.audit.records {
            let place = place(record)?;
            let is_behind =
                look.after.is_none_or(|after| if look.oldest_first { place > after } else { place < after });
            if is_behind && look.filter.fits(&AuditEntry::from_bytes(&record.entry)?) {
                found.push((place, record.clone()));
            }
        }
        found.sort_by_key(|(place, _)| *place);
        if !look.oldest_first {
            found.reverse();
        }
        Ok(found.into_iter().map(|(_, record)| record).take(most(look.limit)).collect())
    }

    async fn audit_ends(&self) -> Result<AuditEnds, StoreError> {
        Ok(self.data()?.audit.ends())
    }

    async fn seal_audit(&self, seal: &AuditSeal) -> Result<(), StoreError> {
        let seals = &mut self.data()?.audit.seals;
        if seals.iter().all(|other| other.seq != seal.seq) {
            seals.push(seal.clone());
            seals.sort_by_key(|seal| seal.seq);
        }
        Ok(())
    }

    async fn audit_seals(&self, seq: u64, limit: u64) -> Result<Vec<AuditSeal>, StoreError> {
        let data = self.data()?;
        Ok(data.audit.seals.iter().filter(|seal| seal.seq > seq).take(most(limit)).cloned().collect())
    }

    async fn cut_audit(&self, before: Timestamp, limit: u64, entry: &AuditEntry) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let old = |record: &&AuditRecord| record.columns.at < before.as_microsecond();
        let stays = data.audit.records.len().saturating_sub(1);
        let cut = data.audit.records.iter().take(stays).take(most(limit)).take_while(old).count();
        let Some(last) = data.audit.records.drain(..cut).next_back() else { return Ok(0) };
        let through = AuditLink { seq: last.seq, hash: last.hash };
        data.audit.seals.retain(|seal| seal.seq > through.seq);
        data.audit.cut = Some(through);
        append(&mut data, &entry.clone().of_cut(&through))?;
        Ok(cut as u64)
    }
}
