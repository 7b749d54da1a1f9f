//! The audit log over REST: what is asked for, and how an entry is shown.

pub(crate) mod all;
pub(crate) mod export;
pub(crate) mod own;

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_authority::{
    Actor, AuditFilter, AuditLook, AuditPage, Audited, AuthorityError, MAX_AUDIT_PAGE, hex, parse_audit_time,
};
use uuid::Uuid;

use crate::error::ApiError;
use crate::redact::without_secrets;
use crate::state::AppState;

/// How many entries a page has if nobody says.
const USUAL: u64 = 50;

/// The query, as it was given: of the API, and of the pages' forms, where an empty field is none.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// Whose account: an id or an e-mail address.
    pub(crate) user: String,
    /// Who did it: the same.
    pub(crate) actor: String,
    /// Which token: an id.
    pub(crate) token: String,
    /// An action or the part before its dot.
    pub(crate) action: String,
    /// A time, or a day.
    pub(crate) from: String,
    /// A time, or the last day.
    pub(crate) to: String,
    pub(crate) after: String,
    pub(crate) limit: String,
}

impl FromRequestParts<AppState> for AuditQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(query),
            Err(error) => {
                let text = without_secrets(&error.body_text());
                Err(ApiError::bad_request(format!("the query cannot be read: {text}")))
            }
        }
    }
}

fn given(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn wrong(field: &'static str, what: &str) -> ApiError {
    ApiError::bad_request(format!("`{field}` must be {what}"))
}

fn time(field: &'static str, text: &str, end: bool) -> Result<Timestamp, ApiError> {
    let wrong = || wrong(field, "a time such as 2026-04-07T12:00:00Z or a day such as 2026-04-07");
    parse_audit_time(text, end).ok_or_else(wrong)
}

impl AuditQuery {
    /// What is looked for. `everybody`: accounts may be named.
    pub(crate) async fn filter(&self, state: &AppState, everybody: bool) -> Result<AuditFilter, ApiError> {
        let account = async |field: &'static str, text: &str| {
            let Some(text) = given(text) else { return Ok(None) };
            if !everybody {
                let message = format!(
                    "only administrators can use `{field}`; your own audit log covers your account only"
                );
                return Err(ApiError::bad_request(message));
            }
            match state.authority.account_id(text).await {
                Err(AuthorityError::NotFound(_)) => {
                    Err(wrong(field, "the email address or the id of an existing account"))
                }
                found => Ok(Some(found?)),
            }
        };
        let token = given(&self.token).map(|text| text.parse().map_err(|_| wrong("token", "a token's id")));
        let from = given(&self.from).map(|text| time("from", text, false));
        let to = given(&self.to).map(|text| time("to", text, true));
        Ok(AuditFilter {
            user_id: account("user", &self.user).await?,
            actor_id: account("actor", &self.actor).await?,
            pat_id: token.transpose()?,
            action: given(&self.action).map(Into::into),
            from: from.transpose()?,
            to: to.transpose()?,
        })
    }

    /// A page of it.
    pub(crate) async fn look(&self, state: &AppState, everybody: bool) -> Result<AuditLook, ApiError> {
        let limit = match given(&self.limit).map(str::parse) {
            None => USUAL,
            Some(Ok(limit)) if (1..=MAX_AUDIT_PAGE).contains(&limit) => limit,
            Some(_) => return Err(wrong("limit", &format!("a number from 1 to {MAX_AUDIT_PAGE}"))),
        };
        let after = given(&self.after)
            .map(|text| text.parse().map_err(|_| wrong("after", "the `next` of an answer")));
        let filter = self.filter(state, everybody).await?;
        Ok(AuditLook { filter, after: after.transpose()?, oldest_first: false, limit })
    }

    /// What only an export may be asked without: it has no pages.
    fn without_pages(&self) -> Result<&Self, ApiError> {
        if given(&self.after).or(given(&self.limit)).is_some() {
            return Err(ApiError::bad_request(
                "an export has no pages; leave out `after` and `limit`, and use `from` and `to`",
            ));
        }
        Ok(self)
    }
}

/// A page, as the API answers it.
#[derive(Serialize)]
pub(crate) struct Page {
    value: Vec<Entry>,
    /// Where the next page goes on; `null` at the end.
    next: Option<String>,
}

#[derive(Serialize)]
struct Entry {
    seq: u64,
    at: Timestamp,
    action: Cow<'static, str>,
    actor: Actor,
    user_id: Option<Uuid>,
    pat_id: Option<Uuid>,
    details: BTreeMap<Cow<'static, str>, String>,
    hash: String,
}

impl From<Audited> for Entry {
    fn from(audited: Audited) -> Self {
        let Audited { seq, hash, entry } = audited;
        Self {
            seq,
            at: entry.at,
            action: entry.action,
            actor: entry.actor,
            user_id: entry.user_id,
            pat_id: entry.pat_id,
            details: entry.details,
            hash: hex(&hash),
        }
    }
}

impl From<AuditPage> for Page {
    fn from(page: AuditPage) -> Self {
        let next = page.next.map(|next| next.to_string());
        Self { value: page.entries.into_iter().map(Entry::from).collect(), next }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}
