//! `GET /api/user/notices`, `GET /api/admin/notices`: what was told, newest first, and how it
//! arrived.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{
    AuthorityError, By, DeliveryRecord, DeliveryState, MAX_NOTICES_LISTED, NoticeFacts, ToldNotice, Whose,
};
use uuid::Uuid;

use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::Queried;
use crate::state::AppState;

/// How many come at a time if nothing is said.
const PAGE: u64 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    after: Option<String>,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct Page {
    value: Vec<Notice>,
    /// What to ask for next as `after`; `null` at the end.
    next: Option<Uuid>,
}

#[derive(Serialize)]
struct Notice {
    notice_id: Uuid,
    kind: &'static str,
    user_id: Uuid,
    email: String,
    pat_id: Option<Uuid>,
    created_at: Timestamp,
    facts: NoticeFacts,
    deliveries: Vec<Delivery>,
}

#[derive(Serialize)]
struct Delivery {
    channel: &'static str,
    target: String,
    webhook_id: Option<Uuid>,
    state: &'static str,
    attempts: u32,
    /// When it is tried next, if it is.
    next_at: Option<Timestamp>,
    error: Option<String>,
    done_at: Option<Timestamp>,
}

impl From<DeliveryRecord> for Delivery {
    fn from(record: DeliveryRecord) -> Self {
        Self {
            channel: record.channel.name(),
            target: record.target,
            webhook_id: record.webhook_id,
            state: record.state.name(),
            attempts: record.attempts,
            next_at: (record.state == DeliveryState::Pending).then_some(record.next_at),
            error: record.error,
            done_at: record.done_at,
        }
    }
}

impl From<ToldNotice> for Notice {
    fn from(told: ToldNotice) -> Self {
        Self {
            notice_id: told.notice.notice_id,
            kind: told.notice.kind.name(),
            user_id: told.notice.user_id,
            email: told.email,
            pat_id: told.notice.pat_id,
            created_at: told.notice.created_at,
            facts: told.notice.facts,
            deliveries: told.deliveries.into_iter().map(Delivery::from).collect(),
        }
    }
}

pub(crate) async fn own(
    State(state): State<AppState>,
    Caller(by): Caller,
    Queried(ask): Queried<Ask>,
) -> Result<Response, ApiError> {
    handle(&state, &by, Whose::Own, &ask).await
}

pub(crate) async fn everybody(
    State(state): State<AppState>,
    Caller(by): Caller,
    Queried(ask): Queried<Ask>,
) -> Result<Response, ApiError> {
    handle(&state, &by, Whose::Everybody, &ask).await
}

async fn handle(state: &AppState, by: &By, whose: Whose, ask: &Ask) -> Result<Response, ApiError> {
    let bad = |field, message: String| AuthorityError::Invalid { field, message };
    let limit = ask.limit.unwrap_or(PAGE);
    if !(1..=MAX_NOTICES_LISTED).contains(&limit) {
        return Err(bad("limit", format!("`limit` is {limit}; it must be 1 to {MAX_NOTICES_LISTED}")).into());
    }
    let after = ask.after.as_deref().map(Uuid::try_parse).transpose();
    let after = after.map_err(|_| {
        bad(
            "after",
            "`after` is not valid; use the `next` of the previous page, or leave it out to start with the newest".into(),
        )
    })?;
    let told = state.authority.notices(by, whose, after, limit).await?;
    let is_full = told.len() as u64 == limit;
    let next = told.last().map(|last| last.notice.notice_id).filter(|_| is_full);
    let value = told.into_iter().map(Notice::from).collect();
    Ok(axum::Json(Page { value, next }).into_response())
}
