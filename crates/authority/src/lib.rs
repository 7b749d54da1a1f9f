//! The domain of TrustRelay: who may do what with which token. It knows no HTTP and no SQL.
//!
//! - [`Authority`] issues, verifies, lists and revokes tokens, and keeps accounts and browser
//!   sessions.
//! - [`judge`] is the one judgment of whether a token may be used; every surface comes through it.
//! - [`Store`] is what keeps the truth; the `contract` module (feature `contract`, for tests) is
//!   the suite that every store must pass.
//! - the fence (module `fence`) makes a revocation true everywhere before it is answered.

mod accounts;
mod activity;
mod admin;
mod audit;
mod authority;
mod clock;
#[cfg(feature = "contract")]
pub mod contract;
mod counters;
mod ending;
mod error;
mod expiry;
mod fence;
mod index;
mod issue;
mod judgment;
mod keys;
mod leaks;
mod limits;
mod list;
mod namesakes;
mod nodes;
mod notices;
mod numbers;
mod pace;
mod password;
mod policy;
mod power;
mod recent;
mod record;
mod refusals;
mod rejudge;
mod rekey;
mod retired_uses;
mod revoke;
mod rotate;
mod rotation;
mod secret;
mod sessions;
mod skew;
mod store;
mod throttle;
mod turns;
mod usage;
mod verify;
mod wait;

pub use accounts::{MIN_PASSWORD_CHARS, NewAccount};
pub use activity::{ACTIVITY_DAYS, Activity, ToolDay};
pub use admin::{
    AdminStore, BadCursor, Cursor, INVITE_DAYS, InviteRecord, Invited, Key, MAX_INVITES, MAX_PAGE,
    MAX_PATS_COUNTED, MAX_PATS_PAGE, MICROS_PER_DAY, PatFilter, PatOrder, PatOwner, PatPage, PatState,
    PatsFound, PatsRevoked, PersonChange, Place, UserChange, UserFilter, UserPage, unused_day,
};
pub use audit::{
    AUDIT_BATCH, AUDIT_BEGINNING, Actor, ActorKind, AuditAction, AuditColumns, AuditEnds, AuditEntry,
    AuditExport, AuditFilter, AuditFlaw, AuditLink, AuditLook, AuditPage, AuditPlace, AuditRecord,
    AuditReport, AuditSeal, AuditStore, Audited, BadPlace, By, CUT, CUT_HASH, CUT_THROUGH, MAX_AUDIT_PAGE,
    chained, hex, parse_audit_time,
};
pub use authority::{AllowsFrom, Authority, AuthorityConfig, Cut, NothingOpen};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::AuthorityError;
pub use expiry::Expiry;
pub use fence::{Look, MAX_LEASE};
pub use issue::{DEFAULT_DAYS, Issued, MAX_DAYS, MAX_NAME_CHARS, MAX_TOKENS_PER_USER, NewPat};
pub use judgment::{judge, judge_secret};
pub use keys::{KeyCount, KeyStore, MAX_SECRETS, Rekey, RekeyOutcome};
pub use leaks::{Candidate, MAX_CANDIDATES, Reporter};
pub use limits::{
    Allowance, AskedLimits, MAX_NETWORKS, MAX_REQUESTS_PER_MINUTE, MAX_UNUSED_DAYS, OffLimits, UnusedStore,
};
pub use nodes::Nodes;
pub use notices::{
    AddedWebhook, Channel, CheckedUrl, Claim, Courier, DUE_SOON_DAYS, Delivery, DeliveryRecord,
    DeliveryState, Expiring, MAX_NOTICES_LISTED, MAX_WEBHOOKS, NewNotice, Nobody, Notice, NoticeFacts,
    NoticeKind, NoticeStore, Outcome, Outgoing, Target, TestedWebhook, To, ToldNotice, Undelivered,
    WebhookRecord, WebhookSecret, Whose, is_due_soon, once_for_end,
};
pub use policy::{
    AskedPolicy, MAX_POLICY_NETWORKS, Policy, PolicyChange, PolicyRecord, PolicyState, PolicyStore,
};
pub use power::{Credential, Power, PowerFacts, Powerless, TokenFacts};
pub use record::{
    Call, Change, DayCalls, KeptActivity, LogEntry, NetworkUse, PatRecord, RetiredSecret, RevokedPat,
    SessionRecord, TokenCalls, Usage, UserRecord, networks_of,
};
pub use revoke::{PatRef, Revoked};
pub use rotate::{DEFAULT_OVERLAP, MAX_OVERLAP, MIN_OWN_OVERLAP, Overlap, REPEATABLE_FOR, Rotate, Rotated};
pub use rotation::{
    FoundPat, PastRotation, RETIRED_SECRETS, Repeatable, RotateOutcome, Rotation, RotationStore, Secret,
};
pub use secret::{BadSecret, DevKey, ServerSecret};
pub use sessions::SessionSecret;
pub use skew::CLOCK_TOLERANCE;
pub use store::{
    Holder, KEPT_NETWORKS, LATEST_CALLS, Lease, NETWORK_STEP, NodeRecord, OTHER_TOOL, REVOKE_BATCH, Renewal,
    Revocation, RevokeOutcome, Store, StoreError, TOOLS_A_DAY, Terminated,
};
