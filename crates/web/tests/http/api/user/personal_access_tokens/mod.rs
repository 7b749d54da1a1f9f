//! `/api/user/personal-access-tokens`

mod activity;
mod children;
mod create;
mod get;
mod list;
mod revoke;
mod rotate;

pub(super) const TOKENS: &str = "/api/user/personal-access-tokens";
