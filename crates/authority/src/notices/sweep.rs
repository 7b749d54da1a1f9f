//! Finds the tokens whose end comes near, and forgets what was told long ago.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Expiring, NewNotice, Notice, NoticeFacts, NoticeKind, once_for_end};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::PatRecord;

/// What expires within so many days is due soon.
pub const DUE_SOON_DAYS: i64 = 30;
/// The notices of a token's end: when more than so many days are left and at most so many. So who was not told of the first in time, since
/// nothing ran, is told once of what is left, and not twice.
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

fn told(kind: NoticeKind, pat: PatRecord, now: Timestamp) -> NewNotice {
    let once = once_for_end(kind, pat.pat_id, pat.expires_at);
    let facts = NoticeFacts {
        pat_name: Some(pat.name),
        pat_hint: Some(pat.hint),
        expires_at: Some(pat.expires_at),
        ..NoticeFacts::default()
    };
    let notice = Notice {
        notice_id: Uuid::now_v7(),
        user_id: pat.user_id,
        pat_id: Some(pat.pat_id),
        kind,
        created_at: now,
        facts,
    };
    NewNotice { notice, once, only: None }
}

impl Authority {
    /// Makes the notices of tokens whose end comes near: each once, however often and on however many nodes this is done. How many.
    pub async fn sweep_notices(&self) -> Result<u64, AuthorityError> {
        let now = self.clock.now();
        let mut made = 0;
        for (kind, after, until) in ENDS {
            let made_before = i64::try_from(days(until).as_micros()).unwrap_or(i64::MAX);
            let lacking = Expiring { kind, after: now + days(after), until: now + days(until), made_before };
            loop {
                let pats = self.store.expiring(&lacking, BATCH).await?;
                let found = pats.len() as u64;
                let notices: Vec<_> = pats.into_iter().map(|pat| told(kind, pat, now)).collect();
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

    /// How many active tokens, of all accounts, expire within so many days: for each number of days by which notices are sent.
    pub async fn count_due_soon(&self) -> Result<Vec<(i64, u64)>, AuthorityError> {
        let now = self.clock.now();
        let within = ENDS.map(|(_, _, until)| until);
        let counts = self.store.pats_by_end(now, &within.map(|left| now + days(left))).await?;
        Ok(within.into_iter().zip(counts).collect())
    }

    /// Keeps notices, and has them sent.
    pub(crate) async fn add_notices(&self, notices: &[NewNotice]) -> Result<u64, AuthorityError> {
        if notices.is_empty() {
            return Ok(0);
        }
        let new = self.store.add_notices(notices, self.courier().has_mail()).await?;
        if new > 0 {
            self.notices.wake.notify_one();
        }
        Ok(new)
    }

    /// Tells a token's owner something, once: `once` says what, in a word of its own. A notice that cannot be kept is a line in the log:
    /// what it tells of has happened nevertheless.
    pub async fn tell_owner(&self, pat: &PatRecord, kind: NoticeKind, facts: NoticeFacts, once: String) {
        let mut new = told(kind, pat.clone(), self.clock.now());
        let named = new.notice.facts;
        new.notice.facts = NoticeFacts {
            pat_name: facts.pat_name.or(named.pat_name),
            pat_hint: facts.pat_hint.or(named.pat_hint),
            expires_at: facts.expires_at,
            ..facts
        };
        new.once = once;
        if let Err(error) = self.add_notices(&[new]).await {
            tracing::error!(%error, pat_id = %pat.pat_id, kind = kind.name(), "a notice could not be kept");
        }
    }
}
