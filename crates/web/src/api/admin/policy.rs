//! `/api/admin/policy`: what all tokens are held to.

use std::num::NonZeroU16;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{AskedPolicy, PolicyChange, PolicyState};
use trustrelay_token::ScopeSet;

use crate::body::{Json, Sent};
use crate::credential::Caller;
use crate::error::ApiError;
use crate::json::Value;
use crate::state::AppState;

#[derive(Serialize)]
pub(crate) struct Shown {
    max_days: Option<NonZeroU16>,
    default_days: Option<NonZeroU16>,
    allowed_scopes: Vec<String>,
    unused_days: Option<NonZeroU16>,
    allowed_networks: Vec<String>,
    version: u64,
    unused_tokens: u64,
}

impl From<PolicyState> for Shown {
    fn from(PolicyState { record, unused }: PolicyState) -> Self {
        let policy = record.policy;
        let scopes = policy.allowed_scopes.iter().flat_map(ScopeSet::iter);
        Self {
            max_days: policy.max_days,
            default_days: policy.default_days,
            allowed_scopes: scopes.map(ToString::to_string).collect(),
            unused_days: policy.unused_days,
            allowed_networks: policy.networks.iter().map(ToString::to_string).collect(),
            version: record.seq,
            unused_tokens: unused,
        }
    }
}

/// All of a policy: each rule has to be named, so that none is dropped because somebody did not
/// think of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Put {
    #[serde(deserialize_with = "Option::deserialize")]
    max_days: Option<i64>,
    #[serde(deserialize_with = "Option::deserialize")]
    default_days: Option<i64>,
    allowed_scopes: Vec<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    unused_days: Option<i64>,
    allowed_networks: Vec<String>,
    version: Option<u64>,
    ends_tokens: Option<u64>,
}

pub(crate) async fn get(State(state): State<AppState>, Caller(by): Caller) -> Result<Value<Shown>, ApiError> {
    Ok(Value { value: state.authority.policy(&by).await?.into() })
}

pub(crate) async fn put(
    State(state): State<AppState>,
    Sent(Caller(by), Json(put)): Sent<Caller, Json<Put>>,
) -> Result<Value<Shown>, ApiError> {
    // Who may not ask is told so, and not what is wrong with the question.
    state.authority.may_change_policy(&by)?;
    let asked = AskedPolicy {
        max_days: put.max_days,
        default_days: put.default_days,
        allowed_scopes: put.allowed_scopes,
        unused_days: put.unused_days,
        networks: put.allowed_networks,
    };
    let change = PolicyChange { policy: asked.read()?, replaces: put.version, ends: put.ends_tokens };
    Ok(Value { value: state.authority.change_policy(&by, change).await?.into() })
}
