//! Tests of the counters, and a walk through every table whose keys a caller chooses.

use std::net::Ipv6Addr;

use jiff::Timestamp;
use proptest::prelude::*;
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use super::*;
use crate::audit::{Actor, AuditEntry};
use crate::limits::Rates;
use crate::refusals::{MAX_PLACES, RefusalLog};
use crate::retired_uses::{MAX_USES, RetiredUses};
use crate::throttle::{MAX_COUNTERS, Throttle};
use crate::turns::{MAX_CLIENTS, Turns};

const SECOND: Duration = Duration::from_secs(1);

/// A different /48 for each number.
fn address(n: usize) -> Option<IpAddr> {
    let n = u128::try_from(n).expect("small");
    Some(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n << 80)))
}

fn digest(n: usize) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    TokenDigest::from_bytes(bytes)
}

/// A table, and what a caller does to it.
struct Table {
    name: &'static str,
    /// The file that holds it.
    file: &'static str,
    capacity: usize,
    /// Something with a new key: `true` if it was served.
    serve: Box<dyn Fn(usize) -> bool>,
    len: Box<dyn Fn() -> usize>,
}

fn table<T: 'static>(
    (name, file): (&'static str, &'static str),
    capacity: usize,
    table: T,
    serve: impl Fn(&T, usize) -> bool + 'static,
    len: impl Fn(&T) -> usize + 'static,
) -> Table {
    let table = std::rc::Rc::new(table);
    let other = std::rc::Rc::clone(&table);
    Table {
        name,
        file,
        capacity,
        serve: Box::new(move |n| serve(&table, n)),
        len: Box::new(move || len(&other)),
    }
}

fn sign_in(throttle: &Throttle, n: usize) -> bool {
    let email = format!("{n}@example.org");
    let is_served = throttle.take(&email, address(n), SECOND).map(|mut attempt| attempt.keep()).is_ok();
    throttle.learn(&email, Uuid::nil(), SECOND);
    is_served && throttle.whose(&email).is_some()
}

fn tables() -> Vec<Table> {
    let mut tables: Vec<_> = ["accounts", "pairs", "networks", "known accounts"]
        .into_iter()
        .enumerate()
        .map(|(kind, name)| {
            let sizes = move |throttle: &Throttle| throttle.sizes()[kind];
            table((name, "throttle.rs"), MAX_COUNTERS, Throttle::default(), sign_in, sizes)
        })
        .collect();
    let take = |turns: &Turns, n| turns.take(address(n), SECOND).is_ok();
    tables.push(table(("turns", "turns.rs"), MAX_CLIENTS, Turns::new(1), take, Turns::len));
    tables.push(table(
        ("retired uses", "retired_uses.rs"),
        MAX_USES,
        RetiredUses::default(),
        |uses, n| uses.is_news(&digest(n), SECOND),
        RetiredUses::len,
    ));
    tables.push(table(
        ("refusals", "refusals.rs"),
        MAX_PLACES,
        RefusalLog::default(),
        |log, n| {
            let actor = Actor::anonymous(address(n));
            log.add(AuditEntry::new(Timestamp::UNIX_EPOCH, actor, "refused.login"), "refused.login");
            true
        },
        RefusalLog::len,
    ));
    tables.push(table(
        ("rates", "rate.rs"),
        Rates::CAPACITY,
        Rates::default(),
        |rates, n| {
            let id = Uuid::from_u128(u128::try_from(n).expect("small"));
            rates.is_allowed(id, std::num::NonZeroU32::MIN, SECOND)
        },
        Rates::counted,
    ));
    tables
}

#[test]
fn no_table_refuses_new_keys_because_it_is_full() {
    for table in tables() {
        for n in 0..table.capacity + 500 {
            assert!((table.serve)(n), "{}: key {n} was not served", table.name);
        }
        let len = (table.len)();
        assert!(len <= table.capacity, "{}: {len} of {}", table.name, table.capacity);
    }
}

/// Tables that are not counters, with what bounds them.
const OTHER_TABLES: [(&str, &str); 10] = [
    ("activity.rs", "bounded by MAX_SUMS and MAX_SINGLE; calls past that are counted as lost"),
    ("counters.rs", "the counters themselves"),
    ("dispatch.rs", "one entry per webhook that was tried in the last seconds"),
    ("fence.rs", "one entry per log entry that is being applied"),
    ("index.rs", "the scopes of the tokens that exist; unused ones are swept"),
    ("leaks.rs", "MAX_CANDIDATES, for one report"),
    ("recent.rs", "the bounded table itself"),
    ("rekey.rs", "MAX_WAITING and MAX_SETTLED; a token past that is re-keyed at a later use"),
    ("usage.rs", "MAX_WAITING"),
    ("verify.rs", "one entry per request that waits for the store"),
];

