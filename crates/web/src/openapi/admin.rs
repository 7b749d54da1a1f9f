//! What the document says of `/api/admin/users`, `/api/admin/invites` and `/api/admin/personal-access-tokens`.

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
fn paging(most: u64) -> [Value; 2] {
    [
        parameter("after", &json!({ "type": "string" }), "The `next` of the page before"),
        parameter(
            "limit",
            &json!({ "type": "integer", "minimum": 1, "maximum": most }),
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

/// Which tokens: members of a query or of a body.
fn pat_filter() -> [(&'static str, Value, &'static str); 6] {
    let text = || json!({ "type": "string" });
    [
        ("owner", text(), "Whose: an account's id, or how the address begins"),
        ("name", text(), "How the name begins, ASCII letters in either case"),
        (
            "hint",
            json!({ "type": "string", "pattern": "^((\\.\\.\\.)?[0-9A-Za-z]{4})?$" }),
            "The last four characters, with `...` before them or without",
        ),
        ("state", json!({ "enum": ["active", "expired", "revoked", ""] }), "What has become of them"),
        (
            "expires_before",
            text(),
            "They expire, or have expired, before this time (RFC 3339) or day (UTC); revoked ones only with `state`",
        ),
        (
            "unused_since",
            text(),
            "They were not used from this time (RFC 3339) or day (UTC) on; one that never was counts from when it was made; revoked ones only with `state`",
        ),
    ]
}

fn pat_paths() -> Value {
    let found = || {
        object(
            &["value", "next", "count"],
            json!({
                "value": { "type": "array", "items": reference("OwnedToken") },
                "next": { "type": ["string", "null"], "description": "What to give as `after`; null on the last page" },
                "count": { "type": "integer", "minimum": 0, "maximum": 10001, "description": "How many on all pages; 10001: more than ten thousand" },
            }),
        )
    };
    let filter = pat_filter().into_iter().map(|(name, schema, says)| parameter(name, &schema, says));
    json!({
        "/api/admin/personal-access-tokens": { "get": with_query(operation(
            "listAllTokens", "Everybody's tokens, in the order of what is looked for: of an owner, a hint, nothing, or revoked ones the newest first; by name; those unused longest first; of active ones the soonest to end first, of expired ones the last (an administrator's; a token needs the scopes `api:read` and `tokens`)", BOTH,
            ("200", answer("A page of them", found())), &[ADMINISTRATORS],
        ), filter.chain(paging(100)).collect()) },
        "/api/admin/personal-access-tokens/revoke": { "post": with_body(operation(
            "revokeMatchingTokens", "Revoke all tokens that a filter fits, at most 1000, if they are as many as expected and the filter says more than a state (an administrator's; a token needs the scopes `api` and `tokens`)", BOTH,
            ("200", value("Revoked everywhere; their owners are told", object(&["revoked", "sessions_terminated"], json!({
                "revoked": { "type": "integer", "minimum": 0, "description": "How many this has revoked, not counting what was made with them" },
                "sessions_terminated": { "type": "integer", "minimum": 0 },
            })))),
            &[BODY[0], ADMINISTRATORS, ("409", "They are not as many as expected; nothing was revoked"), BODY[1], BODY[2], BODY[3]],
        ), "RevokeMatchingTokens") },
        "/api/admin/personal-access-tokens/{pat_id}": {
            "parameters": path_id("pat_id", "The token's id"),
            "get": operation(
                "getAnyToken", "A token, whoever's it is (an administrator's; a token needs the scopes `api:read` and `tokens`)", BOTH,
                ("200", value("The token", reference("OwnedToken"))), &[ADMINISTRATORS, ("404", "No such token")],
            ),
            "delete": operation(
                "revokeAnyToken", "Revoke a token, whoever's it is; its owner is told (an administrator's; a token needs the scopes `api` and `tokens`)", BOTH,
                ("200", value("Revoked everywhere; again: the first time", reference("Revoked"))), &[ADMINISTRATORS, ("404", "No such token")],
            ),
        },
    })
}

/// A token as its owner sees it, and whose it is.
fn owned_token(mut token: Value) -> Value {
    for (name, schema) in [
        ("user_id", json!({ "type": "string", "format": "uuid", "description": "Whose it is" })),
        ("email", json!({ "type": "string" })),
    ] {
        token["properties"][name] = schema;
        if let Some(required) = token["required"].as_array_mut() {
            required.push(name.into());
        }
    }
    token
}

fn revoke_matching() -> Value {
    let mut properties = json!({ "expected": { "type": "integer", "minimum": 0, "maximum": 1000, "description": "How many tokens the filter fits" } });
    for (name, mut schema, says) in pat_filter() {
        schema["description"] = says.into();
        properties[name] = schema;
    }
    properties["state"] = json!({ "enum": ["active", "expired", ""], "description": "active if left out" });
    let mut body = object(&["expected"], properties);
    // One of them at least says something: an empty filter would fit everybody's.
    let narrow = ["owner", "name", "hint", "expires_before", "unused_since"];
    let says = |name: &str| json!({ "required": [name], "properties": { name: { "pattern": "\\S" } } });
    body["anyOf"] = narrow.map(says).into();
    body
}

pub(super) fn paths() -> Value {
    super::with(pat_paths(), people_paths())
}

fn people_paths() -> Value {
    json!({
        "/api/admin/users": {
            "get": with_query(operation(
                "listUsers", "The accounts, newest first (an administrator's; a token needs the scope `api:read`)", BOTH,
                ("200", page("The accounts", reference("Account"))), &[ADMINISTRATORS],
            ), [
                parameter("email", &json!({ "type": "string" }), "A part of the address"),
                parameter("is_admin", &json!({ "type": "boolean" }), "Those who administer, or those who do not"),
                parameter("is_disabled", &json!({ "type": "boolean" }), "Those that are disabled, or those that are not"),
            ].into_iter().chain(paging(200)).collect()),
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
                "changeUser", "Change one thing about an account; what takes power away holds everywhere when this is answered. Accounts are disabled, not deleted (an administrator's; a token needs the scope `api`, and `tokens` beside it to promote, to enable or to add upstreams)", BOTH,
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

/// `token`: how a token is shown to its owner.
pub(super) fn schemas(token: &Value) -> Value {
    json!({
        "OwnedToken": owned_token(token.clone()),
        "RevokeMatchingTokens": revoke_matching(),
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
