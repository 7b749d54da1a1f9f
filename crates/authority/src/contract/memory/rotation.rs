//! Rotations in the store in memory.

use async_trait::async_trait;
use jiff::Timestamp;
use trustrelay_token::{KeyId, TokenDigest};
use uuid::Uuid;

use super::audit::{append, permit};
use super::keys::{Former, is_of_present_secret};
use super::{Data, MemoryStore, head, is_active, notices};
use crate::audit::AuditEntry;
use crate::notices::NewNotice;
use crate::record::{Change, LogEntry, PatRecord, RetiredSecret};
use crate::rotation::{
    FoundPat, PastRotation, RETIRED_SECRETS, RotateOutcome, Rotation, RotationStore, Secret,
};
use crate::store::StoreError;

/// A secret that a token had before.
#[derive(Debug, Clone)]
pub(super) struct Retired {
    pub(super) pat_id: Uuid,
    pub(super) digest: TokenDigest,
    pub(super) key_id: KeyId,
    hint: String,
    pub(super) valid_until: Timestamp,
    pub(super) ended: bool,
    until_first_use: bool,
    /// The entry that ended it, if a first use ends it.
    first_use_seq: Option<u64>,
    used_after_at: Option<Timestamp>,
}

/// Ends those that have not ended, or of them those whose time is over; what the entry names of
/// them.
fn end_earlier(data: &mut Data, pat_id: Uuid, at: Timestamp, over_alone: bool) -> Vec<RetiredSecret> {
    let seq = head(data) + 1;
    let mut ended = Vec::new();
    for secret in data.retired.iter_mut().filter(|secret| secret.pat_id == pat_id && !secret.ended) {
        if over_alone && secret.valid_until > at {
            continue;
        }
        secret.first_use_seq = secret.until_first_use.then_some(seq);
        secret.until_first_use = false;
        secret.ended = true;
        secret.valid_until = secret.valid_until.min(at);
        let valid_until = secret.valid_until;
        ended.push(RetiredSecret { pat_id, digest: secret.digest, valid_until, ended: true });
    }
    ended
}

fn push(data: &mut Data, at: Timestamp, mut secrets: Vec<RetiredSecret>) -> u64 {
    secrets.sort_by_key(|secret| *secret.digest.as_bytes());
    let seq = head(data) + 1;
    data.log.push(LogEntry { seq, at, change: Change::SecretsRetired(secrets) });
    seq
}

#[async_trait]
impl RotationStore for MemoryStore {
    async fn pat_by_digest(&self, digest: &TokenDigest) -> Result<Option<FoundPat>, StoreError> {
        self.lookups.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let found = {
            let data = self.data()?;
            let retired = data.retired.iter().find(|secret| secret.digest == *digest);
            let pat = match retired {
                Some(secret) => data.pats.iter().find(|pat| pat.pat_id == secret.pat_id),
                None => data.pats.iter().find(|pat| is_of_present_secret(&data, pat.pat_id, digest)),
            };
            pat.map(|pat| FoundPat {
                pat: pat.clone(),
                owner: data.users.iter().find(|user| user.user_id == pat.user_id).expect("owner").clone(),
                secret: match retired {
                    Some(Retired { digest, valid_until, ended, hint, .. }) => Secret::Retired {
                        digest: *digest,
                        valid_until: *valid_until,
                        ended: *ended,
                        hint: hint.clone(),
                    },
                    None => Secret::Current {
                        ends_another: data
                            .retired
                            .iter()
                            .any(|secret| secret.pat_id == pat.pat_id && secret.until_first_use),
                    },
                },
                first_use_seq: data
                    .retired
                    .iter()
                    .filter(|secret| secret.pat_id == pat.pat_id)
                    .filter_map(|secret| secret.first_use_seq)
                    .max(),
            })
        };
        self.after_lookup.pass().await;
        Ok(found)
    }

