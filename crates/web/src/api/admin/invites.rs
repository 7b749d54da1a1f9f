//! Invitations: `POST /api/admin/users` makes one and shows its link once, `/api/admin/invites`
//! lists and takes back.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::InviteRecord;
use uuid::Uuid;

use crate::api::admin::id;
use crate::body::{Json, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::{Queried, Segment, Whole};
use crate::json::Value;
use crate::pages::developer::base;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Invite {
    invite_id: Uuid,
    email: String,
    is_admin: bool,
    created_by: Option<Uuid>,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl From<InviteRecord> for Invite {
    fn from(record: InviteRecord) -> Self {
        Self {
            invite_id: record.invite_id,
            email: record.email,
            is_admin: record.is_admin,
            created_by: record.created_by,
            created_at: record.created_at,
            expires_at: record.expires_at,
        }
    }
}

#[derive(Serialize)]
struct New {
    #[serde(flatten)]
    invite: Invite,
    /// Whoever has it becomes that account.
    invite_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    email: String,
    #[serde(default)]
    is_admin: bool,
}

/// The link that an invitation is accepted by.
pub(crate) fn link(base: &str, secret: &str) -> String {
    format!("{base}/invite?token={secret}")
}

pub(crate) async fn create(
    State(state): State<AppState>,
    parts: Parts,
    Sent(Caller(by), Json(asked)): Sent<Caller, Json<Asked>>,
) -> Result<Response, ApiError> {
    let invited = state.authority.invite(&by, &asked.email, asked.is_admin).await?;
    let invite_url = link(&base(&state, &parts), &invited.secret);
    let new = New { invite: invited.record.into(), invite_url };
    Ok((StatusCode::CREATED, Value { value: new }).into_response())
}

pub(crate) async fn list(
    State(state): State<AppState>,
    Caller(by): Caller,
    _: Queried<Whole>,
) -> Result<Value<Vec<Invite>>, ApiError> {
    let open = state.authority.invites(&by).await?;
    Ok(Value { value: open.into_iter().map(Invite::from).collect() })
}

#[derive(Serialize)]
pub(crate) struct Withdrawn {
    invite_id: Uuid,
}

pub(crate) async fn withdraw(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(invite_id): Segment,
) -> Result<Value<Withdrawn>, ApiError> {
    state.authority.is_administrator(&by)?;
    let invite_id = id(&invite_id, "invitation")?;
    state.authority.withdraw_invite(&by, invite_id).await?;
    Ok(Value { value: Withdrawn { invite_id } })
}
