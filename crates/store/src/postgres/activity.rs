//! The calls of tokens: daily sums, and the latest calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{try_join3, try_join4, try_join5};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use tokio_postgres::Row;
use trustrelay_authority::{Call, DayCalls, KeptActivity, LATEST_CALLS, OTHER_TOOL, TOOLS_A_DAY, TokenCalls};
use uuid::Uuid;

use super::errors::Failure;
use super::link::{Link, Links};
use super::networks::network;
use super::rows::{corrupt, get, number, time, whole};

pub(super) async fn record(links: &Links, notes: &[TokenCalls]) -> Result<(), Failure> {
    let ids: BTreeSet<Uuid> = notes.iter().map(|note| note.pat_id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let days: BTreeSet<String> =
        notes.iter().flat_map(|note| &note.days).map(|calls| calls.day.to_string()).collect();
    let days: Vec<String> = days.into_iter().collect();

    let link = links.link().await?;
    // Also serializes two nodes that record calls of the same token. Locks in the same order as
    // `pats::revoke`.
    let lock = link
        .prepare("SELECT pat_id FROM pats WHERE pat_id = ANY ($1) ORDER BY pat_id FOR NO KEY UPDATE")
        .await?;
    let named = link
        .prepare("SELECT DISTINCT pat_id, day, upstream, tool FROM call_days WHERE pat_id = ANY ($1) AND day = ANY ($2)")
        .await?;
    let statements = Statements::prepare(&link).await?;
    let ((), known, named) =
        try_join3(link.batch("BEGIN"), link.rows(&lock, &[&ids]), link.rows(&named, &[&ids, &days])).await?;
    let known: BTreeSet<Uuid> = known.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let mut places = Places::default();
    for row in &named {
        places.take(get(row, 0)?, get(row, 1)?, (get(row, 2)?, get(row, 3)?));
    }
    let notes: Vec<&TokenCalls> = notes.iter().filter(|note| known.contains(&note.pat_id)).collect();
    let sums = add_up(&notes, &mut places);
    let latest =
        Columns::of(notes.iter().flat_map(|note| note.latest.iter().map(|call| (note.pat_id, call))));
    statements.write(&link, &sums, &latest, &ids).await?;
    link.keep(Ok(()))
}

/// The name of an upstream and the name of a tool.
type Tool = (String, Vec<u8>);

/// The tools that have an entry of their own, by token and day.
#[derive(Default)]
struct Places(BTreeMap<(Uuid, String), BTreeSet<Tool>>);

impl Places {
    /// Reserves an entry for a tool, unless none is left. Returns whether the tool has one.
    fn take(&mut self, pat_id: Uuid, day: String, tool: Tool) -> bool {
        if tool.1 == OTHER_TOOL.as_bytes() {
            return true;
        }
        let taken = self.0.entry((pat_id, day)).or_default();
        if taken.contains(&tool) {
            return true;
        }
        let free = taken.len() < TOOLS_A_DAY;
        if free {
            taken.insert(tool);
        }
        free
    }
}

type Key = (Uuid, String, String, Vec<u8>, String);
type Sums = BTreeMap<Key, [i64; 4]>;

/// Sums up the rows, because a statement cannot change the same row twice.
fn add_up(notes: &[&TokenCalls], places: &mut Places) -> Sums {
    let mut sums = Sums::new();
    for note in notes {
        for calls in &note.days {
            let day = calls.day.to_string();
            let mut tool = calls.tool.as_bytes().to_vec();
            if !places.take(note.pat_id, day.clone(), (calls.upstream.clone(), tool.clone())) {
                tool = OTHER_TOOL.as_bytes().to_vec();
            }
            let key = (note.pat_id, day, calls.upstream.clone(), tool, calls.outcome.to_string());
            let more =
                [whole(calls.calls), micros(calls.duration), whole(calls.bytes_in), whole(calls.bytes_out)];
            let sum = sums.entry(key).or_default();
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum = sum.saturating_add(more);
            }
        }
    }
    sums
}

