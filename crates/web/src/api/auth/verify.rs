//! `POST /api/auth/verify`: whose session is this?

use serde::Serialize;

use crate::api::user::User;
use crate::credential::Browser;
use crate::json::Value;

#[derive(Serialize)]
pub(crate) struct Verified {
    user: User,
}

pub(crate) async fn handle(browser: Browser) -> Value<Verified> {
    Value { value: Verified { user: User::of(&browser.principal) } }
}
