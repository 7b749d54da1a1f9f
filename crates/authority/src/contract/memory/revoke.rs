//! How the store in memory revokes tokens.

use jiff::Timestamp;

use super::audit::{append, permit};
use super::{Data, head, notices};
use crate::record::{Change, LogEntry, RevokedPat};
use crate::store::{Revocation, RevokeOutcome, StoreError};

pub(super) fn revoke(
    data: &mut Data,
    pats: &[Revocation],
    at: Timestamp,
    mail: bool,
) -> Result<Vec<Option<RevokeOutcome>>, StoreError> {
    pats.iter().try_for_each(|pat| permit(data, &pat.audit))?;
    let seq = head(data) + 1;
    let outcome = |Revocation { pat_id, .. }: &Revocation| {
        let pat = data.pats.iter().find(|pat| pat.pat_id == *pat_id)?;
        Some(match pat.revoked_at {
            Some(revoked_at) => RevokeOutcome { revoked_at, seq: data.revoked_seq[pat_id], newly: false },
            None => RevokeOutcome { revoked_at: at, seq, newly: true },
        })
    };
    let outcomes: Vec<_> = pats.iter().map(outcome).collect();
    let newly = pats.iter().zip(&outcomes);
    let newly = newly.filter(|(_, outcome)| outcome.as_ref().is_some_and(|outcome| outcome.newly));
    let newly: Vec<_> = newly.map(|(pat, _)| pat).collect();
    if newly.is_empty() {
        return Ok(outcomes);
    }
    let mut tree: Vec<_> = newly.iter().map(|pat| pat.pat_id).collect();
    let mut at_index = 0;
    while at_index < tree.len() {
        let parent = tree[at_index];
        tree.extend(data.pats.iter().filter(|pat| pat.parent_id == Some(parent)).map(|pat| pat.pat_id));
        at_index += 1;
    }
    let mut revoked = Vec::new();
    for pat in data.pats.iter_mut().filter(|pat| tree.contains(&pat.pat_id) && pat.revoked_at.is_none()) {
        pat.revoked_at = Some(at);
        revoked.push(RevokedPat { pat_id: pat.pat_id, digest: pat.digest });
    }
    for pat in &revoked {
        data.revoked_seq.insert(pat.pat_id, seq);
    }
    let with_them: Vec<_> =
        data.retired.iter().filter(|secret| data.revoked_seq.get(&secret.pat_id) == Some(&seq)).collect();
    revoked
        .extend(with_them.iter().map(|secret| RevokedPat { pat_id: secret.pat_id, digest: secret.digest }));
    let rekeyed = data.former.iter().filter(|former| data.revoked_seq.get(&former.pat_id) == Some(&seq));
    revoked.extend(rekeyed.map(|former| RevokedPat { pat_id: former.pat_id, digest: former.digest }));
    data.log.push(LogEntry { seq, at, change: Change::PatsRevoked(revoked) });
    for pat in newly {
        if let Some(new) = &pat.notice {
            notices::add(data, new, mail);
        }
        append(data, &pat.audit)?;
    }
    Ok(outcomes)
}
