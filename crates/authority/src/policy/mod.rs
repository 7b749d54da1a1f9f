//! The policy: what administrators decide for everybody's tokens.
//!
//! Life and scopes hold for what is made from then on, networks and being used for all tokens at
//! once. Whoever makes a token asks the store, which is never behind; at the door each node goes by
//! what it holds in memory ([`held`]), and a change is a log entry that makes every node read it
//! anew before it is answered.

mod change;
mod held;
mod store;

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use trustrelay_token::{Network, ScopeSet};

pub use change::{PolicyChange, PolicyState};
pub(crate) use held::Held;
pub use store::{PolicyRecord, PolicyStore};

use crate::error::AuthorityError;
use crate::issue::{DEFAULT_DAYS, MAX_DAYS, invalid};
use crate::limits::{MAX_UNUSED_DAYS, whole};

/// Most networks of the policy: each request with a token looks through them, in a microsecond.
pub const MAX_POLICY_NETWORKS: usize = 64;

/// What all tokens are held to. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// How many days a token lives at most, from when it is made or rotated.
    pub max_days: Option<NonZeroU16>,
    /// How many days a token lives if nothing is said.
    pub default_days: Option<NonZeroU16>,
    /// What tokens may open; `None`: whatever there is. Each scope of a token is one of these, or
    /// covered by one.
    pub allowed_scopes: Option<ScopeSet>,
    /// After how many days without a use a token ends.
    pub unused_days: Option<NonZeroU16>,
    /// From where alone tokens may be used. Empty: from anywhere.
    pub networks: Vec<Network>,
}

/// A policy as somebody asks for it.
#[derive(Debug, Clone, Default)]
pub struct AskedPolicy {
    /// From 1 to [`MAX_DAYS`].
    pub max_days: Option<i64>,
    /// From 1 to `max_days`.
    pub default_days: Option<i64>,
    /// One by one; none: all.
    pub allowed_scopes: Vec<String>,
    /// From 1 to [`MAX_UNUSED_DAYS`].
    pub unused_days: Option<i64>,
    /// In CIDR notation; an address is a network of one.
    pub networks: Vec<String>,
}

/// How it is kept, and told in the audit log. What a program does not know it refuses: a rule must
/// not be passed over.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_days: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_days: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unused_days: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_networks: Vec<String>,
}

impl AskedPolicy {
    /// Reads it.
    ///
    /// # Errors
    /// [`AuthorityError::Invalid`], with the field.
    pub fn read(self) -> Result<Policy, AuthorityError> {
        let days = |field, asked, most: i64| {
            whole(field, asked, most, |asked| u16::try_from(asked).ok().and_then(NonZeroU16::new))
        };
        let max_days = days("max_days", self.max_days, MAX_DAYS)?;
        let default_days = days("default_days", self.default_days, MAX_DAYS)?;
        if let (Some(default), Some(most)) = (default_days, max_days)
            && default > most
        {
            let message = format!(
                "`default_days` is {default}, but it cannot be more than `max_days`, which is {most}"
            );
            return Err(invalid("default_days", message));
        }
        let scopes = self.allowed_scopes.join(" ");
        let allowed_scopes = if scopes.trim().is_empty() {
            None
        } else {
            let read = scopes.parse::<ScopeSet>();
            Some(read.map_err(|error| invalid("allowed_scopes", format!("`allowed_scopes`: {error}")))?)
        };
        let mut networks: Vec<Network> = Vec::new();
        for text in &self.networks {
            let network = text
                .parse()
                .map_err(|error| invalid("allowed_networks", format!("`allowed_networks`: {error}")))?;
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
        if networks.len() > MAX_POLICY_NETWORKS {
            let message = format!(
                "`allowed_networks` has {} networks; at most {MAX_POLICY_NETWORKS} are allowed",
                networks.len()
            );
            return Err(invalid("allowed_networks", message));
        }
        let unused_days = days("unused_days", self.unused_days, MAX_UNUSED_DAYS.into())?;
        Ok(Policy { max_days, default_days, allowed_scopes, unused_days, networks })
    }
}

impl Policy {
    /// How many days a token lives at most.
    pub fn longest(&self) -> i64 {
        self.max_days.map_or(MAX_DAYS, |days| days.get().into())
    }

    /// How many days a token lives if nothing is said.
    pub fn usual(&self) -> i64 {
        self.default_days.map_or(DEFAULT_DAYS, |days| days.get().into()).min(self.longest())
    }

