//! The limits of a token beyond its scopes.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use crate::Network;

/// The limits of a token. Each is optional; a token without any has no `Limits`.
///
/// ```
/// use trustrelay_token::Limits;
///
/// let limits = Limits { networks: vec!["192.0.2.0/24".parse().unwrap()], ..Limits::default() };
/// assert!(limits.allow_from(Some("192.0.2.7".parse().unwrap())));
/// assert!(!limits.allow_from(Some("198.51.100.7".parse().unwrap())));
/// assert!(!limits.allow_from(None), "an unknown address is in no network");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// The networks that the token may be used from. Empty: from anywhere.
    pub networks: Vec<Network>,
    /// The requests that the token may make in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// The days without a use after which the token is revoked.
    pub unused_days: Option<NonZeroU16>,
}

/// A limit that is wider than the one that it has to be within.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// A network that is not within.
    #[error("{network} is not within {within}")]
    Network {
        /// The network.
        network: Network,
        /// Those that it would have to be in.
        within: String,
    },
    /// More requests.
    #[error("at most {0} are allowed")]
    RequestsPerMinute(NonZeroU32),
    /// More days.
    #[error("at most {0} are allowed")]
    UnusedDays(NonZeroU16),
}

impl Limits {
    /// Returns whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the limits for sharing, or `None` if nothing is limited.
    pub fn shared(self) -> Option<Arc<Self>> {
        (!self.is_empty()).then(|| Arc::new(self))
    }

    /// Returns whether a token may be used from an address. From an unknown address it may be used
    /// only if it may be used from anywhere.
    pub fn allow_from(&self, address: Option<IpAddr>) -> bool {
        self.networks.is_empty()
            || address.is_some_and(|address| self.networks.iter().any(|network| network.contains(address)))
    }

    /// Fits these limits into wider ones: a limit that is absent here is taken from there, and one
    /// that is present may not be wider.
    ///
    /// # Errors
    /// The first limit that is wider.
    pub fn within(mut self, wider: &Self) -> Result<Self, Beyond> {
        if self.networks.is_empty() {
            self.networks.clone_from(&wider.networks);
        }
        let is_within = |network: &&Network| {
            wider.networks.is_empty() || wider.networks.iter().any(|outer| outer.covers(network))
        };
        if let Some(network) = self.networks.iter().find(|network| !is_within(network)) {
            return Err(Beyond::Network { network: *network, within: listed(&wider.networks) });
        }
        self.requests_per_minute = at_most(self.requests_per_minute, wider.requests_per_minute)
            .map_err(Beyond::RequestsPerMinute)?;
        self.unused_days = at_most(self.unused_days, wider.unused_days).map_err(Beyond::UnusedDays)?;
        Ok(self)
    }
}

fn at_most<T: Ord + Copy>(own: Option<T>, wider: Option<T>) -> Result<Option<T>, T> {
    match (own, wider) {
        (Some(own), Some(wider)) if own > wider => Err(wider),
        (own, wider) => Ok(own.or(wider)),
    }
}

fn listed(networks: &[Network]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(networks: &[&str], requests: u32, days: u16) -> Limits {
        Limits {
            networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
            requests_per_minute: NonZeroU32::new(requests),
            unused_days: NonZeroU16::new(days),
        }
    }

    #[test]
    fn no_limit_takes_no_place() {
        assert_eq!(Limits::default().shared(), None);
        for some in [limits(&["10.0.0.0/8"], 0, 0), limits(&[], 1, 0), limits(&[], 0, 1)] {
            assert!(some.shared().is_some());
        }
    }

    #[test]
    fn a_token_is_used_from_its_networks_alone_and_from_nowhere_that_is_not_known() {
        let held = limits(&["10.0.0.0/8", "2001:db8::/32"], 0, 0);
        for (address, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("11.0.0.1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(held.allow_from(Some(address.parse().expect("an address"))), may, "{address}");
        }
        assert!(!held.allow_from(None));
        assert!(Limits::default().allow_from(None));
    }

    #[test]
    fn what_is_not_limited_is_inherited() {
        let parent = limits(&["10.0.0.0/8"], 60, 30);
        assert_eq!(Limits::default().within(&parent), Ok(parent.clone()));
        let child = limits(&["10.1.0.0/16", "10.2.0.0/16"], 6, 3);
        assert_eq!(child.clone().within(&parent), Ok(child.clone()));
        assert_eq!(child.clone().within(&Limits::default()), Ok(child));
    }

    #[test]
    fn no_limit_may_be_wider_than_the_one_that_it_is_within() {
        let parent = limits(&["10.0.0.0/8", "192.0.2.0/24"], 60, 30);
        for (child, says) in [
            (limits(&["10.0.0.0/7"], 0, 0), "10.0.0.0/7 is not within 10.0.0.0/8, 192.0.2.0/24"),
            (limits(&["10.1.0.0/16", "2001:db8::/32"], 0, 0), "2001:db8::/32 is not within"),
            (limits(&[], 61, 0), "at most 60"),
            (limits(&[], 0, 31), "at most 30"),
        ] {
            let error = child.within(&parent).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(limits(&[], 60, 30).within(&parent).is_ok(), "as wide is not wider");
    }

    fn some_limits() -> impl Strategy<Value = Limits> {
        let network = (any::<u8>(), 0u8..=8).prop_map(|(first, bits)| {
            let masked = u8::try_from(u16::from(first) >> (8 - bits) << (8 - bits)).expect("a byte");
            format!("{masked}.0.0.0/{bits}")
        });
        (proptest::collection::vec(network, 0..4), 0u32..5, 0u16..5).prop_map(|(networks, requests, days)| {
            let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
            limits(&networks, requests, days)
        })
    }

    proptest! {
        #[test]
        fn what_is_within_allows_nothing_that_the_wider_forbids(
            own in some_limits(), parent in some_limits(), first: u8,
        ) {
            let Ok(child) = own.clone().within(&parent) else { return Ok(()) };
            let address = Some(IpAddr::from([first, 1, 2, 3]));
            prop_assert!(!child.allow_from(address) || parent.allow_from(address));
            prop_assert!(!child.allow_from(address) || own.allow_from(address));
            prop_assert!(parent.requests_per_minute.is_none_or(|most| child.requests_per_minute.is_some_and(|own| own <= most)));
            prop_assert!(parent.unused_days.is_none_or(|most| child.unused_days.is_some_and(|own| own <= most)));
            prop_assert_eq!(child.clone().within(&parent), Ok(child));
        }
    }
}
