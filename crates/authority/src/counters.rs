//! Counters over a window of time, in a table of bounded size.
//!
//! Callers choose the keys (their addresses, the accounts that they try), so the table must never
//! refuse anybody because it is full. A new key takes the place of the smallest count, and among
//! equal counts of the oldest one: to forget a counter that is about to refuse, a flood has to
//! bring every other counter of the table to the same height first.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;

/// Expired counters are swept at most this many times per window, and only while the table is full.
const SWEEPS_PER_WINDOW: u32 = 16;

/// A position in the order in which counters make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    count: u32,
    since: Duration,
    serial: u64,
}

/// Counts per key. At most `capacity` keys are kept.
pub(crate) struct WindowCounters<K> {
    window: Duration,
    capacity: usize,
    ranks: HashMap<K, Rank>,
    order: BTreeMap<Rank, K>,
    next_serial: u64,
    swept_at: Duration,
}

impl<K: Clone + Eq + Hash> WindowCounters<K> {
    pub(crate) fn new(window: Duration, capacity: usize) -> Self {
        Self {
            window,
            capacity,
            ranks: HashMap::new(),
            order: BTreeMap::new(),
            next_serial: 0,
            swept_at: Duration::ZERO,
        }
    }

    /// The time until `key` may be counted again, if it has reached `most` in this window.
    pub(crate) fn refusal(&self, key: &K, most: u32, now: Duration) -> Option<Duration> {
        let rank = self.ranks.get(key)?;
        let passed = now.saturating_sub(rank.since);
        (rank.count >= most && passed < self.window).then(|| self.window - passed)
    }

    /// Counts one more. The answer is the beginning of the window that it was counted in.
    pub(crate) fn add(&mut self, key: &K, now: Duration) -> Duration {
        let (count, since) = match self.remove(key) {
            Some(rank) if now.saturating_sub(rank.since) < self.window => (rank.count, rank.since),
            _ => (0, now),
        };
        self.make_room(now);
        self.insert(key.clone(), count.saturating_add(1), since);
        since
    }

    /// Takes one back from the window that began at `since`. A later window is left alone.
    pub(crate) fn give_back(&mut self, key: &K, since: Duration) {
        if self.ranks.get(key).is_none_or(|rank| rank.since != since) {
            return;
        }
        if let Some(rank) = self.remove(key)
            && rank.count > 1
        {
            self.insert(key.clone(), rank.count - 1, rank.since);
        }
    }

    pub(crate) fn forget(&mut self, key: &K) {
        self.remove(key);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.ranks.len(), self.order.len());
        self.ranks.len()
    }

    fn insert(&mut self, key: K, count: u32, since: Duration) {
        let rank = Rank { count, since, serial: self.next_serial };
        self.next_serial += 1;
        self.order.insert(rank, key.clone());
        self.ranks.insert(key, rank);
    }

    fn remove(&mut self, key: &K) -> Option<Rank> {
        let rank = self.ranks.remove(key)?;
        self.order.remove(&rank);
        Some(rank)
    }

    /// Makes room for one key.
    fn make_room(&mut self, now: Duration) {
        if self.ranks.len() < self.capacity {
            return;
        }
        // A sweep looks at all keys, so it must not be had for every request of a flood.
        if now.saturating_sub(self.swept_at) >= self.window / SWEEPS_PER_WINDOW {
            self.swept_at = now;
            let window = self.window;
            self.ranks.retain(|_, rank| now.saturating_sub(rank.since) < window);
            self.order.retain(|rank, _| now.saturating_sub(rank.since) < window);
        }
        while self.ranks.len() >= self.capacity
            && let Some((_, key)) = self.order.pop_first()
        {
            self.ranks.remove(&key);
        }
    }
}

/// A network that one client may have to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientNetwork {
    base: IpAddr,
    bits: u8,
}

/// Providers assign prefixes from /48 to /64 to one customer (RFC 6177 §2), who may then use any
/// address within. So an IPv6 address is counted by each of these widths, and the wider ones allow
/// the multiple that stands here: several customers may be behind them.
const IPV6_WIDTHS: [(u8, u32); 3] = [(64, 1), (56, 2), (48, 4)];

/// The networks that a client is counted by, each with the multiple of the limit that it is
/// allowed, narrowest first. An IPv4 address is counted by itself.
pub(crate) fn client_networks(address: IpAddr) -> impl Iterator<Item = (ClientNetwork, u32)> {
    let (v4, v6) = match address.to_canonical() {
        IpAddr::V4(v4) => (Some((ClientNetwork { base: IpAddr::V4(v4), bits: 32 }, 1)), None),
        IpAddr::V6(v6) => (None, Some(v6)),
    };
    let widths = v6.into_iter().flat_map(|v6| {
        IPV6_WIDTHS.map(|(bits, multiple)| {
            let host = 128 - u32::from(bits);
            let base = IpAddr::V6((v6.to_bits() >> host << host).into());
            (ClientNetwork { base, bits }, multiple)
        })
    });
    v4.into_iter().chain(widths)
}

/// The network that one client has at least: an IPv4 address, or the /64 of an IPv6 address, within
/// which it may choose (RFC 4291 §2.5.4).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    client_networks(address).next().map_or(address, |(network, _)| network.base)
}

/// The widest network that one client may have.
pub(crate) fn widest_network(address: IpAddr) -> IpAddr {
    client_networks(address).last().map_or(address, |(network, _)| network.base)
}

#[cfg(test)]
#[path = "counters_tests.rs"]
mod tests;
