//! The authenticated caller of a request, together with the state that the request was admitted
//! under.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use trustrelay_token::Principal;

/// A principal together with the grounds on which its request was admitted. A request remains valid
/// as long as its credential stands and its account has lost no upstream since.
///
/// An answer may combine data from several upstreams (a list, a session's stream), so losing any
/// upstream ends the answer. The client asks again and is answered from the upstreams that it may
/// still use.
#[derive(Debug, Clone)]
pub struct Admitted {
    principal: Arc<Principal>,
    address: Option<IpAddr>,
    narrowings: u64,
}

impl Admitted {
    /// Captures the caller. Must be called right after the credential was verified, before any
    /// decision is based on it. `address` is the client's own address, if known.
    pub fn new(principal: Arc<Principal>, address: Option<IpAddr>) -> Self {
        let narrowings = principal.upstreams.narrowings();
        Self { principal, address, narrowings }
    }

    /// Returns the principal.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Returns the client's address, if known.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns whether the grounds of the admission still hold: the credential stands and the
    /// account has lost no upstream. Expiry is not checked; see [`Principal::has_expired_by`].
    pub fn stands(&self) -> bool {
        self.principal.stands() && !self.is_narrowed()
    }

    /// Returns whether the account has lost an upstream since the admission.
    pub fn is_narrowed(&self) -> bool {
        self.principal.upstreams.narrowings() != self.narrowings
    }
}

impl From<Arc<Principal>> for Admitted {
    fn from(principal: Arc<Principal>) -> Self {
        Self::new(principal, None)
    }
}

impl Deref for Admitted {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}
