//! For administrators.

pub(crate) mod invites;
pub(crate) mod pats;
pub(crate) mod people;
pub(crate) mod policy;

use serde::Deserialize;
use trustrelay_authority::Place;
use uuid::Uuid;

use crate::error::ApiError;

/// Where in a list to go on.
#[derive(Default, Deserialize)]
pub(crate) struct Paging {
    after: Option<String>,
    limit: Option<u64>,
}

impl Paging {
    pub(crate) fn place(self) -> Place {
        Place { after: self.after.filter(|after| !after.is_empty()), limit: self.limit }
    }
}

/// An id of a path. What is none is nobody's.
pub(crate) fn id(text: &str, what: &'static str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| trustrelay_authority::AuthorityError::NotFound(what).into())
}
