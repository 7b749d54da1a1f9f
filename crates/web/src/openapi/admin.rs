//! What the document says of `/api/admin/users` and `/api/admin/invites`.

use serde_json::{Value, json};

use super::{BODY, BOTH, answer, object, operation, reference, value, with_body};

const ADMINISTRATORS: (&str, &str) = (
    "403",
    "The account is no administrator's, the token lacks a scope (WWW-Authenticate names it), or a browser was sent here by another site",
);

/// A page of a list: `next` is the `after` of the page behind it.
fn page(description: &str, items: Value) -> Value {
    answer(
        description,
        object(
            &["value", "next"],
            json!({
                "value": { "type": "array", "items": items },
                "next": { "type": ["string", "null"], "description": "What to give as `after`; null on the last page" },
            }),
        ),
    )
}

/// Where a list goes on, and for how long.
fn paging() -> [Value; 2] {
    [
        parameter("after", &json!({ "type": "string" }), "The `next` of the page before"),
        parameter(
            "limit",
            &json!({ "type": "integer", "minimum": 1, "maximum": 200 }),
            "How many; 50 if left out",
        ),
    ]
}

fn parameter(name: &str, schema: &Value, description: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": schema, "description": description })
}

fn with_query(mut operation: Value, parameters: Vec<Value>) -> Value {
    operation["parameters"] = parameters.into();
    operation
}

fn path_id(name: &str, description: &str) -> Value {
    json!([{ "name": name, "in": "path", "required": true, "schema": { "type": "string" }, "description": description }])
}

pub(super) fn paths() -> Value {
    json!({
        "/api/admin/users": {
            "get": with_query(operation(
                "listUsers", "The accounts, newest first (an administrator's; a token needs the scope `api:read`)", BOTH,
                ("200", page("The accounts", reference("Account"))), &[ADMINISTRATORS],
            ), [
                parameter("email", &json!({ "type": "string" }), "A part of the address"),
                parameter("is_admin", &json!({ "type": "boolean" }), "Those who administer, or those who do not"),
                parameter("is_disabled", &json!({ "type": "boolean" }), "Those that are disabled, or those that are not"),
            ].into_iter().chain(paging()).collect()),
            "post": with_body(operation(
                "inviteUser", "Invite somebody: the link is in this answer and nowhere else (an administrator's; a token needs the scopes `api` and `tokens`)", BOTH,
                ("201", value("The invitation, with its link", reference("NewInvite"))),
                &[BODY[0], ADMINISTRATORS, ("409", "The address has an account, or there are too many invitations"), BODY[1], BODY[2], BODY[3]],
            ), "InviteUser"),
        },
        "/api/admin/users/{user_id}": {
            "parameters": path_id("user_id", "The account's id"),
            "get": operation(
                "getUser", "An account (an administrator's; a token needs the scope `api:read`)", BOTH,
                ("200", value("The account", reference("Account"))), &[ADMINISTRATORS, ("404", "No such account")],
            ),
            "patch": with_body(operation(
                "changeUser", "Change one thing about an account; what takes power away holds everywhere when this is answered. Accounts are disabled, not deleted (an administrator's; a token needs the scope `api`)", BOTH,
                ("200", value("The account, as it is now", reference("Account"))),
                &[BODY[0], ADMINISTRATORS, ("404", "No such account"), ("409", "It is the last administrator that is enabled"), BODY[1], BODY[2], BODY[3]],
            ), "ChangeUser"),
        },
        "/api/admin/invites": { "get": operation(
            "listInvites", "The invitations that may still be accepted, newest first (an administrator's; a token needs the scope `api:read`)", BOTH,
            ("200", value("The invitations", json!({ "type": "array", "items": reference("Invite") }))), &[ADMINISTRATORS],
        ) },
        "/api/admin/invites/{invite_id}": {
            "parameters": path_id("invite_id", "The invitation's id"),
            "delete": operation(
                "withdrawInvite", "Take an invitation back: its link no longer works (an administrator's; a token needs the scope `api`)", BOTH,
                ("200", value("It is gone", object(&["invite_id"], json!({ "invite_id": { "type": "string", "format": "uuid" } })))),
                &[ADMINISTRATORS, ("404", "No such invitation")],
            ),
        },
    })
}

const INVITE: &[&str] = &["invite_id", "email", "is_admin", "created_by", "created_at", "expires_at"];

fn invite() -> Value {
    json!({
        "invite_id": { "type": "string", "format": "uuid" },
        "email": { "type": "string" },
        "is_admin": { "type": "boolean", "description": "Whether the account will administer" },
        "created_by": { "type": ["string", "null"], "format": "uuid", "description": "null: the operator, by a command" },
        "created_at": reference("Time"),
        "expires_at": reference("Time"),
    })
}

fn new_invite() -> Value {
    let mut properties = invite();
    properties["invite_url"] =
        json!({ "type": "string", "format": "uri", "description": "Whoever has it becomes that account" });
    object(&[INVITE, &["invite_url"]].concat(), properties)
}

pub(super) fn schemas() -> Value {
    json!({
        "Account": object(&["user_id", "email", "is_admin", "created_at", "disabled_at", "upstreams", "active_tokens"], json!({
            "user_id": { "type": "string", "format": "uuid" },
            "email": { "type": "string" },
            "is_admin": { "type": "boolean" },
            "created_at": reference("Time"),
            "disabled_at": { "anyOf": [reference("Time"), { "type": "null" }] },
            "upstreams": { "type": ["array", "null"], "items": { "type": "string" }, "description": "Those that it may use; null: all" },
            "active_tokens": { "type": "integer", "minimum": 0 },
        })),
        "ChangeUser": { "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": {
            "is_disabled": { "type": "boolean" },
            "is_admin": { "type": "boolean" },
            "upstreams": { "type": ["array", "null"], "items": { "type": "string", "pattern": "^[a-z0-9-]{1,32}$" }, "maxItems": 100, "description": "null: all" },
        } },
        "InviteUser": object(&["email"], json!({ "email": { "type": "string", "minLength": 3, "examples": ["grace@example.org"] }, "is_admin": { "type": "boolean", "description": "false if left out" } })),
        "Invite": object(INVITE, invite()),
        "NewInvite": new_invite(),
    })
}
