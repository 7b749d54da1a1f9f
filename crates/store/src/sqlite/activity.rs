//! The calls of tokens: daily sums, and the latest calls.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension, Row, params};
use trustrelay_authority::{
    Call, DayCalls, KeptActivity, LATEST_CALLS, OTHER_TOOL, StoreError, TOOLS_A_DAY, TokenCalls,
};
use uuid::Uuid;

use crate::sqlite::errors::OrStoreError;
use crate::sqlite::networks;
use crate::sqlite::rows;

pub(crate) fn record_calls(connection: &Connection, notes: &[TokenCalls]) -> Result<(), StoreError> {
    for note in notes {
        let known: bool = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM pats WHERE pat_id = ?1)")
            .or_store()?
            .query_row([note.pat_id.as_bytes()], |row| row.get(0))
            .or_store()?;
        if known {
            add_up(connection, note)?;
            keep_latest(connection, note)?;
        }
    }
    Ok(())
}

fn add_up(connection: &Connection, note: &TokenCalls) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO call_days (pat_id, day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (pat_id, day, upstream, tool, outcome) DO UPDATE SET \
             calls = calls + excluded.calls, duration = duration + excluded.duration, bytes_in = bytes_in + excluded.bytes_in, \
             bytes_out = bytes_out + excluded.bytes_out",
        )
        .or_store()?;
    for calls in &note.days {
        let day = calls.day.to_string();
        let tool = if has_place(connection, note.pat_id, &day, calls)? { &calls.tool } else { OTHER_TOOL };
        statement
            .execute(params![
                note.pat_id.as_bytes(),
                day,
                calls.upstream,
                tool,
                calls.outcome,
                calls.calls,
                micros(calls.duration),
                calls.bytes_in,
                calls.bytes_out,
            ])
            .or_store()?;
    }
    Ok(())
}

/// Returns whether a tool already has an entry of its own on a day, or may still get one.
fn has_place(connection: &Connection, pat_id: Uuid, day: &str, calls: &DayCalls) -> Result<bool, StoreError> {
    let is_there: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM call_days WHERE pat_id = ?1 AND day = ?2 AND upstream = ?3 AND tool = ?4)",
        )
        .or_store()?
        .query_row(params![pat_id.as_bytes(), day, calls.upstream, calls.tool], |row| row.get(0))
        .or_store()?;
    if is_there {
        return Ok(true);
    }
    let places: usize = connection
        .prepare_cached(
            "SELECT COUNT(*) FROM (SELECT DISTINCT upstream, tool FROM call_days WHERE pat_id = ?1 AND day = ?2 AND tool <> ?3)",
        )
        .or_store()?
        .query_row(params![pat_id.as_bytes(), day, OTHER_TOOL], |row| row.get(0))
        .or_store()?;
    Ok(places < TOOLS_A_DAY)
}

fn keep_latest(connection: &Connection, note: &TokenCalls) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO latest_calls (pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .or_store()?;
    for call in &note.latest {
        statement
            .execute(params![
                note.pat_id.as_bytes(),
                call.at.as_microsecond(),
                call.upstream,
                call.tool,
                call.outcome,
                micros(call.duration),
                call.bytes_in,
                call.bytes_out,
            ])
            .or_store()?;
    }
    connection
        .prepare_cached(
            "DELETE FROM latest_calls WHERE call_id IN \
             (SELECT call_id FROM latest_calls WHERE pat_id = ?1 ORDER BY at DESC, call_id DESC LIMIT -1 OFFSET ?2)",
        )
        .or_store()?
        .execute(params![note.pat_id.as_bytes(), LATEST_CALLS])
        .or_store()
        .map(drop)
}

pub(crate) fn activity(
    connection: &Connection,
    pat_id: Uuid,
    since: Date,
) -> Result<KeptActivity, StoreError> {
    let origin: Option<(Option<String>, Option<String>)> = connection
        .prepare_cached("SELECT last_used_address, last_used_agent FROM pats WHERE pat_id = ?1")
        .or_store()?
        .query_row([pat_id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .or_store()?;
    let (address, user_agent) = origin.unwrap_or_default();
    let address = address
        .map(|address| address.parse())
        .transpose()
        .map_err(|error| StoreError::Corrupt(format!("an address of a token's use: {error}")))?;
    let mut statement = connection
        .prepare_cached(
            "SELECT day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out FROM call_days \
             WHERE pat_id = ?1 AND day >= ?2 ORDER BY day DESC, upstream, tool, outcome",
        )
        .or_store()?;
    let days = statement.query_map(params![pat_id.as_bytes(), since.to_string()], day_calls).or_store()?;
    let days = days.collect::<rusqlite::Result<_>>().or_store()?;
    let mut statement = connection
        .prepare_cached(
            "SELECT at, upstream, tool, outcome, duration, bytes_in, bytes_out FROM latest_calls \
             WHERE pat_id = ?1 AND at >= ?2 ORDER BY at DESC, call_id DESC",
        )
        .or_store()?;
    let latest = statement.query_map(params![pat_id.as_bytes(), beginning(since)?], call).or_store()?;
    let latest = latest.collect::<rusqlite::Result<_>>().or_store()?;
    let networks = networks::since(connection, pat_id, beginning(since)?)?;
    Ok(KeptActivity { address, user_agent, networks, days, latest })
}

pub(crate) fn forget_calls(connection: &Connection, before: Date, limit: u64) -> Result<u64, StoreError> {
    // Selects whole keys, because the table has no row ids.
    let sums = connection
        .execute(
            "DELETE FROM call_days WHERE (pat_id, day, upstream, tool, outcome) IN \
             (SELECT pat_id, day, upstream, tool, outcome FROM call_days WHERE day < ?1 ORDER BY day LIMIT ?2)",
            params![before.to_string(), limit],
        )
        .or_store()?;
    let single = connection
        .execute(
            "DELETE FROM latest_calls WHERE call_id IN \
             (SELECT call_id FROM latest_calls WHERE at < ?1 ORDER BY at LIMIT ?2)",
            params![beginning(before)?, limit],
        )
        .or_store()?;
    let networks = networks::forget(connection, beginning(before)?, limit)?;
    Ok((sums + single + networks) as u64)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the first microsecond of a day.
fn beginning(day: Date) -> Result<i64, StoreError> {
    let at = TimeZone::UTC.to_timestamp(day.to_datetime(jiff::civil::Time::midnight()));
    at.map(Timestamp::as_microsecond).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn day_calls(row: &Row<'_>) -> rusqlite::Result<DayCalls> {
    let day: String = row.get(0)?;
    Ok(DayCalls {
        day: day.parse().map_err(|error| rows::unreadable(0, error))?,
        upstream: row.get(1)?,
        tool: row.get(2)?,
        outcome: row.get::<_, String>(3)?.into(),
        calls: row.get(4)?,
        duration: Duration::from_micros(row.get(5)?),
        bytes_in: row.get(6)?,
        bytes_out: row.get(7)?,
    })
}

fn call(row: &Row<'_>) -> rusqlite::Result<Call> {
    Ok(Call {
        at: rows::time(row, 0)?,
        upstream: row.get(1)?,
        tool: row.get(2)?,
        outcome: row.get::<_, String>(3)?.into(),
        duration: Duration::from_micros(row.get(4)?),
        bytes_in: row.get(5)?,
        bytes_out: row.get(6)?,
    })
}
