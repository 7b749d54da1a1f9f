//! List: the caller's tokens.

use trustrelay_token::{Principal, Scope};

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::notices::is_due_soon;
use crate::record::PatRecord;
use crate::revoke::PatRef;

impl Authority {
    /// The caller's active tokens, newest first. A caller with a token needs the scope `tokens`.
    pub async fn list(&self, by: &Principal) -> Result<Vec<PatRecord>, AuthorityError> {
        if by.pat_id().is_some() {
            self.require(by, &Scope::Tokens)?;
        }
        let pats = self.store.active_pats(by.user_id, self.clock.now()).await?;
        Ok(pats.into_iter().map(|pat| self.with_latest_use(pat)).collect())
    }

    /// Those of the caller's active tokens that are due soon, the soonest first.
    pub async fn list_due_soon(&self, by: &Principal) -> Result<Vec<PatRecord>, AuthorityError> {
        let mut pats = self.list(by).await?;
        let now = self.clock.now();
        pats.retain(|pat| is_due_soon(pat.expires_at, now));
        pats.sort_by_key(|pat| pat.expires_at);
        Ok(pats)
    }

    /// The active tokens of an account, by its e-mail address: what the operator at the machine may
    /// see.
    pub async fn list_for(&self, email: &str) -> Result<Vec<PatRecord>, AuthorityError> {
        let user = self.account(email).await?;
        Ok(self.store.active_pats(user.user_id, self.clock.now()).await?)
    }

    /// One of the caller's tokens, revoked and expired ones too. A token may always read itself;
    /// others need `tokens`.
    pub async fn get(&self, by: &Principal, which: PatRef) -> Result<PatRecord, AuthorityError> {
        let pat_id = self.resolve(by, which)?;
        match self.store.pat_by_id(pat_id).await? {
            Some(pat) if pat.user_id == by.user_id => Ok(self.with_latest_use(pat)),
            _ => Err(AuthorityError::NotFound("token")),
        }
    }
}
