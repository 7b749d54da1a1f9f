//! The query for a page of the audit log. Both databases share it, so that each can answer it from
//! an index.

use trustrelay_authority::{AuditAction, AuditLook};
use uuid::Uuid;

/// The columns of a record.
pub(crate) const COLUMNS: &str = "seq, entry, hash, at, action, actor_user_id, actor_pat_id, user_id, pat_id";

/// A parameter.
pub(crate) enum Value {
    Number(i64),
    Id(Uuid),
    Text(String),
}

/// Builds the query. Parameters are numbered after `mark`. `subject` is the expression for the part
/// of an action before its dot.
pub(crate) fn question(look: &AuditLook, mark: char, subject: &str) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut conditions = Vec::new();
    let filter = &look.filter;
    let mut must = |left: &str, compares: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{left} {compares} {mark}{}", values.len()));
    };
    if let Some(user_id) = filter.user_id {
        must("user_id", "=", Value::Id(user_id));
    }
    if let Some(actor_id) = filter.actor_id {
        must("actor_user_id", "=", Value::Id(actor_id));
    }
    match &filter.action {
        Some(AuditAction::One(action)) => must("action", "=", Value::Text(action.clone())),
        Some(AuditAction::Subject(of)) => must(subject, "=", Value::Text(of.clone())),
        None => {}
    }
    if let Some(from) = filter.from {
        must("at", ">=", Value::Number(from.as_microsecond()));
    }
    if let Some(to) = filter.to {
        must("at", "<", Value::Number(to.as_microsecond()));
    }
    let (compares, order) =
        if look.oldest_first { (">", "ORDER BY at, seq") } else { ("<", "ORDER BY at DESC, seq DESC") };
    if let Some(after) = look.after {
        values.push(Value::Number(after.at.as_microsecond()));
        values.push(Value::Number(i64::try_from(after.seq).unwrap_or(i64::MAX)));
        conditions.push(format!("(at, seq) {compares} ({mark}{}, {mark}{})", values.len() - 1, values.len()));
    }
    values.push(Value::Number(i64::try_from(look.limit).unwrap_or(i64::MAX)));
    let limit = format!("LIMIT {mark}{}", values.len());
    let select = |conditions: &[String]| {
        let wanted =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        format!("SELECT {COLUMNS} FROM audit {wanted} {order} {limit}")
    };
    let Some(pat_id) = filter.pat_id else { return (select(&conditions), values) };
    // A token that is concerned and a token that acts have separate indexes. Each side is queried
    // for a full page, and the first rows of both are taken.
    values.push(Value::Id(pat_id));
    let side = |column: &str| {
        let mut conditions = conditions.clone();
        conditions.push(format!("{column} = {mark}{}", values.len()));
        format!("SELECT * FROM ({}) AS {column}_side", select(&conditions))
    };
    let both = format!("{} UNION {}", side("pat_id"), side("actor_pat_id"));
    (format!("SELECT {COLUMNS} FROM ({both}) AS sides {order} {limit}"), values)
}