/// Individual calls as arrays, so that one statement writes all of them.
#[derive(Default)]
struct Columns {
    pats: Vec<Uuid>,
    times: Vec<i64>,
    upstreams: Vec<String>,
    tools: Vec<Vec<u8>>,
    outcomes: Vec<String>,
    numbers: [Vec<i64>; 3],
}

impl Columns {
    fn of<'a>(calls: impl Iterator<Item = (Uuid, &'a Call)>) -> Self {
        let mut columns = Self::default();
        for (pat_id, call) in calls {
            columns.pats.push(pat_id);
            columns.times.push(call.at.as_microsecond());
            columns.upstreams.push(call.upstream.clone());
            columns.tools.push(call.tool.as_bytes().to_vec());
            columns.outcomes.push(call.outcome.to_string());
            let numbers = [micros(call.duration), whole(call.bytes_in), whole(call.bytes_out)];
            for (column, number) in columns.numbers.iter_mut().zip(numbers) {
                column.push(number);
            }
        }
        columns
    }
}

struct Statements {
    add: tokio_postgres::Statement,
    insert: tokio_postgres::Statement,
    cut: tokio_postgres::Statement,
}

impl Statements {
    async fn prepare(link: &Link) -> Result<Self, Failure> {
        let add = link
            .prepare(
                "INSERT INTO call_days AS d (pat_id, day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out) \
                 SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[], \
                 $8::bigint[], $9::bigint[]) ON CONFLICT (pat_id, day, upstream, tool, outcome) DO UPDATE SET \
                 calls = d.calls + excluded.calls, duration = d.duration + excluded.duration, \
                 bytes_in = d.bytes_in + excluded.bytes_in, bytes_out = d.bytes_out + excluded.bytes_out",
            )
            .await?;
        let insert = link
            .prepare(
                "INSERT INTO latest_calls (pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out) \
                 SELECT pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out \
                 FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[]) \
                 WITH ORDINALITY AS c (pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out, place) ORDER BY place",
            )
            .await?;
        let cut = link
            .prepare(
                "DELETE FROM latest_calls WHERE call_id IN (SELECT call_id FROM (SELECT call_id, \
                 row_number() OVER (PARTITION BY pat_id ORDER BY at DESC, call_id DESC) AS place \
                 FROM latest_calls WHERE pat_id = ANY ($1)) AS c WHERE place > $2)",
            )
            .await?;
        Ok(Self { add, insert, cut })
    }

    async fn write(&self, link: &Link, sums: &Sums, latest: &Columns, ids: &[Uuid]) -> Result<(), Failure> {
        let pats: Vec<Uuid> = sums.keys().map(|key| key.0).collect();
        let days: Vec<&str> = sums.keys().map(|key| key.1.as_str()).collect();
        let upstreams: Vec<&str> = sums.keys().map(|key| key.2.as_str()).collect();
        let tools: Vec<&[u8]> = sums.keys().map(|key| key.3.as_slice()).collect();
        let outcomes: Vec<&str> = sums.keys().map(|key| key.4.as_str()).collect();
        let [calls, durations, ins, outs] =
            [0, 1, 2, 3].map(|at| sums.values().map(|sum| sum[at]).collect::<Vec<i64>>());
        let [spans, sent, received] = &latest.numbers;
        try_join4(
            link.count(
                &self.add,
                &[&pats, &days, &upstreams, &tools, &outcomes, &calls, &durations, &ins, &outs],
            ),
            link.count(
                &self.insert,
                &[
                    &latest.pats,
                    &latest.times,
                    &latest.upstreams,
                    &latest.tools,
                    &latest.outcomes,
                    spans,
                    sent,
                    received,
                ],
            ),
            link.count(&self.cut, &[&ids, &whole(LATEST_CALLS as u64)]),
            link.batch("COMMIT"),
        )
        .await
        .map(drop)
    }
}

