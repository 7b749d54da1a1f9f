//! How often one client may ask for what needs no credential.

use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::counters::{ClientNetwork, WindowCounters, client_networks};
use crate::error::AuthorityError;

/// How long turns are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// How many networks are told apart: at some 150 bytes each, 7.5 MB.
pub(crate) const MAX_CLIENTS: usize = 50_000;

/// Counts the requests of each client in the last minute. Clients without an address are one. An
/// IPv6 client is counted by its /64, and by its /56 and /48 with twice and four times as many.
pub(crate) struct Turns {
    most: u32,
    clients: Mutex<WindowCounters<Option<ClientNetwork>>>,
}

impl Turns {
    /// At most so many a minute for each client.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, clients: Mutex::new(WindowCounters::new(WINDOW, MAX_CLIENTS)) }
    }

    /// Takes a turn, before any work is done for it. It is not given back if the client goes away,
    /// for it pays for reading the body.
    pub(crate) fn take(&self, from: Option<IpAddr>, now: Duration) -> Result<(), AuthorityError> {
        let networks = || {
            let known = from.into_iter().flat_map(client_networks).map(|(net, times)| (Some(net), times));
            known.chain(from.is_none().then_some((None, 1)))
        };
        let mut clients = self.clients.lock();
        let refusals = networks().filter_map(|(net, times)| clients.refusal(&net, self.most * times, now));
        if let Some(retry_after) = refusals.max() {
            return Err(AuthorityError::Throttled { retry_after });
        }
        for (network, _) in networks() {
            clients.add(&network, now);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.clients.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn wait(turn: Result<(), AuthorityError>) -> Option<Duration> {
        match turn {
            Ok(()) => None,
            Err(AuthorityError::Throttled { retry_after }) => Some(retry_after),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_client_has_so_many_turns_a_minute_and_others_have_their_own() {
        let turns = Turns::new(2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().ok());
        let at = Duration::from_secs;
        assert_eq!(wait(turns.take(one, at(0))), None);
        assert_eq!(wait(turns.take(one, at(10))), None);
        assert_eq!(wait(turns.take(one, at(20))), Some(at(40)), "it says when there is one again");
        assert_eq!(wait(turns.take(other, at(20))), None);
        assert_eq!(wait(turns.take(None, at(20))), None);
        assert_eq!(wait(turns.take(one, at(60))), None, "the minute is over");
    }

    #[test]
    fn ipv6_clients_are_counted_by_wider_networks_too() {
        let turns = Turns::new(1);
        let now = Duration::ZERO;
        let take = |address: &str| wait(turns.take(address.parse().ok(), now));
        assert_eq!(take("2001:db8::1"), None);
        assert!(take("2001:db8::2").is_some(), "the same /64");
        assert_eq!(take("2001:db8:0:1::1"), None);
        assert!(take("2001:db8:0:2::1").is_some(), "the third of a /56");
        assert_eq!(take("2001:db8:0:100::1"), None);
        assert_eq!(take("2001:db8:0:200::1"), None);
        assert!(take("2001:db8:0:300::1").is_some(), "the fifth of a /48");
        assert_eq!(take("2001:db8:1::1"), None, "another /48");
    }

    #[test]
    fn flood_of_clients_refuses_nobody_and_keeps_the_counters_of_busy_ones() {
        let turns = Turns::new(2);
        let address = |n: u32| Some(IpAddr::from(Ipv4Addr::from_bits(n)));
        let now = Duration::from_secs(1);
        for _ in 0..2 {
            assert_eq!(wait(turns.take(address(7), now)), None);
        }
        for n in 100..100 + MAX_CLIENTS as u32 + 1_000 {
            assert_eq!(wait(turns.take(address(n), now)), None);
        }
        assert_eq!(turns.len(), MAX_CLIENTS);
        assert!(wait(turns.take(address(7), now)).is_some(), "the flood did not make it forgotten");
    }
}
