//! `POST /api/auth/verify`: whose credential is this?

use serde::Serialize;

use crate::api::user::User;
use crate::credential::Caller;
use crate::json::Value;

#[derive(Serialize)]
pub(crate) struct Verified {
    user: User,
}

pub(crate) async fn handle(Caller(principal): Caller) -> Value<Verified> {
    Value { value: Verified { user: User::of(&principal) } }
}
