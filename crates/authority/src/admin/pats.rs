//! Everybody's tokens: found, and revoked one by one or all that a filter fits.

use trustrelay_token::{Principal, Scope};
use uuid::Uuid;

use crate::admin::{PatFilter, PatPage, PatState, Place};
use crate::audit::{AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::notices::{NewNotice, NoticeFacts, NoticeKind};
use crate::record::PatRecord;
use crate::revoke::Revoked;
use crate::store::{REVOKE_BATCH, Revocation, RevokeOutcome};

/// Most tokens on one page.
pub const MAX_PATS_PAGE: u64 = 100;
/// Up to how many tokens are counted: this many stand for "more than ten thousand".
pub const MAX_PATS_COUNTED: u64 = 10_001;

/// Tokens that were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatsFound {
    /// A page of them.
    pub page: PatPage,
    /// How many there are on all pages, up to [`MAX_PATS_COUNTED`].
    pub count: u64,
}

/// A revocation of many tokens that holds everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatsRevoked {
    /// How many this has revoked, not counting what was made with them.
    pub revoked: usize,
    /// How many open MCP sessions it ended.
    pub sessions_terminated: usize,
}

impl Authority {
    /// Everybody's tokens that a filter fits, newest first, page by page. A token needs `api:read`
    /// and `tokens`.
    pub async fn admin_tokens(
        &self,
        by: &Principal,
        filter: &PatFilter,
        place: &Place,
    ) -> Result<PatsFound, AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead, Scope::Tokens])?;
        let (after, limit) = place.read_up_to(MAX_PATS_PAGE)?;
        self.write_down_uses(filter).await;
        let now = self.clock.now();
        let mut page = self.store.search_pats(filter, after.as_ref(), limit, now).await?;
        page.pats = page.pats.into_iter().map(|(pat, email)| (self.with_latest_use(pat), email)).collect();
        let count = self.store.count_pats(filter, MAX_PATS_COUNTED, now).await?;
        Ok(PatsFound { page, count })
    }

    /// A token, whoever's it is, and its owner's address. A token needs `api:read` and `tokens`.
    pub async fn admin_token(
        &self,
        by: &Principal,
        pat_id: Uuid,
    ) -> Result<(PatRecord, String), AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead, Scope::Tokens])?;
        let pat = self.anybodys(pat_id).await?;
        let owner = self.store.user_by_id(pat.user_id).await?.ok_or(AuthorityError::NotFound("token"))?;
        Ok((self.with_latest_use(pat), owner.email))
    }

    /// An account's active tokens, newest first. A token needs `api:read` and `tokens`.
    pub async fn admin_tokens_of(
        &self,
        by: &Principal,
        user_id: Uuid,
    ) -> Result<Vec<PatRecord>, AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead, Scope::Tokens])?;
        Ok(self.store.active_pats(user_id, self.clock.now()).await?)
    }

    /// Revokes a token, whoever's it is, and all that were made with it; its owner is told. Again:
    /// the first outcome, and the same promise. A token needs `api` and `tokens`.
    pub async fn admin_revoke(&self, by: &By, pat_id: Uuid) -> Result<Revoked, AuthorityError> {
        self.require_admin(by, &[Scope::Api, Scope::Tokens])?;
        let pat = self.anybodys(pat_id).await?;
        let (outcomes, sessions_terminated) = self.revoke_of_all(by, vec![pat]).await?;
        let outcome = outcomes.into_iter().flatten().next().ok_or(AuthorityError::NotFound("token"))?;
        Ok(Revoked { pat_id, revoked_at: outcome.revoked_at, sessions_terminated })
    }

    /// Revokes all tokens that a filter fits, and all that were made with them; their owners are
    /// told. Only if they are as many as are expected, and at most [`REVOKE_BATCH`], and the filter
    /// is not an open one: else nothing is done. Active ones, if the filter says nothing of it. A
    /// token needs `api` and `tokens`.
    pub async fn admin_revoke_matching(
        &self,
        by: &By,
        filter: &PatFilter,
        expected: u64,
    ) -> Result<PatsRevoked, AuthorityError> {
        self.require_admin(by, &[Scope::Api, Scope::Tokens])?;
        if filter.state == Some(PatState::Revoked) {
            return Err(AuthorityError::Invalid {
                field: "state",
                message: "`state` is `revoked`, but revoked tokens cannot be revoked again; use `active` or `expired`"
                    .into(),
            });
        }
        // An empty filter is a slip far more often than it is meant.
        if filter.is_open() {
            return Err(AuthorityError::Invalid {
                field: "filter",
                message: "this would revoke all tokens; filter by `owner`, `name`, `hint`, `expires_before` or `unused_since`".into(),
            });
        }
        if expected > REVOKE_BATCH as u64 {
            return Err(AuthorityError::Invalid {
                field: "expected",
                message: format!(
                    "`expected` is {expected}, but at most {REVOKE_BATCH} tokens can be revoked at a time; narrow the filter"
                ),
            });
        }
        let filter = PatFilter { state: Some(filter.state.unwrap_or(PatState::Active)), ..filter.clone() };
        self.write_down_uses(&filter).await;
        let now = self.clock.now();
        // What is revoked is what was counted, whatever comes to fit meanwhile.
        let found = self.store.search_pats(&filter, None, REVOKE_BATCH as u64, now).await?;
        if found.next.is_some() || found.pats.len() as u64 != expected {
            let count = self.store.count_pats(&filter, MAX_PATS_COUNTED, now).await?;
            let more = if count == MAX_PATS_COUNTED { "or more " } else { "" };
            return Err(AuthorityError::Conflict(format!(
                "the filter matches {count} {more}tokens, not {expected}; nothing was revoked; review the tokens and enter their number again"
            )));
        }
        let pats = found.pats.into_iter().map(|(pat, _)| pat).collect();
        let (outcomes, sessions_terminated) = self.revoke_of_all(by, pats).await?;
        let revoked = outcomes.iter().flatten().filter(|outcome| outcome.newly).count();
        Ok(PatsRevoked { revoked, sessions_terminated })
    }

    async fn anybodys(&self, pat_id: Uuid) -> Result<PatRecord, AuthorityError> {
        self.store.pat_by_id(pat_id).await?.ok_or(AuthorityError::NotFound("token"))
    }

    /// The store finds what is not used by what is written down. (Another node's uses of the last
    /// moments are not there yet.)
    async fn write_down_uses(&self, filter: &PatFilter) {
        if filter.unused_since.is_some() {
            self.flush_usage().await;
        }
    }

    /// Revokes tokens in one log entry, in an administrator's name, and tells the owners of those
    /// that stood. Their outcomes, in the same order, and how many sessions it ended.
    async fn revoke_of_all(
        &self,
        by: &By,
        pats: Vec<PatRecord>,
    ) -> Result<(Vec<Option<RevokeOutcome>>, usize), AuthorityError> {
        if pats.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let me = self.me.upgrade().ok_or_else(|| AuthorityError::Internal("shutting down".into()))?;
        let now = self.clock.now();
        let entry = AuditEntry::new(now, by.administrator(), "token.revoked");
        // A task of its own: once begun it is carried through, also if the caller goes away.
        let done = tokio::spawn(async move {
            let revocation = |pat: &PatRecord| Revocation {
                pat_id: pat.pat_id,
                audit: entry.clone().of_user(pat.user_id).of_pat(pat.pat_id).with("name", &pat.name),
                notice: Some(NewNotice::to_owner(
                    pat,
                    NoticeKind::RevokedByAdmin,
                    NoticeFacts::default(),
                    now,
                )),
            };
            let (outcomes, cut) =
                me.revoke_all(&pats.iter().map(revocation).collect::<Vec<_>>(), now).await?;
            let newly = outcomes.iter().flatten().filter(|outcome| outcome.newly).count();
            tracing::info!(tokens = newly, sessions_terminated = cut, "an administrator revoked tokens");
            Ok((outcomes, if newly > 0 { cut } else { 0 }))
        });
        done.await.map_err(|error| AuthorityError::Internal(error.to_string()))?
    }
}