/// So that a new table is either walked above or says here what bounds it.
#[test]
fn every_table_of_the_crate_is_walked_or_bounded_otherwise() {
    let mut walked: Vec<_> = tables().iter().map(|table| table.file).collect();
    walked.extend(OTHER_TABLES.iter().map(|(file, _)| *file));
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "contract" {
                    folders.push(path);
                }
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a source");
            let keeps = ["Mutex<HashMap<", ": HashMap<", "Mutex<BTreeMap<", "WindowCounters<", "Recent<"];
            let is_table = keeps.iter().any(|kept| source.contains(kept));
            let is_test = name.ends_with("_tests.rs");
            assert!(!is_table || is_test || walked.contains(&name.as_str()), "{name} keeps a table");
        }
    }
}

#[test]
fn networks_are_counted_by_three_widths_of_ipv6_and_one_of_ipv4() {
    let widths = |text: &str| -> Vec<_> {
        client_networks(text.parse().expect("an address"))
            .map(|(network, times)| (network.base.to_string(), network.bits, times))
            .collect()
    };
    let expected = [("2001:db8:1:203::", 64, 1), ("2001:db8:1:200::", 56, 2), ("2001:db8:1::", 48, 4)];
    assert_eq!(widths("2001:db8:1:203::9"), expected.map(|(base, bits, n)| (base.to_owned(), bits, n)));
    for v4 in ["192.0.2.7", "::ffff:192.0.2.7"] {
        assert_eq!(widths(v4), [("192.0.2.7".to_owned(), 32, 1)]);
    }
}

#[test]
fn attempt_given_back_leaves_a_later_window_alone() {
    let mut counters = WindowCounters::new(SECOND * 10, 10);
    let since = counters.add(&"key", SECOND);
    counters.add(&"key", SECOND * 11);
    counters.give_back(&"key", since);
    assert!(counters.refusal(&"key", 1, SECOND * 11).is_some());
}

proptest! {
    #[test]
    fn counters_agree_with_a_plain_map_while_there_is_room(
        steps in proptest::collection::vec((0u8..6, 0u64..4, 0u8..4), 1..300),
    ) {
        let window = SECOND * 10;
        let mut counters = WindowCounters::new(window, 6);
        let mut model: HashMap<u8, (u32, Duration)> = HashMap::new();
        let mut now = SECOND;
        for (key, gap, what) in steps {
            now += SECOND * u32::try_from(gap).expect("small");
            match what {
                0 => {
                    if let Some((count, since)) = model.get_mut(&key) {
                        counters.give_back(&key, *since);
                        *count = count.saturating_sub(1);
                    }
                }
                1 => {
                    counters.forget(&key);
                    model.remove(&key);
                }
                _ => {
                    counters.add(&key, now);
                    let slot = model.entry(key).or_insert((0, now));
                    if now - slot.1 >= window || slot.0 == 0 {
                        *slot = (0, now);
                    }
                    slot.0 += 1;
                }
            }
            for key in 0..6 {
                let expected = model
                    .get(&key)
                    .filter(|(count, since)| *count >= 3 && now - *since < window)
                    .map(|(_, since)| window - (now - *since));
                prop_assert_eq!(counters.refusal(&key, 3, now), expected);
            }
            prop_assert!(counters.len() <= 6);
        }
    }

    #[test]
    fn full_table_evicts_a_smallest_count(keys in proptest::collection::vec(0u16..40, 1..400)) {
        let mut counters = WindowCounters::new(SECOND * 1_000, 8);
        for key in keys {
            let before: HashMap<u16, u32> = counters.ranks.iter().map(|(key, rank)| (*key, rank.count)).collect();
            counters.add(&key, SECOND);
            let evicted = before.iter().filter(|(other, _)| !counters.ranks.contains_key(*other));
            for (_, count) in evicted {
                prop_assert_eq!(Some(count), before.values().min());
            }
            prop_assert!(counters.len() <= 8 && counters.ranks.contains_key(&key));
        }
    }
}
