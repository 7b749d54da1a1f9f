//! Judging a caller once more, when what it asked for has arrived whole.

use std::net::IpAddr;
use std::sync::Arc;

use trustrelay_token::{Denied, Principal};

use crate::audit::By;
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::limits::OffLimits;
use crate::verify::{UNAVAILABLE, judged};

impl Authority {
    /// The caller as it stands now: with the role and the upstreams that its account has by now.
    /// `from`: its address, where the policy's networks can be held against it.
    ///
    /// A caller is judged by the head of its request, and decides itself how long the body takes. A
    /// change is judged a third time in its own transaction, which alone is exact; this refuses
    /// before work is done, and covers what ends in no transaction. It neither counts against the
    /// token's rate nor as a use.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Denied`] for a token, [`AuthorityError::SignedOut`] for a browser session,
    /// that has ended; [`AuthorityError::OffLimits`] if the policy has come to allow other networks
    /// alone.
    pub async fn rejudge(&self, by: &By, from: Option<IpAddr>) -> Result<By, AuthorityError> {
        let Some(pat) = by.principal.pat() else { return self.rejudge_session(by).await };
        if !self.policy.allows_from(from) {
            return Err(OffLimits::Policy { from }.into());
        }
        let Some(me) = self.me.upgrade() else { return Err(UNAVAILABLE.into()) };
        let principal: Arc<Principal> = match me.verify_slowly(vec![*pat.digest()], by.address).await {
            // A token that was re-keyed meanwhile is no longer found by the digest it was judged
            // by.
            Err(Denied::Unknown) if judged(&by.principal, self.clock.now()).is_ok() => {
                Arc::clone(&by.principal)
            }
            outcome => outcome?,
        };
        Ok(By::new(principal, by.address))
    }
}
