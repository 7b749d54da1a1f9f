//! Leaks: whoever holds a token may revoke it, and whoever has found some where they should not be
//! may have all of them revoked.
//!
//! Neither needs a credential, and neither says more than the whole token says by itself: it may
//! only be asked so often.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use jiff::Timestamp;
use trustrelay_token::{Token, TokenDigest};
use uuid::Uuid;

use crate::audit::{Actor, AuditEntry};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::judgment::judge_secret;
use crate::notices::{NewNotice, NoticeFacts, NoticeKind};
use crate::record::PatRecord;
use crate::rotation::{FoundPat, Secret};
use crate::store::{REVOKE_BATCH, Revocation, RevokeOutcome, StoreError};

/// How many candidates a report may have: what is revoked in one log entry.
pub const MAX_CANDIDATES: usize = REVOKE_BATCH;
/// How many tokens one client may revoke by holding them, in a minute.
pub(crate) const REVOCATIONS_A_MINUTE: u32 = 60;
/// How many reports one client may make in a minute: of [`MAX_CANDIDATES`] each, that is 170
/// look-ups a second.
pub(crate) const REPORTS_A_MINUTE: u32 = 10;
/// How many candidates of a report are looked up at a time.
const LOOKUPS: usize = 8;

/// A token that was seen where it should not be.
#[derive(Debug)]
pub struct Candidate {
    /// The token; `None` if what was seen is none.
    pub token: Option<Token>,
    /// Where it was seen: a URL, without the token in it.
    pub url: Option<String>,
    /// In what it was seen, in the reporter's own words: `content`, `commit`.
    pub source: Option<String>,
}

/// Who reports leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporter {
    /// Anybody: only so often, from one address.
    Anybody,
    /// GitHub's secret scanning, as its signature has proved.
    GitHub,
}

impl Reporter {
    fn name(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::GitHub => "github",
        }
    }
}

/// A token of ours that was reported.
struct Leak {
    pat: PatRecord,
    url: Option<String>,
    source: Option<String>,
    /// How many candidates were this token.
    times: u64,
}

impl Leak {
    fn entry(&self, entry: AuditEntry, reporter: Reporter) -> AuditEntry {
        let mut entry = entry.of_user(self.pat.user_id).of_pat(self.pat.pat_id);
        entry = entry.with("name", &self.pat.name).with("reporter", reporter.name());
        for (name, value) in [("url", &self.url), ("source", &self.source)] {
            if let Some(value) = value {
                entry = entry.with(name, value);
            }
        }
        if self.times > 1 { entry.with("places", self.times) } else { entry }
    }

    fn revocation(&self, entry: AuditEntry, reporter: Reporter, now: Timestamp) -> Revocation {
        let seen_at = self.url.clone().or_else(|| self.source.clone());
        let facts = NoticeFacts { seen_at, ..NoticeFacts::default() };
        Revocation {
            pat_id: self.pat.pat_id,
            audit: self.entry(entry, reporter),
            notice: Some(NewNotice::to_owner(&self.pat, NoticeKind::Leaked, facts, now)),
        }
    }
}

impl Authority {
    /// Revokes the token that somebody holds. `None` stands for what is no token: that, and one
    /// that is not known, is as well as revoked.
    pub async fn revoke_held(
        &self,
        token: Option<Token>,
        from: Option<IpAddr>,
    ) -> Result<(), AuthorityError> {
        self.revocations.take(from, self.clock.since_boot())?;
        let found = self.find(self.digests(token.as_ref())).await?;
        let Some(FoundPat { pat, owner, .. }) = found.filter(|found| self.is_of_use(found)) else {
            return Ok(());
        };
        let actor = Actor::holder(&pat, &owner, from);
        self.revoke_as(actor, "token.revoked", &pat).await.map(drop)
    }

    /// Takes the turn of a report, before its body is looked at.
    pub fn take_turn_to_report(&self, from: Option<IpAddr>) -> Result<(), AuthorityError> {
        self.reports.take(from, self.clock.since_boot())
    }

