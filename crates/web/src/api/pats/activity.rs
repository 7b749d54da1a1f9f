//! `GET /api/user/personal-access-tokens/{pat_id}/activity`: what one of the caller's tokens has
//! called lately.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use trustrelay_authority::{Call, NetworkUse, ToolDay};
use uuid::Uuid;

use crate::api::pats::pat_ref;
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Segment;
use crate::json::Value;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Activity {
    pat_id: Uuid,
    since: Date,
    days: Vec<Day>,
    latest: Vec<Single>,
    networks: Vec<Used>,
}

#[derive(Serialize)]
struct Used {
    network: String,
    first_used_at: Timestamp,
    last_used_at: Timestamp,
}

#[derive(Serialize)]
struct Day {
    day: Date,
    tools: Vec<Tool>,
}

#[derive(Serialize)]
struct Tool {
    upstream: String,
    tool: String,
    outcomes: BTreeMap<Cow<'static, str>, u64>,
    duration_us: u64,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Serialize)]
struct Single {
    at: Timestamp,
    upstream: String,
    tool: String,
    outcome: Cow<'static, str>,
    duration_us: u64,
    bytes_in: u64,
    bytes_out: u64,
}

pub(crate) async fn handle(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(pat_id): Segment,
) -> Result<Value<Activity>, ApiError> {
    let activity = state.authority.activity(&by, pat_ref(&pat_id)?).await?;
    Ok(Value {
        value: Activity {
            pat_id: activity.pat.pat_id,
            since: activity.since,
            days: by_day(activity.days),
            latest: activity.latest.into_iter().map(Single::from).collect(),
            networks: activity.networks.into_iter().map(Used::from).collect(),
        },
    })
}

/// A day's tools come one after another.
fn by_day(tools: Vec<ToolDay>) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    for tool in tools {
        let day = tool.day;
        match days.last_mut() {
            Some(last) if last.day == day => last.tools.push(tool.into()),
            _ => days.push(Day { day, tools: vec![tool.into()] }),
        }
    }
    days
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<ToolDay> for Tool {
    fn from(tool: ToolDay) -> Self {
        let ToolDay { upstream, tool, outcomes, duration, bytes_in, bytes_out, day: _ } = tool;
        Self { upstream, tool, outcomes, duration_us: micros(duration), bytes_in, bytes_out }
    }
}

impl From<NetworkUse> for Used {
    fn from(used: NetworkUse) -> Self {
        let NetworkUse { network, first_used_at, last_used_at } = used;
        Self { network: network.to_string(), first_used_at, last_used_at }
    }
}

impl From<Call> for Single {
    fn from(call: Call) -> Self {
        let Call { at, upstream, tool, outcome, duration, bytes_in, bytes_out } = call;
        Self { at, upstream, tool, outcome, duration_us: micros(duration), bytes_in, bytes_out }
    }
}
