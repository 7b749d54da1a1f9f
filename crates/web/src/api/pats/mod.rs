//! `/api/user/personal-access-tokens`.

pub(crate) mod activity;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod rotate;

use jiff::Timestamp;
use serde::Serialize;
use trustrelay_authority::{PatRecord, PatRef};
use uuid::Uuid;

use crate::error::ApiError;
use crate::limits::Shown;

/// A token, as the API shows it: everything but the secret.
#[derive(Serialize)]
pub(crate) struct Pat {
    pat_id: Uuid,
    pat_name: String,
    pat_hint: String,
    pat_scope: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    last_used_at: Option<Timestamp>,
    rotated_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    pat_parent_id: Option<Uuid>,
    #[serde(flatten)]
    limits: Shown,
}

impl From<PatRecord> for Pat {
    fn from(record: PatRecord) -> Self {
        Self {
            pat_id: record.pat_id,
            pat_name: record.name,
            pat_hint: record.hint,
            pat_scope: record.scopes.to_string(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            last_used_at: record.last_used_at,
            rotated_at: record.rotated_at,
            revoked_at: record.revoked_at,
            pat_parent_id: record.parent_id,
            limits: record.limits.into(),
        }
    }
}

/// `{pat_id}` of a path. What is no id is nobody's token.
pub(crate) fn pat_ref(text: &str) -> Result<PatRef, ApiError> {
    if text == "self" {
        return Ok(PatRef::Own);
    }
    let not_found = || trustrelay_authority::AuthorityError::NotFound("token");
    Ok(PatRef::Id(Uuid::try_parse(text).map_err(|_| not_found())?))
}