    /// Whether any rule lets tokens do more, or live longer, than under `before`. A rule that is
    /// merely different, such as networks of which none is within an earlier one, counts as wider.
    pub fn widens(&self, before: &Self) -> bool {
        let scopes = match (&self.allowed_scopes, &before.allowed_scopes) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(now), Some(before)) => !now.is_within(before),
        };
        let unused = match (self.unused_days, before.unused_days) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(now), Some(before)) => now > before,
        };
        let is_within = |network: &Network| before.networks.iter().any(|before| before.covers(network));
        let networks =
            !before.networks.is_empty() && (self.networks.is_empty() || !self.networks.iter().all(is_within));
        let life = self.longest() > before.longest() || self.usual() > before.usual();
        scopes || unused || networks || life
    }

    /// Refuses what opens more than tokens may.
    pub(crate) fn check(&self, scopes: &ScopeSet) -> Result<(), AuthorityError> {
        let Some(allowed) = &self.allowed_scopes else { return Ok(()) };
        match scopes.iter().find(|scope| !allowed.allows(scope)) {
            None => Ok(()),
            Some(beyond) => Err(AuthorityError::Policy {
                field: "pat_scope",
                message: format!("`pat_scope`: the policy does not allow `{beyond}`; it allows: {allowed}"),
            }),
        }
    }

    /// As text, as it is kept: JSON.
    pub fn to_json(&self) -> String {
        let days = |days: Option<NonZeroU16>| days.map(|days| days.get().into());
        let scopes = self.allowed_scopes.iter().flat_map(ScopeSet::iter);
        let kept = Kept {
            max_days: days(self.max_days),
            default_days: days(self.default_days),
            allowed_scopes: scopes.map(ToString::to_string).collect(),
            unused_days: days(self.unused_days),
            allowed_networks: self.networks.iter().map(ToString::to_string).collect(),
        };
        // There is nothing in it that JSON cannot say.
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// It is none, or says more than this program knows.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let kept: Kept = serde_json::from_str(text).map_err(|error| format!("the policy: {error}"))?;
        let asked = AskedPolicy {
            max_days: kept.max_days,
            default_days: kept.default_days,
            allowed_scopes: kept.allowed_scopes,
            unused_days: kept.unused_days,
            networks: kept.allowed_networks,
        };
        asked.read().map_err(|error| format!("the policy: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(max: Option<i64>, default: Option<i64>, scopes: &[&str], networks: &[&str]) -> AskedPolicy {
        AskedPolicy {
            max_days: max,
            default_days: default,
            allowed_scopes: scopes.iter().map(|text| (*text).to_owned()).collect(),
            unused_days: None,
            networks: networks.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn a_policy_reads_back_as_it_was_kept() {
        let networks = ["10.0.0.0/8", "2001:db8::/32", "10.0.0.0/8"];
        let whole = asked(Some(90), Some(30), &["mcp", "api:read"], &networks);
        for asked in [AskedPolicy::default(), AskedPolicy { unused_days: Some(45), ..whole }] {
            let policy = asked.read().expect("a policy");
            assert_eq!(Policy::from_json(&policy.to_json()), Ok(policy));
        }
        assert_eq!(Policy::default().to_json(), "{}", "what nobody has decided is not kept");
    }

    #[test]
    fn what_is_no_policy_is_refused_by_the_name_of_its_field() {
        let many: Vec<String> = (0..=MAX_POLICY_NETWORKS).map(|n| format!("10.0.{n}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (asked, field) in [
            (asked(Some(0), None, &[], &[]), "max_days"),
            (asked(Some(366), None, &[], &[]), "max_days"),
            (asked(None, Some(-1), &[], &[]), "default_days"),
            (asked(Some(30), Some(31), &[], &[]), "default_days"),
            (asked(None, None, &["mcp", "root"], &[]), "allowed_scopes"),
            (asked(None, None, &[], &["10.1.2.3/8"]), "allowed_networks"),
            (asked(None, None, &[], &many), "allowed_networks"),
            (AskedPolicy { unused_days: Some(366), ..AskedPolicy::default() }, "unused_days"),
        ] {
            let error = asked.clone().read().expect_err(field);
            let AuthorityError::Invalid { field: named, message } = error else { panic!("{error}") };
            assert!(named == field && message.contains(field), "{asked:?}: {message}");
        }
    }

    #[test]
    fn a_rule_that_this_program_does_not_know_is_not_passed_over() {
        for text in ["", r#"{"max_days":"90"}"#, r#"{"max_days":0}"#, r#"{"max_days":90,"two_people":true}"#]
        {
            assert!(Policy::from_json(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_rule_that_is_relaxed_widens_the_policy_and_none_that_is_tightened() {
        let days = |days| NonZeroU16::new(days);
        let scopes = |text: &str| Some(text.parse::<ScopeSet>().expect("scopes"));
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().expect("a network")).collect();
        let held = Policy {
            max_days: days(90),
            default_days: days(30),
            allowed_scopes: scopes("mcp api:read"),
            unused_days: days(45),
            networks: networks(&["10.0.0.0/8", "192.0.2.0/24"]),
        };
        assert!(!held.widens(&held) && !held.widens(&Policy::default()) && Policy::default().widens(&held));
        let narrower = [
            Policy { max_days: days(30), ..held.clone() },
            Policy { default_days: days(1), ..held.clone() },
            Policy { allowed_scopes: scopes("mcp:read api:read"), ..held.clone() },
            Policy { unused_days: days(1), ..held.clone() },
            Policy { networks: networks(&["10.1.0.0/16"]), ..held.clone() },
        ];
        for policy in narrower {
            assert!(!policy.widens(&held) && held.widens(&policy), "{policy:?}");
        }
        let wider = [
            Policy { max_days: None, ..held.clone() },
            Policy { max_days: days(91), ..held.clone() },
            Policy { default_days: None, ..held.clone() },
            Policy { allowed_scopes: None, ..held.clone() },
            Policy { allowed_scopes: scopes("mcp api"), ..held.clone() },
            Policy { unused_days: None, ..held.clone() },
            Policy { unused_days: days(46), ..held.clone() },
            Policy { networks: Vec::new(), ..held.clone() },
            Policy { networks: networks(&["0.0.0.0/0"]), ..held.clone() },
            Policy { networks: networks(&["10.0.0.0/8", "198.51.100.0/24"]), ..held.clone() },
        ];
        for policy in wider {
            assert!(policy.widens(&held), "{policy:?}");
        }
    }

    #[test]
    fn a_usual_life_is_no_longer_than_the_longest() {
        let life = |max, default| {
            let policy = asked(max, default, &[], &[]).read().expect("a policy");
            (policy.longest(), policy.usual())
        };
        assert_eq!(life(None, None), (MAX_DAYS, DEFAULT_DAYS));
        assert_eq!(life(Some(90), None), (90, 90));
        assert_eq!(life(None, Some(30)), (MAX_DAYS, 30));
        assert_eq!(life(Some(90), Some(30)), (90, 30));
    }
}
