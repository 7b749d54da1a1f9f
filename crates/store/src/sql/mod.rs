//! SQL that both stores write alike: values, questions and pages.

pub(crate) mod audit_page;
pub(crate) mod limits;
pub(crate) mod search;
