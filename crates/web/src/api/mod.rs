//! The REST API: one verb, one file.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod leaks;
pub(crate) mod nodes;
pub(crate) mod notices;
pub(crate) mod pats;
pub(crate) mod revoke;
pub(crate) mod user;
pub(crate) mod webhooks;
