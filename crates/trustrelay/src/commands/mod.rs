//! The commands but `serve`, one file a noun.

pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod delegate;
pub(crate) mod nodes;
pub(crate) mod rotate;
pub(crate) mod scan;
pub(crate) mod secret;
pub(crate) mod token;
pub(crate) mod user;
