//! The server's secrets in the store in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use super::audit::append;
use super::{Data, MemoryStore, is_active, permit};
use crate::audit::AuditEntry;
use crate::keys::{KeyCount, KeyStore, Rekey, RekeyOutcome};
use crate::store::StoreError;

/// An earlier digest of a token's present secret.
#[derive(Debug, Clone)]
pub(super) struct Former {
    pub(super) pat_id: Uuid,
    pub(super) digest: TokenDigest,
    pub(super) key_id: KeyId,
}

/// Whether a digest is one of the present secret of a token.
pub(super) fn is_of_present_secret(data: &Data, pat_id: Uuid, digest: &TokenDigest) -> bool {
    let current = data.pats.iter().any(|pat| pat.pat_id == pat_id && pat.digest == *digest);
    current || data.former.iter().any(|former| former.pat_id == pat_id && former.digest == *digest)
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn replace_secret(
        &self,
        old: &[u8; 16],
        new: &[u8; 16],
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        if data.fingerprint != Some(*old) || old == new || data.earlier_fingerprints.contains(new) {
            return Ok(false);
        }
        data.earlier_fingerprints.push(*old);
        data.fingerprint = Some(*new);
        append(&mut data, audit)?;
        Ok(true)
    }

    async fn rekey_pat(&self, rekey: &Rekey) -> Result<RekeyOutcome, StoreError> {
        let mut data = self.data()?;
        if data.fingerprint != Some(rekey.fingerprint) {
            return Ok(RekeyOutcome::NotBound);
        }
        let stands = |pat: &&mut crate::record::PatRecord| {
            pat.pat_id == rekey.pat_id && pat.digest == rekey.replaces && pat.revoked_at.is_none()
        };
        let Some(pat) = data.pats.iter_mut().find(stands) else {
            return Ok(RekeyOutcome::Changed);
        };
        let former = Former { pat_id: pat.pat_id, digest: pat.digest, key_id: pat.key_id };
        (pat.digest, pat.key_id) = (rekey.digest, rekey.key_id);
        data.former.push(former);
        Ok(RekeyOutcome::Rekeyed)
    }

    async fn key_counts(&self, now: Timestamp) -> Result<Vec<KeyCount>, StoreError> {
        let data = self.data()?;
        let mut counts: BTreeMap<KeyId, KeyCount> = BTreeMap::new();
        let mut count = |key_id, add: fn(&mut KeyCount)| {
            let none = KeyCount { key_id, tokens: 0, overlaps: 0, webhooks: 0 };
            add(counts.entry(key_id).or_insert(none));
        };
        for pat in data.pats.iter().filter(|pat| is_active(pat, now)) {
            count(pat.key_id, |count| count.tokens += 1);
        }
        let stands = |pat_id| data.pats.iter().any(|pat| pat.pat_id == pat_id && pat.revoked_at.is_none());
        for secret in &data.retired {
            if secret.valid_until > now && stands(secret.pat_id) {
                count(secret.key_id, |count| count.overlaps += 1);
            }
        }
        for webhook in &data.notices.webhooks {
            count(webhook.key_id, |count| count.webhooks += 1);
        }
        Ok(counts.into_values().collect())
    }
}