    /// Revokes what was reported, in one log entry, and says which of the candidates are tokens of
    /// ours, in their order. When this answers, none of them is accepted any more.
    pub async fn report_leaks(
        &self,
        reporter: Reporter,
        candidates: Vec<Candidate>,
        from: Option<IpAddr>,
    ) -> Result<Vec<bool>, AuthorityError> {
        if candidates.len() > MAX_CANDIDATES {
            return Err(AuthorityError::Invalid {
                field: "candidates",
                message: format!(
                    "`candidates` has {} entries; at most {MAX_CANDIDATES} are allowed",
                    candidates.len()
                ),
            });
        }
        let digests =
            candidates.iter().map(|candidate| self.digests(candidate.token.as_ref())).collect::<Vec<_>>();
        let found = stream::iter(digests).map(|digests| self.find(digests));
        let found: Vec<_> = found.buffered(LOOKUPS).try_collect().await?;
        let known = found.iter().map(Option::is_some).collect();
        let mut leaks: HashMap<Uuid, Leak> = HashMap::new();
        for (candidate, found) in candidates.into_iter().zip(found) {
            let Some(FoundPat { pat, .. }) = found.filter(|found| self.is_of_use(found)) else { continue };
            let Candidate { url, source, .. } = candidate;
            leaks.entry(pat.pat_id).or_insert(Leak { pat, url, source, times: 0 }).times += 1;
        }
        let mut leaks: Vec<_> = leaks.into_values().collect();
        leaks.sort_by_key(|leak| leak.pat.pat_id);
        if !leaks.is_empty() {
            self.revoke_leaked(leaks, reporter, from).await?;
        }
        Ok(known)
    }

    async fn revoke_leaked(
        &self,
        leaks: Vec<Leak>,
        reporter: Reporter,
        from: Option<IpAddr>,
    ) -> Result<(), AuthorityError> {
        let me = self.me.upgrade().ok_or_else(|| AuthorityError::Internal("shutting down".into()))?;
        let now = self.clock.now();
        let entry = AuditEntry::new(now, Actor::anonymous(from), "token.leaked");
        // A task of its own: once begun it is carried through, also if the caller goes away.
        let done = tokio::spawn(async move {
            let revocations: Vec<_> =
                leaks.iter().map(|leak| leak.revocation(entry.clone(), reporter, now)).collect();
            let (outcomes, _) = me.revoke_all(&revocations, now).await?;
            for (revocation, outcome) in revocations.into_iter().zip(outcomes) {
                let (pat_id, reporter) = (revocation.pat_id, reporter.name());
                tracing::info!(%pat_id, reporter, "revoked a token that was reported as leaked");
                // The owner of one that was revoked before, for whatever reason, is told as well.
                if let (Some(notice), Some(RevokeOutcome { newly: false, .. })) = (revocation.notice, outcome)
                {
                    me.tell(notice).await;
                }
            }
            Ok(())
        });
        done.await.map_err(|error| AuthorityError::Internal(error.to_string()))?
    }

    /// How a token may be kept: under each of the secrets.
    pub(crate) fn digests(&self, token: Option<&Token>) -> Vec<TokenDigest> {
        token.map(|token| self.keys.iter().map(|key| key.digest(token)).collect()).unwrap_or_default()
    }

    /// Whether somebody can do something with the secret. One that its token had before, and that
    /// has ended, opens nothing: whoever has found it has no say about the token.
    fn is_of_use(&self, found: &FoundPat) -> bool {
        match &found.secret {
            Secret::Current { .. } => true,
            secret @ Secret::Retired { .. } => judge_secret(secret, self.clock.now()).is_ok(),
        }
    }

    /// The token, as the store has it.
    pub(crate) async fn find(&self, digests: Vec<TokenDigest>) -> Result<Option<FoundPat>, StoreError> {
        for digest in &digests {
            if let Some(found) = self.store.pat_by_digest(digest).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
