//! What a token is held to: as the API reads and shows it, and what a request is answered that is
//! off it.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use trustrelay_authority::{Allowance, OffLimits};
use trustrelay_token::{Limits, Principal};

use crate::client::Client;
use crate::error::ApiError;
use crate::state::AppState;

/// draft-ietf-httpapi-ratelimit-headers-10 §3 and §4: structured fields (RFC 9651).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A token's limits, beside what else the API shows of it. What is not limited is left out.
#[derive(Serialize)]
pub(crate) struct Shown {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_networks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_if_unused_days: Option<NonZeroU16>,
}

impl From<Option<Arc<Limits>>> for Shown {
    fn from(limits: Option<Arc<Limits>>) -> Self {
        let limits = limits.as_deref();
        let networks = limits.map_or(&[][..], |limits| &limits.networks);
        Self {
            allowed_networks: networks.iter().map(ToString::to_string).collect(),
            requests_per_minute: limits.and_then(|limits| limits.requests_per_minute),
            expires_if_unused_days: limits.and_then(|limits| limits.unused_days),
        }
    }
}

/// Holds a request to the limits of its token. A token that has none costs a branch.
pub(crate) fn hold(
    state: &AppState,
    by: &Arc<Principal>,
    client: &Client,
) -> Result<Option<Allowance>, OffLimits> {
    let held = state.authority.hold_to_limits(by, client.address, !client.is_hidden);
    if let Err(off) = &held {
        state.numbers.off_limits(off);
    }
    held
}

/// What is left, where there is a limit.
pub(crate) fn tell(headers: &mut HeaderMap, allowance: &Allowance) {
    let policy = format!("\"pat\";q={};w=60", allowance.per_minute);
    let limit = format!("\"pat\";r={};t={}", allowance.left, allowance.seconds());
    for (name, value) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// The answer of the MCP endpoint.
pub(crate) fn refused(off: OffLimits) -> Response {
    let allowance = off.allowance().copied();
    let mut answer = ApiError::from(off).into_json_rpc();
    if let Some(allowance) = allowance {
        tell(answer.headers_mut(), &allowance);
    }
    answer
}

impl From<OffLimits> for ApiError {
    fn from(off: OffLimits) -> Self {
        let message = off.to_string();
        match off {
            OffLimits::Network { .. } | OffLimits::Policy { .. } => {
                Self::new(StatusCode::FORBIDDEN, "network_not_allowed", message)
            }
            OffLimits::Rate { allowance } => Self::rate_limited(message, allowance.seconds()),
        }
    }
}
