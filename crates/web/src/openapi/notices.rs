//! Notices and webhooks, in the OpenAPI document.

use serde_json::{Value, json};

use super::{BODY, BOTH, answer, object, operation, reference, value, with_body};

type Failure = (&'static str, &'static str);

pub(super) const READ: Failure = ("403", "The token does not have the scope `api:read`");
pub(super) const ADMIN_READ: Failure =
    ("403", "The token does not have the scope `api:read`, or the account is not an administrator");
pub(super) const SESSION_ONLY: Failure = (
    "403",
    "The credential is a token: webhooks are changed with a browser session only, so that a stolen token cannot silence its owner's notices \
     (`session_required`; `insufficient_scope` without `api:read`); or the request came from another site",
);
pub(super) const ADMIN_SESSION_ONLY: Failure = (
    "403",
    "The account is not an administrator, or the credential is a token: webhooks are changed with a browser session only (`session_required`); \
     or the request came from another site",
);
const UNKNOWN: Failure = ("404", "No such webhook, or the webhook of another account");

fn webhook_members() -> Value {
    json!({
        "webhook_id": { "type": "string", "format": "uuid" },
        "origin": { "type": "string", "description": "The scheme, host and port of the URL; the rest may contain a secret and is not shown" },
        "created_at": reference("Time"),
    })
}

pub(super) fn webhook() -> Value {
    object(&["webhook_id", "origin", "created_at"], webhook_members())
}

pub(super) fn webhook_with_secret() -> Value {
    let mut members = webhook_members();
    let description = "The secret that requests are signed with (Standard Webhooks)";
    members["secret"] = json!({ "type": "string", "pattern": "^whsec_", "description": description });
    object(&["webhook_id", "origin", "created_at", "secret"], members)
}

pub(super) fn new_webhook() -> Value {
    object(&["url"], json!({ "url": { "type": "string", "maxLength": 2048, "description": "https://…" } }))
}

pub(super) fn tried_webhook() -> Value {
    object(
        &["notice_id", "delivered", "error"],
        json!({
            "notice_id": { "type": "string", "format": "uuid" },
            "delivered": { "type": "boolean" },
            "error": { "type": ["string", "null"], "description": "Why the delivery failed; it is retried like any other notice" },
        }),
    )
}

/// The list of tokens, with what it may be asked for.
pub(super) fn due_soon(mut operation: Value) -> Value {
    operation["parameters"] = json!([{
        "name": "due", "in": "query", "schema": { "type": "string", "enum": ["soon"] },
        "description": "`soon`: only tokens that expire within 30 days, soonest first",
    }]);
    operation
}

pub(super) fn webhook_id() -> Value {
    json!([{ "name": "webhook_id", "in": "path", "required": true, "schema": { "type": "string" }, "description": "The webhook's id" }])
}

pub(super) fn listed_webhooks(id: &str, summary: &str, forbidden: Failure) -> Value {
    let webhooks = json!({ "type": "array", "items": reference("Webhook") });
    operation(id, summary, BOTH, ("200", value("The webhooks, oldest first", webhooks)), &[forbidden])
}

pub(super) fn added_webhook(id: &str, summary: &str, forbidden: Failure) -> Value {
    let added = ("201", value("The webhook, with its secret", reference("AddedWebhook")));
    let failures = [
        BODY[0],
        forbidden,
        ("404", "The account is not active"),
        ("409", "There are already ten webhooks"),
        BODY[1],
        BODY[2],
        BODY[3],
    ];
    with_body(operation(id, summary, BOTH, added, &failures), "AddWebhook")
}

pub(super) fn removed_webhook(id: &str, forbidden: Failure) -> Value {
    let removed = object(&["webhook_id"], json!({ "webhook_id": { "type": "string", "format": "uuid" } }));
    let summary = "Remove a webhook and cancel its pending deliveries";
    let failures = [("400", "The id is not UTF-8"), forbidden, UNKNOWN];
    operation(id, summary, BOTH, ("200", value("Removed", removed)), &failures)
}

pub(super) fn tested_webhook(id: &str, forbidden: Failure) -> Value {
    let tested = ("200", value("Whether the notice was delivered", reference("TestedWebhook")));
    let failures = [
        ("400", "The id is not UTF-8"),
        forbidden,
        UNKNOWN,
        ("429", "The webhook was tested a moment ago; Retry-After says when to try again"),
    ];
    operation(id, "Send a test notice to a webhook", BOTH, tested, &failures)
}

pub(super) fn listed_notices(id: &str, summary: &str, forbidden: Failure) -> Value {
    let page = object(
        &["value", "next"],
        json!({
            "value": { "type": "array", "maxItems": 100, "items": reference("Notice") },
            "next": { "type": ["string", "null"], "description": "The value of `after` for the next page; null on the last page" },
        }),
    );
    let failures = [("400", "`after` or `limit` is not valid"), forbidden];
    let mut operation = operation(id, summary, BOTH, ("200", answer("The notices", page)), &failures);
    operation["parameters"] = json!([
        { "name": "after", "in": "query", "schema": { "type": "string" }, "description": "The `next` of the previous page" },
        { "name": "limit", "in": "query", "schema": { "type": "integer", "minimum": 1, "maximum": 100, "default": 50 } },
    ]);
    operation
}

pub(super) fn notice() -> Value {
    let id = json!({ "type": "string", "format": "uuid" });
    let optional_id = json!({ "type": ["string", "null"], "format": "uuid" });
    let optional_time = json!({ "anyOf": [reference("Time"), { "type": "null" }] });
    let delivery = object(
        &["channel", "target", "webhook_id", "state", "attempts", "next_at", "error", "done_at"],
        json!({
            "channel": { "enum": ["mail", "webhook"] },
            "target": { "type": "string", "description": "The email address, or the webhook's scheme, host and port" },
            "webhook_id": &optional_id,
            "state": { "enum": ["pending", "done", "failed"] },
            "attempts": { "type": "integer", "minimum": 0 },
            "next_at": &optional_time,
            "error": { "type": ["string", "null"], "description": "Why the last attempt failed" },
            "done_at": &optional_time,
        }),
    );
    let facts = json!({
        "pat_name": { "type": "string" }, "pat_hint": { "type": "string" }, "expires_at": reference("Time"),
        "seen_at": { "type": "string", "description": "Where a leak was found, or the address that a request came from" },
        "unused_days": { "type": "integer", "minimum": 1 },
    });
    object(
        &["notice_id", "kind", "user_id", "email", "pat_id", "created_at", "facts", "deliveries"],
        json!({
            "notice_id": &id,
            "kind": { "enum": [
                "expiring_30d", "expiring_7d", "expiring_1d", "leaked", "retired_secret_used", "unused_ended", "revoked_by_admin", "test",
            ] },
            "user_id": &id,
            "email": { "type": "string" },
            "pat_id": &optional_id,
            "created_at": reference("Time"),
            "facts": object(&[], facts),
            "deliveries": { "type": "array", "items": delivery },
        }),
    )
}
