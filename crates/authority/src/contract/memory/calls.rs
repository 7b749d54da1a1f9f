//! What tokens have called, in the store in memory.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use trustrelay_token::Network;
use uuid::Uuid;

use crate::record::{Call, DayCalls, NetworkUse};
use crate::store::{KEPT_NETWORKS, NETWORK_STEP, OTHER_TOOL, TOOLS_A_DAY};

pub(super) fn day_of(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

pub(super) fn of<T>(all: &[(Uuid, T)], pat_id: Uuid) -> impl DoubleEndedIterator<Item = &T> {
    all.iter().filter(move |(of, _)| *of == pat_id).map(|(_, one)| one)
}

pub(super) fn newest_first(calls: &[(Uuid, Call)], pat_id: Uuid) -> Vec<Call> {
    let mut calls: Vec<_> = of(calls, pat_id).rev().cloned().collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.at));
    calls
}

pub(super) fn add_up(days: &mut Vec<(Uuid, DayCalls)>, pat_id: Uuid, mut more: DayCalls) {
    let tools: HashSet<_> = of(days, pat_id)
        .filter(|calls| calls.day == more.day && calls.tool != OTHER_TOOL)
        .map(|calls| (&calls.upstream, &calls.tool))
        .collect();
    if !tools.contains(&(&more.upstream, &more.tool)) && tools.len() >= TOOLS_A_DAY {
        OTHER_TOOL.clone_into(&mut more.tool);
    }
    let same = |calls: &DayCalls| {
        (calls.day, &calls.upstream, &calls.tool, &calls.outcome)
            == (more.day, &more.upstream, &more.tool, &more.outcome)
    };
    match days.iter_mut().find(|(of, calls)| *of == pat_id && same(calls)) {
        Some((_, sum)) => {
            sum.calls += more.calls;
            sum.duration += more.duration;
            sum.bytes_in += more.bytes_in;
            sum.bytes_out += more.bytes_out;
        }
        None => days.push((pat_id, more)),
    }
}

pub(super) fn latest_first(networks: &[(Uuid, NetworkUse)], pat_id: Uuid) -> Vec<NetworkUse> {
    let mut networks: Vec<_> = of(networks, pat_id).copied().collect();
    networks.sort_by_key(|used| (std::cmp::Reverse(used.last_used_at), used.network.to_string()));
    networks
}

pub(super) fn use_networks(
    kept: &mut Vec<(Uuid, NetworkUse)>,
    uses: BTreeMap<(Uuid, Network), NetworkUse>,
    is_known: impl Fn(Uuid) -> bool,
) {
    for ((pat_id, network), used) in uses.into_iter().filter(|((pat_id, _), _)| is_known(*pat_id)) {
        match kept.iter_mut().find(|(of, known)| *of == pat_id && known.network == network) {
            None => kept.push((pat_id, used)),
            Some((_, known)) => {
                let step = used.last_used_at.duration_since(known.last_used_at);
                if step >= NETWORK_STEP || used.first_used_at < known.first_used_at {
                    *known = known.and(&used);
                }
            }
        }
    }
    let tokens: HashSet<Uuid> = kept.iter().map(|(pat_id, _)| *pat_id).collect();
    for pat_id in tokens {
        let stay = latest_first(kept, pat_id);
        kept.retain(|(of, _)| *of != pat_id);
        kept.extend(stay.into_iter().take(KEPT_NETWORKS).map(|used| (pat_id, used)));
    }
}

pub(super) fn forget_networks(networks: &mut Vec<(Uuid, NetworkUse)>, before: Date, limit: u64) -> u64 {
    let mut forgotten = 0;
    networks.retain(|(_, used)| {
        !(day_of(used.last_used_at) < before && forgotten < limit && {
            forgotten += 1;
            true
        })
    });
    forgotten
}
