//! `/api/admin/personal-access-tokens`: everybody's, found and revoked.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{AuthorityError, PatFilter, PatOwner, PatRecord, PatState, parse_audit_time};
use uuid::Uuid;

use crate::api::admin::{Paging, id};
use crate::api::pats::Pat;
use crate::api::pats::revoke::Revoked;
use crate::body::{Json, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::{Queried, Segment};
use crate::json::Value;
use crate::state::AppState;

/// A token and whose it is.
#[derive(Serialize)]
pub(crate) struct Owned {
    #[serde(flatten)]
    pat: Pat,
    user_id: Uuid,
    email: String,
}

impl From<(PatRecord, String)> for Owned {
    fn from((record, email): (PatRecord, String)) -> Self {
        let user_id = record.user_id;
        Self { pat: record.into(), user_id, email }
    }
}

#[derive(Serialize)]
struct Found {
    value: Vec<Owned>,
    next: Option<String>,
    /// How many there are on all pages.
    count: u64,
}

/// Which tokens, and where in their list: of the API, and of the page's form, where an empty field
/// is none. What is misspelled is refused: a filter that says nothing fits all.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Search {
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) hint: String,
    pub(crate) state: String,
    pub(crate) expires_before: String,
    pub(crate) unused_since: String,
    pub(crate) after: String,
    pub(crate) limit: Option<u64>,
}

impl Search {
    pub(crate) fn filter(&self) -> Result<PatFilter, AuthorityError> {
        let owner = match self.owner.trim() {
            "" => None,
            owner => Some(match Uuid::try_parse(owner) {
                Ok(user_id) => PatOwner::Id(user_id),
                Err(_) => PatOwner::Email(owner.to_owned()),
            }),
        };
        Ok(PatFilter {
            owner,
            name: (!self.name.is_empty()).then(|| self.name.clone()),
            hint: hint(&self.hint)?,
            state: match self.state.as_str() {
                "" => None,
                "active" => Some(PatState::Active),
                "expired" => Some(PatState::Expired),
                "revoked" => Some(PatState::Revoked),
                _ => {
                    return Err(invalid("state", "must be `active`, `expired` or `revoked`"));
                }
            },
            expires_before: time("expires_before", &self.expires_before)?,
            unused_since: time("unused_since", &self.unused_since)?,
        })
    }
}

fn invalid(field: &'static str, message: &str) -> AuthorityError {
    AuthorityError::Invalid { field, message: format!("`{field}` {message}") }
}

/// A hint, or the four characters of one.
fn hint(text: &str) -> Result<Option<String>, AuthorityError> {
    let last = text.strip_prefix("...").unwrap_or(text);
    match last.len() {
        0 if text.is_empty() => Ok(None),
        4 if last.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Some(format!("...{last}"))),
        _ => Err(invalid("hint", "must be the last four characters of a token, such as `...AbCd`")),
    }
}

fn time(field: &'static str, text: &str) -> Result<Option<Timestamp>, AuthorityError> {
    if text.is_empty() {
        return Ok(None);
    }
    let at = parse_audit_time(text, false);
    at.map(Some).ok_or_else(|| {
        invalid(field, "must be a time such as 2026-04-07T12:00:00Z or a day such as 2026-04-07")
    })
}

pub(crate) async fn list(
    State(state): State<AppState>,
    Caller(by): Caller,
    Queried(search): Queried<Search>,
) -> Result<Response, ApiError> {
    state.authority.is_administrator(&by)?;
    let filter = search.filter()?;
    let place = Paging { after: Some(search.after), limit: search.limit }.place();
    let found = state.authority.admin_tokens(&by, &filter, &place).await?;
    let next = found.page.next.map(|next| next.to_string());
    let value = found.page.pats.into_iter().map(Owned::from).collect();
    Ok(axum::Json(Found { value, next, count: found.count }).into_response())
}

pub(crate) async fn get(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(pat_id): Segment,
) -> Result<Value<Owned>, ApiError> {
    state.authority.is_administrator(&by)?;
    let found = state.authority.admin_token(&by, id(&pat_id, "token")?).await?;
    Ok(Value { value: found.into() })
}

pub(crate) async fn revoke(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(pat_id): Segment,
) -> Result<Value<Revoked>, ApiError> {
    state.authority.is_administrator(&by)?;
    let revoked = state.admin_revoke(&by, id(&pat_id, "token")?).await?;
    Ok(Value { value: revoked.into() })
}

/// Which tokens, and how many that is as far as the caller knows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    hint: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    expires_before: String,
    #[serde(default)]
    unused_since: String,
    expected: u64,
}

#[derive(Serialize)]
pub(crate) struct RevokedAll {
    revoked: usize,
    sessions_terminated: usize,
}

pub(crate) async fn revoke_matching(
    State(state): State<AppState>,
    Sent(Caller(by), Json(asked)): Sent<Caller, Json<Revocation>>,
) -> Result<Value<RevokedAll>, ApiError> {
    state.authority.is_administrator(&by)?;
    let Revocation { owner, name, hint, state: stands, expires_before, unused_since, expected } = asked;
    let search =
        Search { owner, name, hint, state: stands, expires_before, unused_since, ..Search::default() };
    let revoked = state.admin_revoke_matching(&by, &search.filter()?, expected).await?;
    let value = RevokedAll { revoked: revoked.revoked, sessions_terminated: revoked.sessions_terminated };
    Ok(Value { value })
}
