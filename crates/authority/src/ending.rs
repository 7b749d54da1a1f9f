//! Secrets that tokens had before, while they are still good: each ends at its time, also for who
//! holds something open that was opened with it.

use std::sync::Arc;

use hashbrown::HashSet;
use jiff::Timestamp;
use parking_lot::Mutex;
use trustrelay_token::{Principal, TokenDigest};
use uuid::Uuid;

use crate::record::RetiredSecret;

struct One {
    pat_id: Uuid,
    digest: TokenDigest,
    until: Timestamp,
    /// What was handed out when it was the token's only secret.
    held: Option<Arc<Principal>>,
}

/// Of every token one at most, but for those of one rotation after another: few.
#[derive(Default)]
pub(crate) struct Ending {
    good: Mutex<Vec<One>>,
    /// Tokens of which a secret has come to its end by this node's clock, and whose store may not
    /// say so yet.
    overdue: Mutex<HashSet<Uuid>>,
}

/// Most tokens that wait to be marked, at 16 bytes each; of more, the next use or rotation marks
/// them.
const MAX_OVERDUE: usize = 65_536;

impl Ending {
    /// A secret is retired by an entry of `at`.
    pub(crate) fn add(&self, secret: &RetiredSecret, held: Option<Arc<Principal>>, at: Timestamp) {
        let mut all = self.good.lock();
        if secret.ended {
            held.iter().for_each(|held| held.standing().end(at));
            all.retain(|one| {
                let is_it = one.digest == secret.digest;
                if is_it {
                    one.held.iter().for_each(|held| held.standing().end(at));
                }
                !is_it
            });
            return;
        }
        let RetiredSecret { pat_id, digest, valid_until: until, .. } = *secret;
        // It said that it lasts as long as the token. Whoever hands something on asks it for its
        // end.
        held.iter().for_each(|held| held.expire_by(until));
        all.push(One { pat_id, digest, until, held });
    }

    /// A secret was admitted that is good until then.
    pub(crate) fn admitted(&self, pat_id: Uuid, digest: TokenDigest, until: Timestamp) {
        let mut all = self.good.lock();
        if !all.iter().any(|one| one.digest == digest) {
            all.push(One { pat_id, digest, until, held: None });
        }
    }

    /// Returns true for a secret that was retired and has not been ended here.
    pub(crate) fn has(&self, digest: &TokenDigest) -> bool {
        self.good.lock().iter().any(|one| one.digest == *digest)
    }

    /// A token is revoked: what was handed out by its secrets of before is as well.
    pub(crate) fn revoke(&self, pat_id: Uuid, at: Timestamp) {
        self.good.lock().retain(|one| {
            let is_it = one.pat_id == pat_id;
            if is_it {
                one.held.iter().for_each(|held| held.standing().end(at));
            }
            !is_it
        });
    }

    /// A secret of this token has come to its end by this node's clock.
    pub(crate) fn overdue(&self, pat_id: Uuid) {
        let mut overdue = self.overdue.lock();
        if overdue.len() < MAX_OVERDUE {
            overdue.insert(pat_id);
        }
    }

    /// The tokens of which that was said since the last time.
    pub(crate) fn take_overdue(&self) -> HashSet<Uuid> {
        std::mem::take(&mut *self.overdue.lock())
    }

    /// Those whose time is over, which are ended by that.
    pub(crate) fn over(&self, now: Timestamp) -> Vec<(Uuid, TokenDigest)> {
        let mut over = Vec::new();
        self.good.lock().retain(|one| {
            let is_over = one.until <= now;
            if is_over {
                one.held.iter().for_each(|held| held.standing().end(one.until));
                over.push((one.pat_id, one.digest));
            }
            !is_over
        });
        over
    }
}
