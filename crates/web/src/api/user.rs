//! `GET /api/user`: who am I, and with what credential?

use jiff::Timestamp;
use serde::Serialize;
use trustrelay_token::Principal;
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
        Self {
            user_id: principal.user_id,
            email: principal.email.to_string(),
            is_admin: principal.is_admin(),
        }
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
    let pat_id = principal.pat_id();
    let credential = Shown {
        kind: if pat_id.is_some() { "pat" } else { "session" },
        pat_id,
        pat_scope: pat_id.map(|_| principal.scopes.to_string()),
        expires_at: principal.expires_at(),
    };
    Value { value: WhoAmI { user: User::of(&principal), credential } }
}
