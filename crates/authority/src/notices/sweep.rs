//! Finds the tokens whose end comes near, and forgets what was told long ago.

use jiff::{SignedDuration, Timestamp};

use super::{Expiring, NewNotice, NoticeFacts, NoticeKind, once_for_end};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::PatRecord;

/// What expires within so many days is due soon.
pub const DUE_SOON_DAYS: i64 = 30;
/// The notices of a token's end: when more than so many days are left and at most so many. So who
/// was not told of the first in time, since nothing ran, is told once of what is left, and not
/// twice.
const ENDS: [(NoticeKind, i64, i64); 3] = [
    (NoticeKind::Expiring1d, 0, 1),
    (NoticeKind::Expiring7d, 1, 7),
    (NoticeKind::Expiring30d, 7, DUE_SOON_DAYS),
];
/// How many tokens are taken at a time: a transaction of some milliseconds.
const BATCH: u64 = 200;
/// How long notices are kept: longer than any token is due soon, so that none is told twice.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How many are forgotten at a time.
const FORGET: u64 = 1000;

/// Whether what expires then is due soon.
pub fn is_due_soon(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at.duration_since(now) <= days(DUE_SOON_DAYS)
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

fn told(kind: NoticeKind, pat: &PatRecord, now: Timestamp) -> NewNotice {
    let facts = NoticeFacts { expires_at: Some(pat.expires_at), ..NoticeFacts::default() };
    let once = once_for_end(kind, pat.pat_id, pat.expires_at);
    NewNotice { once, ..NewNotice::to_owner(pat, kind, facts, now) }
}

impl Authority {
    /// Makes the notices of tokens whose end comes near: each once, however often and on however
    /// many nodes this is done. How many.
    pub async fn sweep_notices(&self) -> Result<u64, AuthorityError> {
        let now = self.clock.now();
        let mut made = 0;
        for (kind, after, until) in ENDS {
            let made_before = i64::try_from(days(until).as_micros()).unwrap_or(i64::MAX);
            let lacking = Expiring { kind, after: now + days(after), until: now + days(until), made_before };
            loop {
                let pats = self.store.expiring(&lacking, BATCH).await?;
                let found = pats.len() as u64;
                let notices: Vec<_> = pats.iter().map(|pat| told(kind, pat, now)).collect();
                let new = self.add_notices(&notices).await?;
                made += new;
                if found < BATCH || new == 0 {
                    break;
                }
            }
        }
        while self.store.forget_notices(now - KEPT, FORGET).await? == FORGET {}
        Ok(made)
    }

    /// How many active tokens, of all accounts, expire within so many days: for each number of days
    /// by which notices are sent.
    pub async fn count_due_soon(&self) -> Result<Vec<(i64, u64)>, AuthorityError> {
        let now = self.clock.now();
        let within = ENDS.map(|(_, _, until)| until);
        let counts = self.store.pats_by_end(now, &within.map(|left| now + days(left))).await?;
        Ok(within.into_iter().zip(counts).collect())
    }
}
