//! What both stores write alike: values, questions and pages in SQL.

pub(crate) mod audit_page;
pub(crate) mod limits;
pub(crate) mod search;
