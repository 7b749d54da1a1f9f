//! What administrators do: people, everybody's tokens, and the policy.
//!
//! Every verb asks first whether the caller is an administrator, and says nothing else to who is
//! not. A token needs `api`, or `api:read` to look; and `tokens` beside it for what lists, makes or
//! ends credentials, as everywhere.

mod cursor;
mod invites;
mod order;
mod pats;
mod people;
mod store;

use trustrelay_token::{Principal, Scope};

pub use cursor::{BadCursor, Cursor, Key};
pub use invites::{INVITE_DAYS, Invited, MAX_INVITES};
pub use order::{MICROS_PER_DAY, PatOrder, unused_day};
pub use pats::{MAX_PATS_COUNTED, MAX_PATS_PAGE, PatsFound, PatsRevoked};
pub use people::{PersonChange, Place};
pub use store::{
    AdminStore, InviteRecord, MAX_PAGE, PatFilter, PatOwner, PatPage, PatState, UserChange, UserFilter,
    UserPage,
};

use crate::authority::Authority;
use crate::error::AuthorityError;

impl Authority {
    /// Refuses who is no administrator: before anything is said of whether something exists.
    pub fn is_administrator(&self, by: &Principal) -> Result<(), AuthorityError> {
        if by.is_admin() { Ok(()) } else { Err(AuthorityError::NotAdministrator) }
    }

    /// Refuses who is no administrator, or whose credential does not hold each of `scopes`.
    pub(crate) fn require_admin(&self, by: &Principal, scopes: &[Scope]) -> Result<(), AuthorityError> {
        scopes.iter().try_for_each(|scope| self.require(by, scope))?;
        self.is_administrator(by)
    }
}
