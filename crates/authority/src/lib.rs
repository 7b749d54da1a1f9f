//! The domain of TrustRelay: who may do what with which token. It knows no HTTP and no SQL.
//!
//! - [`Authority`] issues, verifies, lists and revokes tokens, and keeps accounts and browser sessions.
//! - [`judge`] is the one judgment of whether a token may be used; every surface comes through it.
//! - [`Store`] is what keeps the truth; the `contract` module (feature `contract`, for tests) is the suite that every
//!   store must pass.
//! - the fence (module `fence`) makes a revocation true everywhere before it is answered.

mod accounts;
mod authority;
mod clock;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod fence;
mod index;
mod issue;
mod judgment;
mod list;
mod password;
mod record;
mod revoke;
mod secret;
mod sessions;
mod store;
mod usage;
mod verify;

pub use accounts::{MIN_PASSWORD_CHARS, NewAccount};
pub use authority::{Authority, AuthorityConfig, Cut, NothingOpen};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::AuthorityError;
pub use fence::MAX_LEASE;
pub use issue::{DEFAULT_DAYS, Expiry, Issued, MAX_DAYS, MAX_NAME_CHARS, MAX_TOKENS_PER_USER, NewPat};
pub use judgment::judge;
pub use record::{Change, LogEntry, PatRecord, RevokedPat, SessionRecord, Usage, UserRecord};
pub use revoke::{PatRef, Revoked};
pub use secret::{BadSecret, ServerSecret};
pub use sessions::SessionSecret;
pub use store::{Lease, NodeRecord, Renewal, RevokeOutcome, Store, StoreError};
