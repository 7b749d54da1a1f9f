//! The audit log in the OpenAPI document.

use serde_json::{Value, json};

use super::{object, reference};

/// The parameters that the audit log is asked with. An empty one is as good as none, as the pages'
/// forms send it.
fn query(names: &[&str]) -> Value {
    let parameter = |name: &&str| {
        let (description, schema) = match *name {
            "user" => ("The affected account: an id or an email address", json!({ "type": "string" })),
            "actor" => (
                "The account that acted, directly or with a token: an id or an email address",
                json!({ "type": "string" }),
            ),
            "token" => (
                "The id of the token that was affected or that acted",
                json!({ "type": "string", "format": "uuid" }),
            ),
            "action" => (
                "One action, such as `token.created`, or all actions of a kind, such as `token`",
                json!({ "type": "string" }),
            ),
            "from" => {
                ("At this time or later; a day (UTC) counts from its beginning", json!({ "type": "string" }))
            }
            "to" => ("Before this time; a day (UTC) is included to its end", json!({ "type": "string" })),
            "limit" => {
                ("The page size", json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 }))
            }
            _ => ("The `next` of the previous page", json!({ "type": "string" })),
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
            "email": { "type": "string", "description": "At the time of the entry" },
            "pat_id": &id,
            "pat_name": { "type": "string", "description": "At the time of the entry" },
            "address": { "type": "string", "description": "The address of the client" },
        }),
    );
    let entry = object(
        &["seq", "at", "action", "actor", "user_id", "pat_id", "details", "hash"],
        json!({
            "seq": { "type": "integer", "minimum": 1, "description": "The number of the entry in the chain" },
            "at": reference("Time"),
            "action": { "type": "string", "description": "Such as `token.created`; refused requests begin with `refused.`" },
            "actor": actor,
            "user_id": { "description": "The affected account", "type": ["string", "null"], "format": "uuid" },
            "pat_id": maybe_id,
            "details": { "type": "object", "additionalProperties": { "type": "string" } },
            "hash": { "type": "string", "pattern": "^[0-9a-f]{64}$" },
        }),
    );
    object(
        &["value", "next"],
        json!({
            "value": { "type": "array", "maxItems": 200, "items": entry },
            "next": { "type": ["string", "null"], "description": "The value of `after` for the next page; null on the last page" },
        }),
    )
}

/// An operation that is asked with these parameters.
pub(super) fn asked(names: &[&str], mut operation: Value) -> Value {
    operation["parameters"] = query(names);
    operation
}
