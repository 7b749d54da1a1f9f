//! What tokens have called, in the store in memory.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::record::{Call, DayCalls};
use crate::store::{OTHER_TOOL, TOOLS_A_DAY};

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
