//! What a token is held to beyond its scopes: from where it is used, how often, and that it is used
//! at all.
//!
//! A token is held to it at the door that takes it, behind the judgment and before any work. One
//! without limits costs a branch.

mod rate;
mod unused;

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use trustrelay_token::{BadNetwork, Beyond, Limits, Principal};

use self::rate::Judged;
pub(crate) use self::rate::Rates;
pub use self::unused::UnusedStore;
pub(crate) use self::unused::end_unused;
use crate::audit::{AuditEntry, By};
use crate::authority::Authority;
use crate::error::{AuthorityError, waiting_time};
use crate::issue::invalid;

/// Most networks that a token is held to: at 18 bytes each, 288 bytes in the index; a listing shows
/// some 700.
pub const MAX_NETWORKS: usize = 16;
/// Most requests a minute that a token may be held to: what is more is no limit to a node.
pub const MAX_REQUESTS_PER_MINUTE: u32 = 1_000_000;
/// Most days without a use: no token lives longer.
pub const MAX_UNUSED_DAYS: u16 = 365;

/// What a token that is held to a rate may do from now on, on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many requests it may make in a minute.
    pub per_minute: NonZeroU32,
    /// How many it may make at once.
    pub left: u32,
    /// In what time that is one more.
    pub more_in: Duration,
}

/// What a request is refused by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OffLimits {
    /// It comes from elsewhere than the token may be used from.
    #[error("this token cannot be used from {}; use it from its allowed IP ranges, or create another token", here(*.from))]
    Network {
        /// From where; `None` if that cannot be told. The networks are not named: who has stolen
        /// the token would know where to go.
        from: Option<IpAddr>,
    },
    /// It comes from elsewhere than the policy lets tokens be used from.
    #[error("the policy does not allow tokens to be used from {}; use the token from an allowed IP range, or ask an administrator", here(*.from))]
    Policy {
        /// From where; `None` if that cannot be told. The networks are not named, as with a token's
        /// own.
        from: Option<IpAddr>,
    },
    /// It is one too many.
    #[error("this token is limited to {} requests per minute; try again in {}", .allowance.per_minute, waiting_time(.allowance.seconds()))]
    Rate {
        /// What is left: nothing, and when there is more.
        allowance: Allowance,
    },
}

impl OffLimits {
    /// What is left, if the refusal is by the rate: nothing, and when there is more.
    pub fn allowance(&self) -> Option<&Allowance> {
        match self {
            Self::Network { .. } | Self::Policy { .. } => None,
            Self::Rate { allowance } => Some(allowance),
        }
    }
}

fn here(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string())
}

