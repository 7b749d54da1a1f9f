//! The caller of a request, as it was let in: what everything that the request opens is held to.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use trustrelay_token::Principal;

/// A principal together with what its request was judged by. A request keeps its grounds as long as the
/// credential stands and its account has lost no upstream since.
///
/// An answer may hold something of several upstreams at once (a list, a session's stream), so the loss of
/// any of them ends it; the client asks again and is answered from what it may still use.
#[derive(Debug, Clone)]
pub struct Admitted {
    principal: Arc<Principal>,
    address: Option<IpAddr>,
    narrowings: u64,
}

impl Admitted {
    /// To be made right after the credential was verified, before anything is decided by it.
    /// `address`: the client's own, if it is known.
    pub fn new(principal: Arc<Principal>, address: Option<IpAddr>) -> Self {
        let narrowings = principal.upstreams.narrowings();
        Self { principal, address, narrowings }
    }

    /// The principal.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Where the request came from, if that is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether nothing that the request was let in by was taken away since. Time is not asked:
    /// see [`Principal::has_expired_by`].
    pub fn stands(&self) -> bool {
        self.principal.stands() && !self.is_narrowed()
    }

    /// Whether the account has lost an upstream since.
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
