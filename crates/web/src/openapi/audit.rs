//! The audit log in the OpenAPI document.

use serde_json::{Value, json};

use super::{object, reference};

/// The parameters that the audit log is asked with. An empty one is as good as none, as the pages' forms send it.
fn query(names: &[&str]) -> Value {
    let parameter = |name: &&str| {
        let (description, schema) = match *name {
            "user" => ("Whose account: an id or an e-mail address", json!({ "type": "string" })),
            "actor" => (
                "Which account did it, by itself or with a token: an id or an e-mail address",
                json!({ "type": "string" }),
            ),
            "token" => {
                ("Which token it concerns, or did it: its id", json!({ "type": "string", "format": "uuid" }))
            }
            "action" => (
                "What: one action, such as `token.created`, or all of a subject, such as `token`",
                json!({ "type": "string" }),
            ),
            "from" => ("At this time or later; a day (UTC) is its beginning", json!({ "type": "string" })),
            "to" => ("Before this time; a day (UTC) is in it to its end", json!({ "type": "string" })),
            "limit" => (
                "How many entries a page has",
                json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 }),
            ),
            _ => ("The `next` of the page before", json!({ "type": "string" })),
        };
        json!({ "name": name, "in": "query", "allowEmptyValue": true, "description": description, "schema": schema })
    };
    names.iter().map(parameter).collect()
}

pub(super) fn page() -> Value {
    let id = json!({ "type": "string", "format": "uuid" });
    let maybe_id = json!({ "type": ["string", "null"], "format": "uuid" });
    let actor = object(
        &["kind"],
        json!({
            "kind": { "enum": ["user", "token", "operator", "system", "anonymous"] },
            "user_id": &id,
            "email": { "type": "string", "description": "As it was then" },
            "pat_id": &id,
            "pat_name": { "type": "string", "description": "As it was then" },
            "address": { "type": "string", "description": "Where from" },
        }),
    );
    let entry = object(
        &["seq", "at", "action", "actor", "user_id", "pat_id", "details", "hash"],
        json!({
            "seq": { "type": "integer", "minimum": 1, "description": "Its number in the chain" },
            "at": reference("Time"),
            "action": { "type": "string", "description": "Such as `token.created`; what was refused begins with `refused.`" },
            "actor": actor,
            "user_id": { "description": "Whose account it concerns", "type": ["string", "null"], "format": "uuid" },
            "pat_id": maybe_id,
            "details": { "type": "object", "additionalProperties": { "type": "string" } },
            "hash": { "type": "string", "pattern": "^[0-9a-f]{64}$" },
        }),
    );
    object(
        &["value", "next"],
        json!({
            "value": { "type": "array", "maxItems": 200, "items": entry },
            "next": { "type": ["string", "null"], "description": "What the next page is asked for with as `after`; null at the end" },
        }),
    )
}

/// An operation that is asked with these parameters.
pub(super) fn asked(names: &[&str], mut operation: Value) -> Value {
    operation["parameters"] = query(names);
    operation
}
