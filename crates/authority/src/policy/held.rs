//! The policy as a node goes by it at the door.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::{Policy, PolicyRecord};
use crate::authority::AllowsFrom;

/// See the module. As long as the policy has no networks, a request costs one load of a flag.
#[derive(Default)]
pub(crate) struct Held {
    record: RwLock<Arc<PolicyRecord>>,
    has_networks: AtomicBool,
}

impl Held {
    /// Goes by this one from now on, unless it goes by a later one already: readings may come in
    /// late.
    pub(crate) fn take(&self, record: PolicyRecord) {
        let mut held = self.record.write();
        if record.seq < held.seq {
            return;
        }
        let has_networks = !record.policy.networks.is_empty();
        *held = Arc::new(record);
        // Under the lock: of two that come at once the later one has the last word here as well.
        self.has_networks.store(has_networks, Ordering::Release);
    }

    /// Whether tokens may be used from certain networks alone.
    #[inline]
    pub(crate) fn has_networks(&self) -> bool {
        self.has_networks.load(Ordering::Acquire)
    }

    /// Tells from where tokens may be used by this policy; `None`: from anywhere.
    pub(crate) fn allows(&self) -> Option<AllowsFrom> {
        let held = Arc::clone(&self.record.read());
        let is_open = held.policy.networks.is_empty();
        (!is_open).then(|| Arc::new(move |address| allows(&held.policy, address)) as AllowsFrom)
    }

    /// Whether tokens may be used from there. What is not known is nowhere.
    pub(crate) fn allows_from(&self, address: Option<IpAddr>) -> bool {
        let held = Arc::clone(&self.record.read());
        allows(&held.policy, address)
    }
}

fn allows(policy: &Policy, address: Option<IpAddr>) -> bool {
    let Policy { networks, .. } = policy;
    networks.is_empty()
        || address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, networks: &[&str]) -> PolicyRecord {
        let networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
        PolicyRecord { seq, policy: Policy { networks, ..Policy::default() } }
    }

    #[test]
    fn an_older_reading_that_comes_in_late_changes_nothing() {
        let held = Held::default();
        let away = Some("203.0.113.9".parse().expect("an address"));
        assert!(!held.has_networks() && held.allows_from(away) && held.allows_from(None));
        held.take(record(7, &["10.0.0.0/8"]));
        assert!(held.has_networks() && !held.allows_from(away) && !held.allows_from(None));
        held.take(record(6, &[]));
        assert!(held.has_networks() && !held.allows_from(away));
        held.take(record(8, &[]));
        assert!(!held.has_networks() && held.allows_from(away));
    }
}
