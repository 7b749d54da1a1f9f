//! `/api/admin/users`: who is there, and what becomes of them. Accounts are disabled, not deleted:
//! what they did stays theirs.

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use trustrelay_authority::{PersonChange, UserFilter, UserRecord};
use uuid::Uuid;

use crate::api::admin::{Paging, id};
use crate::body::{Json, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::extract::{Queried, Segment};
use crate::json::{Page, Value};
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Person {
    user_id: Uuid,
    email: String,
    is_admin: bool,
    created_at: Timestamp,
    disabled_at: Option<Timestamp>,
    /// `null`: all.
    upstreams: Option<Vec<String>>,
    active_tokens: u64,
}

impl From<(UserRecord, u64)> for Person {
    fn from((user, active_tokens): (UserRecord, u64)) -> Self {
        Self {
            user_id: user.user_id,
            email: user.email,
            is_admin: user.is_admin,
            created_at: user.created_at,
            disabled_at: user.disabled_at,
            upstreams: user.upstreams,
            active_tokens,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    email: Option<String>,
    is_admin: Option<bool>,
    is_disabled: Option<bool>,
    after: Option<String>,
    limit: Option<u64>,
}

pub(crate) async fn list(
    State(state): State<AppState>,
    Caller(by): Caller,
    Queried(asked): Queried<Asked>,
) -> Result<Page<Person>, ApiError> {
    let filter = UserFilter {
        email: asked.email.filter(|email| !email.is_empty()),
        is_admin: asked.is_admin,
        is_disabled: asked.is_disabled,
    };
    let place = Paging { after: asked.after, limit: asked.limit }.place();
    let page = state.authority.people(&by, &filter, &place).await?;
    let next = page.next.map(|next| next.to_string());
    Ok(Page { value: page.users.into_iter().map(Person::from).collect(), next })
}

pub(crate) async fn get(
    State(state): State<AppState>,
    Caller(by): Caller,
    Segment(user_id): Segment,
) -> Result<Value<Person>, ApiError> {
    state.authority.is_administrator(&by)?;
    let person = state.authority.person(&by, id(&user_id, "account")?).await?;
    Ok(Value { value: person.into() })
}

/// One of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    is_disabled: Option<bool>,
    is_admin: Option<bool>,
    /// `null` is an answer too.
    #[serde(default, deserialize_with = "given")]
    upstreams: Option<Option<Vec<String>>>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Change {
    fn one(self) -> Result<PersonChange, ApiError> {
        match (self.is_disabled, self.is_admin, self.upstreams) {
            (Some(is_disabled), None, None) => Ok(PersonChange::Disabled(is_disabled)),
            (None, Some(is_admin), None) => Ok(PersonChange::Admin(is_admin)),
            (None, None, Some(upstreams)) => Ok(PersonChange::Upstreams(upstreams)),
            _ => Err(ApiError::bad_request("send exactly one of `is_disabled`, `is_admin` and `upstreams`")),
        }
    }
}

pub(crate) async fn change(
    State(state): State<AppState>,
    Segment(user_id): Segment,
    Sent(Caller(by), Json(change)): Sent<Caller, Json<Change>>,
) -> Result<Value<Person>, ApiError> {
    state.authority.is_administrator(&by)?;
    let user_id = id(&user_id, "account")?;
    let person = state.authority.change_person(&by, user_id, change.one()?).await?;
    Ok(Value { value: person.into() })
}