    async fn rotate_pat(&self, rotation: &Rotation, audit: &AuditEntry) -> Result<RotateOutcome, StoreError> {
        self.before_secret.pass().await;
        let mut data = self.data()?;
        permit(&data, audit)?;
        let data = &mut *data;
        let Rotation { pat_id, at, .. } = *rotation;
        let Some(pat) = data.pats.iter().find(|pat| pat.pat_id == pat_id && is_active(pat, at)).cloned()
        else {
            return Ok(RotateOutcome::NotActive);
        };
        if data.users.iter().any(|user| user.user_id == pat.user_id && user.disabled_at.is_some()) {
            return Ok(RotateOutcome::NotActive);
        }
        if !is_of_present_secret(data, pat_id, &rotation.replaces) {
            return Ok(RotateOutcome::Changed);
        }
        let parent = data.pats.iter().find(|other| Some(other.pat_id) == pat.parent_id);
        let mut children = data.pats.iter().filter(|other| other.parent_id == Some(pat_id));
        let outlives = |one: &PatRecord, other: Timestamp| is_active(one, at) && one.expires_at > other;
        if parent.is_some_and(|parent| parent.expires_at < rotation.expires_at)
            || children.any(|child| outlives(child, rotation.expires_at))
        {
            return Ok(RotateOutcome::Outlived);
        }
        let mut named = end_earlier(data, pat_id, at, false);
        let valid_until = rotation.old_valid_until.min(pat.expires_at);
        let (rekeyed, others) =
            std::mem::take(&mut data.former).into_iter().partition(|one| one.pat_id == pat_id);
        data.former = others;
        let mut digests: Vec<(TokenDigest, KeyId)> = vec![(pat.digest, pat.key_id)];
        digests.extend(Vec::<Former>::into_iter(rekeyed).map(|former| (former.digest, former.key_id)));
        let ended = valid_until <= at;
        for (digest, key_id) in digests {
            named.push(RetiredSecret { pat_id, digest, valid_until, ended });
            data.retired.push(Retired {
                pat_id,
                digest,
                key_id,
                hint: pat.hint.clone(),
                valid_until,
                ended,
                until_first_use: rotation.until_first_use,
                first_use_seq: None,
                used_after_at: None,
            });
        }
        let seq = push(data, at, named);
        let mut more = data.retired.iter().filter(|secret| secret.pat_id == pat_id).count();
        data.retired.retain(|secret| {
            let goes = secret.pat_id == pat_id && more > RETIRED_SECRETS;
            more -= usize::from(goes);
            !goes
        });
        data.rotations.remove(&pat_id);
        if let Some(repeatable) = rotation.repeatable.clone() {
            let until_first_use = rotation.until_first_use;
            let past = PastRotation { at, seq, old_valid_until: valid_until, until_first_use, repeatable };
            data.rotations.insert(pat_id, past);
        }
        if let Some(pat) = data.pats.iter_mut().find(|pat| pat.pat_id == pat_id) {
            pat.digest = rotation.digest;
            pat.key_id = rotation.key_id;
            pat.hint.clone_from(&rotation.hint);
            pat.expires_at = rotation.expires_at;
            pat.rotated_at = Some(at);
        }
        append(data, audit)?;
        Ok(RotateOutcome::Rotated(seq))
    }

    async fn retire_secret(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let waits = |secret: &Retired| secret.pat_id == pat_id && secret.until_first_use && !secret.ended;
        if !data.retired.iter().any(waits) {
            return Ok(None);
        }
        let ended = end_earlier(&mut data, pat_id, at, false);
        let seq = push(&mut data, at, ended);
        append(&mut data, audit)?;
        Ok(Some(seq))
    }

    async fn end_overlap(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let ended = end_earlier(&mut data, pat_id, at, true);
        if ended.is_empty() {
            return Ok(None);
        }
        let seq = push(&mut data, at, ended);
        append(&mut data, audit)?;
        Ok(Some(seq))
    }

    async fn last_rotation(&self, pat_id: Uuid) -> Result<Option<PastRotation>, StoreError> {
        Ok(self.data()?.rotations.get(&pat_id).cloned())
    }

    async fn forget_rotations(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let all = data.rotations.len();
        data.rotations.retain(|_, past| past.at >= before);
        Ok((all - data.rotations.len()) as u64)
    }

    async fn note_retired_use(
        &self,
        digest: &TokenDigest,
        since: Timestamp,
        notice: &NewNotice,
        mail: bool,
    ) -> Result<bool, StoreError> {
        self.before_retired_use.pass().await;
        let mut data = self.data()?;
        let secret = data.retired.iter_mut().find(|secret| secret.digest == *digest);
        let Some(secret) = secret.filter(|secret| secret.used_after_at.is_none_or(|used| used < since))
        else {
            return Ok(false);
        };
        secret.used_after_at = Some(notice.notice.created_at);
        notices::add(&mut data, notice, mail);
        Ok(true)
    }
}
