//! `GET /api/user`: who am I, and with what credential?

use jiff::Timestamp;
use serde::Serialize;
use trustrelay_token::{Credential, Principal};
use uuid::Uuid;

use crate::credential::Caller;
use crate::json::Value;

/// An account, as the API shows it.
#[derive(Serialize)]
pub(crate) struct User {
    user_id: Uuid,
    email: String,
    is_admin: bool,
}

impl User {
    pub(crate) fn of(principal: &Principal) -> Self {
        Self { user_id: principal.user_id, email: principal.email.clone(), is_admin: principal.is_admin }
    }
}

#[derive(Serialize)]
pub(crate) struct WhoAmI {
    user: User,
    credential: Shown,
}

#[derive(Serialize)]
struct Shown {
    kind: &'static str,
    pat_id: Option<Uuid>,
    pat_scope: Option<String>,
    expires_at: Timestamp,
}

pub(crate) async fn handle(Caller(principal): Caller) -> Value<WhoAmI> {
    let credential = match &principal.credential {
        Credential::Pat { pat_id, expires_at, .. } => Shown {
            kind: "pat",
            pat_id: Some(*pat_id),
            pat_scope: Some(principal.scopes.to_string()),
            expires_at: *expires_at,
        },
        Credential::Session { expires_at } => {
            Shown { kind: "session", pat_id: None, pat_scope: None, expires_at: *expires_at }
        }
    };
    Value { value: WhoAmI { user: User::of(&principal), credential } }
}
