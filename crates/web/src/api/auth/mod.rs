//! `/api/auth`: browser sessions.

pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod verify;
