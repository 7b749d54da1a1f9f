//! How many failed sign-ins are allowed, by account, by network, and by both.

use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::counters::{ClientNetwork, WindowCounters, client_networks};
use crate::error::AuthorityError;
use crate::recent::Recent;

/// How long failed attempts are counted together.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Failures that one network may have on one account, for people mistype. Twice and four times as
/// many by /56 and /48: 20 at most, so one network alone does not use up an account's
/// [`PER_ACCOUNT`].
const PER_PAIR: u32 = 5;
/// Failures that one network may have in all, for an office is behind one address. Twice and four
/// times as many by /56 and /48: 200 at most.
const PER_NETWORK: u32 = 50;
/// Failures that an account may see from everywhere: above what its owner needs, and far below what
/// guessing needs.
const PER_ACCOUNT: u32 = 100;
/// Counters of each of the three kinds: at some 200 bytes each, 3 × 20,000 take 12 MB.
pub(crate) const MAX_COUNTERS: usize = 20_000;

/// An e-mail address, hashed: a caller chooses its length, and must not choose the size of a
/// counter.
type Account = [u8; 32];

fn account(email: &str) -> Account {
    Sha256::digest(email).into()
}

/// Counts failed sign-ins. An unknown account counts like a known one.
pub(crate) struct Throttle {
    failures: Mutex<Failures>,
    /// The accounts that exist among those that sign-ins failed at: for the audit log, which holds
    /// nothing that was typed. At some 120 bytes each, 2.4 MB.
    known: Mutex<Recent<Account, Uuid>>,
}

/// Each kind has its own table, so that account names, which cost nothing to make up, cannot crowd
/// out the counters of networks.
struct Failures {
    accounts: WindowCounters<Account>,
    pairs: WindowCounters<(Account, Option<ClientNetwork>)>,
    networks: WindowCounters<ClientNetwork>,
}

impl Default for Throttle {
    fn default() -> Self {
        let failures = Failures {
            accounts: WindowCounters::new(WINDOW, MAX_COUNTERS),
            pairs: WindowCounters::new(WINDOW, MAX_COUNTERS),
            networks: WindowCounters::new(WINDOW, MAX_COUNTERS),
        };
        Self { failures: Mutex::new(failures), known: Mutex::new(Recent::new(MAX_COUNTERS)) }
    }
}

/// The networks of a pair: one without a network, if the address is not known.
fn pair_networks(from: Option<IpAddr>) -> Vec<(Option<ClientNetwork>, u32)> {
    match from {
        Some(from) => client_networks(from).map(|(network, times)| (Some(network), times)).collect(),
        None => vec![(None, 1)],
    }
}

impl Failures {
    fn refusal(&self, email: &str, from: Option<IpAddr>, now: Duration) -> Option<Duration> {
        let account = account(email);
        let by_account = self.accounts.refusal(&account, PER_ACCOUNT, now);
        let by_pair = pair_networks(from)
            .into_iter()
            .filter_map(|(network, times)| self.pairs.refusal(&(account, network), PER_PAIR * times, now));
        let by_network = from
            .into_iter()
            .flat_map(client_networks)
            .filter_map(|(network, times)| self.networks.refusal(&network, PER_NETWORK * times, now));
        by_account.into_iter().chain(by_pair).chain(by_network).max()
    }
}

impl Throttle {
    /// Takes one attempt out of what is left, before any work is done for it.
    pub(crate) fn take(
        &self,
        email: &str,
        from: Option<IpAddr>,
        now: Duration,
    ) -> Result<Attempt<'_>, AuthorityError> {
        let mut failures = self.failures.lock();
        if let Some(retry_after) = failures.refusal(email, from, now) {
            return Err(AuthorityError::Throttled { retry_after });
        }
        let account = account(email);
        let in_account = failures.accounts.add(&account, now);
        let pairs = pair_networks(from)
            .into_iter()
            .map(|(network, _)| (network, failures.pairs.add(&(account, network), now)))
            .collect();
        let networks = from
            .into_iter()
            .flat_map(client_networks)
            .map(|(network, _)| (network, failures.networks.add(&network, now)))
            .collect();
        let counted = Counted { account, in_account, pairs, networks };
        Ok(Attempt { throttle: self, counted, is_kept: false })
    }

    /// Remembers that an account exists.
    pub(crate) fn learn(&self, email: &str, user_id: Uuid, now: Duration) {
        self.known.lock().insert(account(email), user_id, now);
    }

    /// The account, if a sign-in failed at it not long ago.
    pub(crate) fn whose(&self, email: &str) -> Option<Uuid> {
        self.known.lock().get(&account(email)).copied()
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 4] {
        let failures = self.failures.lock();
        let known = self.known.lock().len();
        [failures.accounts.len(), failures.pairs.len(), failures.networks.len(), known]
    }
}

/// Counters that an attempt was counted in, each with the beginning of its window.
struct Counted {
    account: Account,
    in_account: Duration,
    pairs: Vec<(Option<ClientNetwork>, Duration)>,
    networks: Vec<(ClientNetwork, Duration)>,
}

/// An attempt that was counted.
///
/// If it is dropped before [`Attempt::keep`], it is taken back: a request that was abandoned while
/// it waited has tried no password. Afterwards it counts, also if its client goes away: else
/// hashing could be had for nothing by hanging up.
pub(crate) struct Attempt<'a> {
    throttle: &'a Throttle,
    counted: Counted,
    is_kept: bool,
}

impl Attempt<'_> {
    /// From here on the attempt counts, unless it is given back or forgiven.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Takes the attempt back.
    pub(crate) fn give_back(mut self) {
        self.is_kept = false;
    }

    /// Takes the attempt back, and forgives the earlier failures of the pair.
    pub(crate) fn forgive(self) {
        let mut failures = self.throttle.failures.lock();
        for (network, _) in &self.counted.pairs {
            failures.pairs.forget(&(self.counted.account, *network));
        }
        drop(failures);
        self.give_back();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let mut failures = self.throttle.failures.lock();
        let Counted { account, in_account, pairs, networks } = &self.counted;
        failures.accounts.give_back(account, *in_account);
        for (network, since) in pairs {
            failures.pairs.give_back(&(*account, *network), *since);
        }
        for (network, since) in networks {
            failures.networks.give_back(network, *since);
        }
    }
}