/// In whole seconds, rounded up: who comes back too early is refused again.
fn seconds(time: &Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Allowance {
    /// In how many whole seconds there is one request more.
    pub fn seconds(&self) -> u64 {
        seconds(&self.more_in)
    }
}

/// Limits as somebody asks for them.
#[derive(Debug, Clone, Default)]
pub struct AskedLimits {
    /// In CIDR notation; an address is a network of one.
    pub networks: Vec<String>,
    /// From 1 to [`MAX_REQUESTS_PER_MINUTE`].
    pub requests_per_minute: Option<i64>,
    /// From 1 to [`MAX_UNUSED_DAYS`].
    pub unused_days: Option<i64>,
}

impl AskedLimits {
    /// Reads them.
    ///
    /// # Errors
    /// [`AuthorityError::Invalid`], with the field.
    pub fn read(self) -> Result<Limits, AuthorityError> {
        let networks = self.networks.iter().map(|text| text.parse());
        let networks: Result<_, BadNetwork> = networks.collect();
        Ok(Limits {
            networks: networks
                .map_err(|error| invalid("allowed_networks", format!("`allowed_networks`: {error}")))?,
            requests_per_minute: whole(
                "requests_per_minute",
                self.requests_per_minute,
                MAX_REQUESTS_PER_MINUTE.into(),
                |asked| u32::try_from(asked).ok().and_then(NonZeroU32::new),
            )?,
            unused_days: whole(
                "expires_if_unused_days",
                self.unused_days,
                MAX_UNUSED_DAYS.into(),
                |asked| u16::try_from(asked).ok().and_then(NonZeroU16::new),
            )?,
        })
    }
}

pub(crate) fn whole<T>(
    field: &'static str,
    asked: Option<i64>,
    most: i64,
    read: impl Fn(i64) -> Option<T>,
) -> Result<Option<T>, AuthorityError> {
    let Some(asked) = asked else { return Ok(None) };
    match read(asked).filter(|_| asked <= most) {
        Some(read) => Ok(Some(read)),
        None => {
            let message = format!("`{field}` must be a whole number from 1 to {most}");
            Err(invalid(field, message))
        }
    }
}

impl Authority {
    /// Holds a request to the limits of the token that it is made with and to the policy's
    /// networks, and notes a refusal in the audit log. `is_from_there`: whether the caller's
    /// address is the client's own; else nothing is known of it. What is left is counted on this
    /// node.
    ///
    /// # Errors
    /// If the request is not to be served.
    #[inline]
    pub fn hold_to_limits(
        &self,
        by: &Arc<Principal>,
        address: Option<IpAddr>,
        is_from_there: bool,
    ) -> Result<Option<Allowance>, OffLimits> {
        match &by.limits {
            None if !self.policy.has_networks() => Ok(None),
            limits => self.hold_to(limits.as_deref(), by, address, is_from_there),
        }
    }

    #[cold]
    fn hold_to(
        &self,
        limits: Option<&Limits>,
        by: &Arc<Principal>,
        address: Option<IpAddr>,
        is_from_there: bool,
    ) -> Result<Option<Allowance>, OffLimits> {
        let judged = self.judge_limits(limits, by, address.filter(|_| is_from_there));
        if let Err(off) = &judged {
            let action = match off {
                OffLimits::Network { .. } | OffLimits::Policy { .. } => "refused.network",
                OffLimits::Rate { .. } => "refused.rate",
            };
            let why: &[(&'static str, &str)] = match off {
                OffLimits::Policy { .. } => &[("reason", "policy")],
                _ => &[],
            };
            self.note_refusal_to(&By::new(by.clone(), address), action, why);
        }
        judged
    }

    fn judge_limits(
        &self,
        limits: Option<&Limits>,
        by: &Principal,
        from: Option<IpAddr>,
    ) -> Result<Option<Allowance>, OffLimits> {
        // A browser is not held to it: an administrator could lock everybody out, and nobody could
        // undo it.
        if by.pat_id().is_some() && !self.policy.allows_from(from) {
            return Err(OffLimits::Policy { from });
        }
        let Some(limits) = limits else { return Ok(None) };
        if !limits.allow_from(from) {
            return Err(OffLimits::Network { from });
        }
        let (Some(per_minute), Some(pat_id)) = (limits.requests_per_minute, by.pat_id()) else {
            return Ok(None);
        };
        match self.rates.judge(pat_id, per_minute, self.clock.since_boot()) {
            Judged { is_allowed: true, allowance } => Ok(Some(allowance)),
            Judged { is_allowed: false, allowance } => Err(OffLimits::Rate { allowance }),
        }
    }
}

/// The limits of a new token, within those of the token that it is made with.
pub(crate) fn checked(mut limits: Limits, parent: Option<&Limits>) -> Result<Limits, AuthorityError> {
    let mut known = Vec::new();
    limits.networks.retain(|network| {
        !known.contains(network) && {
            known.push(*network);
            true
        }
    });
    if limits.networks.len() > MAX_NETWORKS {
        let message = format!(
            "`allowed_networks` has {} networks; at most {MAX_NETWORKS} are allowed",
            limits.networks.len()
        );
        return Err(invalid("allowed_networks", message));
    }
    let Some(parent) = parent else { return Ok(limits) };
    limits.within(parent).map_err(|beyond| {
        let field = match beyond {
            Beyond::Network { .. } => "allowed_networks",
            Beyond::RequestsPerMinute(_) => "requests_per_minute",
            Beyond::UnusedDays(_) => "expires_if_unused_days",
        };
        invalid(
            field,
            format!(
                "`{field}`: a token cannot have wider limits than the token it was created with; {beyond}"
            ),
        )
    })
}

/// Limits, as the audit log tells them.
pub(crate) fn told(limits: &Limits, mut audit: AuditEntry) -> AuditEntry {
    if !limits.networks.is_empty() {
        let networks: Vec<_> = limits.networks.iter().map(ToString::to_string).collect();
        audit = audit.with("allowed_networks", networks.join(" "));
    }
    if let Some(requests) = limits.requests_per_minute {
        audit = audit.with("requests_per_minute", requests);
    }
    if let Some(days) = limits.unused_days {
        audit = audit.with("expires_if_unused_days", days);
    }
    audit
}