pub(super) async fn read(links: &Links, pat_id: Uuid, since: Date) -> Result<KeptActivity, Failure> {
    let link = links.link().await?;
    let origin =
        link.prepare("SELECT last_used_address, last_used_agent FROM pats WHERE pat_id = $1").await?;
    let days = link
        .prepare(
            "SELECT day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out FROM call_days \
             WHERE pat_id = $1 AND day >= $2 ORDER BY day DESC, upstream, tool, outcome",
        )
        .await?;
    let latest = link
        .prepare(
            "SELECT at, upstream, tool, outcome, duration, bytes_in, bytes_out FROM latest_calls \
             WHERE pat_id = $1 AND at >= $2 ORDER BY at DESC, call_id DESC",
        )
        .await?;
    let networks = link
        .prepare(
            "SELECT network, first_used_at, last_used_at FROM pat_networks WHERE pat_id = $1 AND last_used_at >= $2 \
             ORDER BY last_used_at DESC, network",
        )
        .await?;
    let (origin, days, latest, networks) = try_join4(
        link.row(&origin, &[&pat_id]),
        link.rows(&days, &[&pat_id, &since.to_string()]),
        link.rows(&latest, &[&pat_id, &beginning(since)?]),
        link.rows(&networks, &[&pat_id, &beginning(since)?]),
    )
    .await?;
    let mut kept = link.keep(KeptActivity::default());
    if let Some(origin) = origin {
        kept.address = get::<Option<&str>>(&origin, 0)?
            .map(str::parse)
            .transpose()
            .map_err(|error| corrupt(format!("an address of a token's use: {error}")))?;
        kept.user_agent = get(&origin, 1)?;
    }
    kept.days = days.iter().map(day_calls).collect::<Result<_, _>>()?;
    kept.latest = latest.iter().map(call).collect::<Result<_, _>>()?;
    kept.networks = networks.iter().map(network).collect::<Result<_, _>>()?;
    Ok(kept)
}

pub(super) async fn forget(links: &Links, before: Date, limit: u64) -> Result<u64, Failure> {
    let link = links.link().await?;
    // Rows locked by another node are skipped: that node deletes them.
    let sums = link
        .prepare(
            "DELETE FROM call_days WHERE (pat_id, day, upstream, tool, outcome) IN (SELECT pat_id, day, upstream, tool, outcome \
             FROM call_days WHERE day < $1 ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    let single = link
        .prepare(
            "DELETE FROM latest_calls WHERE call_id IN \
             (SELECT call_id FROM latest_calls WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    let networks = link
        .prepare(
            "DELETE FROM pat_networks WHERE (pat_id, network) IN (SELECT pat_id, network FROM pat_networks WHERE last_used_at < $1 \
             ORDER BY last_used_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    let limit = whole(limit);
    let ((), sums, single, networks, ()) = try_join5(
        link.batch("BEGIN"),
        link.count(&sums, &[&before.to_string(), &limit]),
        link.count(&single, &[&beginning(before)?, &limit]),
        link.count(&networks, &[&beginning(before)?, &limit]),
        link.batch("COMMIT"),
    )
    .await?;
    Ok(link.keep(sums + single + networks))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the first microsecond of a day.
fn beginning(day: Date) -> Result<i64, Failure> {
    let at = TimeZone::UTC.to_timestamp(day.to_datetime(Time::midnight())).map_err(corrupt)?;
    Ok(at.as_microsecond())
}

fn tool(row: &Row, at: usize) -> Result<String, Failure> {
    String::from_utf8(get(row, at)?).map_err(corrupt)
}

fn day_calls(row: &Row) -> Result<DayCalls, Failure> {
    Ok(DayCalls {
        day: get::<&str>(row, 0)?.parse().map_err(corrupt)?,
        upstream: get(row, 1)?,
        tool: tool(row, 2)?,
        outcome: get::<String>(row, 3)?.into(),
        calls: number(row, 4)?,
        duration: Duration::from_micros(number(row, 5)?),
        bytes_in: number(row, 6)?,
        bytes_out: number(row, 7)?,
    })
}

fn call(row: &Row) -> Result<Call, Failure> {
    Ok(Call {
        at: time(row, 0)?,
        upstream: get(row, 1)?,
        tool: tool(row, 2)?,
        outcome: get::<String>(row, 3)?.into(),
        duration: Duration::from_micros(number(row, 4)?),
        bytes_in: number(row, 5)?,
        bytes_out: number(row, 6)?,
    })
}
