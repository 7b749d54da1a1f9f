//! A table of bounded size for what was learned last: what is new takes the place of the oldest.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

use hashbrown::HashMap;

/// Values by key, and when each was put there, in time since boot.
pub(crate) struct Recent<K, V> {
    capacity: usize,
    values: HashMap<K, (Duration, u64, V)>,
    order: BTreeMap<(Duration, u64), K>,
    next_serial: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, values: HashMap::new(), order: BTreeMap::new(), next_serial: 0 }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, _, value)| value)
    }

    /// The time since which `key` has been there.
    pub(crate) fn since(&self, key: &K) -> Option<Duration> {
        self.values.get(key).map(|(at, ..)| *at)
    }

    pub(crate) fn insert(&mut self, key: K, value: V, now: Duration) {
        self.remove(&key);
        while self.values.len() >= self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.values.remove(&oldest);
        }
        self.order.insert((now, self.next_serial), key.clone());
        self.values.insert(key, (now, self.next_serial, value));
        self.next_serial += 1;
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((at, serial, _)) = self.values.remove(key) {
            self.order.remove(&(at, serial));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.values.len(), self.order.len());
        self.values.len()
    }
}
