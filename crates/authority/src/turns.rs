//! How often one client may ask for what needs no credential.

use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::error::AuthorityError;
use crate::sessions::network;

/// How long turns are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// How many clients are told apart: at some 80 bytes each, 4 MB. When all places are taken, a client that is new waits.
const MAX_CLIENTS: usize = 50_000;

/// Counts what each client has asked for in the last minute; clients without an address are one.
pub(crate) struct Turns {
    most: u32,
    clients: Mutex<HashMap<Option<IpAddr>, (u32, Duration)>>,
}

impl Turns {
    /// At most so many a minute for each client.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, clients: Mutex::default() }
    }

    /// Takes a turn, before any work is done for it.
    pub(crate) fn take(&self, from: Option<IpAddr>, now: Duration) -> Result<(), AuthorityError> {
        let mut clients = self.clients.lock();
        let client = from.map(network);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, (_, since)| now.saturating_sub(*since) < WINDOW);
            if clients.len() >= MAX_CLIENTS {
                return Err(AuthorityError::Throttled { retry_after: WINDOW });
            }
        }
        let (count, since) = clients.entry(client).or_insert((0, now));
        let passed = now.saturating_sub(*since);
        if passed >= WINDOW {
            (*count, *since) = (0, now);
        } else if *count >= self.most {
            return Err(AuthorityError::Throttled { retry_after: WINDOW - passed });
        }
        *count += 1;
        Ok(())
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
    fn one_network_of_ipv6_is_one_client() {
        let turns = Turns::new(1);
        let now = Duration::ZERO;
        assert_eq!(wait(turns.take("2001:db8::1".parse().ok(), now)), None);
        assert!(wait(turns.take("2001:db8::2".parse().ok(), now)).is_some());
        assert_eq!(wait(turns.take("2001:db8:0:1::1".parse().ok(), now)), None);
    }

    #[test]
    fn a_flood_of_clients_takes_no_more_memory_and_keeps_known_ones_going() {
        let turns = Turns::new(2);
        let address = |n: u32| Some(IpAddr::from(Ipv4Addr::from_bits(n)));
        for n in 0..50_000 {
            assert_eq!(wait(turns.take(address(n), Duration::ZERO)), None);
        }
        assert!(wait(turns.take(address(50_000), Duration::from_secs(1))).is_some());
        assert_eq!(turns.clients.lock().len(), MAX_CLIENTS);
        assert_eq!(wait(turns.take(address(7), Duration::from_secs(1))), None);
        assert_eq!(wait(turns.take(address(50_000), WINDOW)), None, "whoever was quiet makes room");
    }
}
