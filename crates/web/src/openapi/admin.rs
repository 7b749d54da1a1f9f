//! What the document says of `/api/admin/users`, `/api/admin/invites` and
//! `/api/admin/personal-access-tokens`.

use serde_json::{Value, json};

use super::{BODY, BOTH, answer, object, operation, reference, value, with_body};

const ADMINISTRATORS: (&str, &str) = (
    "403",
    "The account is not an administrator, the token does not have a required scope (WWW-Authenticate names the scope), or the request came from another site",
);

/// A page of a list: `next` is the `after` of the page behind it.
fn page(description: &str, items: Value) -> Value {
    answer(
        description,
        object(
            &["value", "next"],
            json!({
                "value": { "type": "array", "items": items },
                "next": { "type": ["string", "null"], "description": "The value of `after` for the next page; null on the last page" },
            }),
        ),
    )
}

/// Where a list goes on, and for how long.
fn paging(most: u64) -> [Value; 2] {
    [
        parameter("after", &json!({ "type": "string" }), "The `next` of the previous page"),
        parameter(
            "limit",
            &json!({ "type": "integer", "minimum": 1, "maximum": most }),
            "The page size; 50 by default",
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
        ("owner", text(), "The owner: an account's id, or the beginning of an email address"),
        ("name", text(), "The beginning of the name; ASCII letters match in either case"),
        (
            "hint",
            json!({ "type": "string", "pattern": "^((\\.\\.\\.)?[0-9A-Za-z]{4})?$" }),
            "The last four characters of the secret, with or without `...` in front",
        ),
        ("state", json!({ "enum": ["active", "expired", "revoked", ""] }), "The state of the tokens"),
        (
            "expires_before",
            text(),
            "Tokens that expire or expired before this time (RFC 3339) or day (UTC); revoked tokens only with `state`",
        ),
        (
            "unused_since",
            text(),
            "Tokens that were not used since this time (RFC 3339) or day (UTC); tokens that were never used count from their creation; revoked tokens only with `state`",
        ),
    ]
}

fn pat_paths() -> Value {
    let found = || {
        object(
            &["value", "next", "count"],
            json!({
                "value": { "type": "array", "items": reference("OwnedToken") },
                "next": { "type": ["string", "null"], "description": "The value of `after` for the next page; null on the last page" },
                "count": { "type": "integer", "minimum": 0, "maximum": 10001, "description": "The number of tokens on all pages; 10001 means more than ten thousand" },
            }),
        )
    };
    let filter = pat_filter().into_iter().map(|(name, schema, says)| parameter(name, &schema, says));
    json!({
        "/api/admin/personal-access-tokens": { "get": with_query(operation(
            "listAllTokens", "List the tokens of all accounts. The order depends on the filter: newest first for an owner, a hint, no filter or revoked tokens; by name for a name; unused longest first for `unused_since`; active tokens by the soonest expiry, expired tokens by the latest (administrators only; a token needs the scopes `api:read` and `tokens`)", BOTH,
            ("200", answer("One page of tokens", found())), &[ADMINISTRATORS],
        ), filter.chain(paging(100)).collect()) },
        "/api/admin/personal-access-tokens/revoke": { "post": with_body(operation(
            "revokeMatchingTokens", "Revoke all tokens that match a filter, at most 1000. Their number must be as expected, and the filter must contain more than a state (administrators only; a token needs the scopes `api` and `tokens`)", BOTH,
            ("200", value("Revoked everywhere; the owners are notified", object(&["revoked", "sessions_terminated"], json!({
                "revoked": { "type": "integer", "minimum": 0, "description": "The number of tokens that were revoked, not counting tokens created with them" },
                "sessions_terminated": { "type": "integer", "minimum": 0 },
            })))),
            &[BODY[0], ADMINISTRATORS, ("409", "The number of tokens is not as expected; nothing was revoked"), BODY[1], BODY[2], BODY[3]],
        ), "RevokeMatchingTokens") },
        "/api/admin/personal-access-tokens/{pat_id}": {
            "parameters": path_id("pat_id", "The token's id"),
            "get": operation(
                "getAnyToken", "Get a token of any account (administrators only; a token needs the scopes `api:read` and `tokens`)", BOTH,
                ("200", value("The token", reference("OwnedToken"))), &[ADMINISTRATORS, ("404", "No such token")],
            ),
            "delete": operation(
                "revokeAnyToken", "Revoke a token of any account and notify its owner (administrators only; a token needs the scopes `api` and `tokens`)", BOTH,
                ("200", value("Revoked everywhere; if the token was revoked before, the time of that revocation", reference("Revoked"))), &[ADMINISTRATORS, ("404", "No such token")],
            ),
        },
    })
}

/// A token as its owner sees it, and whose it is.
fn owned_token(mut token: Value) -> Value {
    for (name, schema) in [
        ("user_id", json!({ "type": "string", "format": "uuid", "description": "The owner" })),
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
    let mut properties = json!({ "expected": { "type": "integer", "minimum": 0, "maximum": 1000, "description": "The number of tokens that match the filter" } });
    for (name, mut schema, says) in pat_filter() {
        schema["description"] = says.into();
        properties[name] = schema;
    }
    properties["state"] = json!({ "enum": ["active", "expired", ""], "description": "active by default" });
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
                "listUsers", "List the accounts, newest first (administrators only; a token needs the scope `api:read`)", BOTH,
                ("200", page("The accounts", reference("Account"))), &[ADMINISTRATORS],
            ), [
                parameter("email", &json!({ "type": "string" }), "Part of the email address"),
                parameter("is_admin", &json!({ "type": "boolean" }), "Only administrators, or only other accounts"),
                parameter("is_disabled", &json!({ "type": "boolean" }), "Only disabled accounts, or only enabled ones"),
            ].into_iter().chain(paging(200)).collect()),
            "post": with_body(operation(
                "inviteUser", "Invite someone: only this answer contains the link (administrators only; a token needs the scopes `api` and `tokens`)", BOTH,
                ("201", value("The invitation, with its link", reference("NewInvite"))),
                &[BODY[0], ADMINISTRATORS, ("409", "The address has an account, or there are too many invitations"), BODY[1], BODY[2], BODY[3]],
            ), "InviteUser"),
        },
        "/api/admin/users/{user_id}": {
            "parameters": path_id("user_id", "The account's id"),
            "get": operation(
                "getUser", "Get an account (administrators only; a token needs the scope `api:read`)", BOTH,
                ("200", value("The account", reference("Account"))), &[ADMINISTRATORS, ("404", "No such account")],
            ),
            "patch": with_body(operation(
                "changeUser", "Change one property of an account. A change that removes access applies on every node once this is answered. Accounts can be disabled, not deleted (administrators only; a token needs the scope `api`, and also `tokens` to promote or enable an account or to add upstreams)", BOTH,
                ("200", value("The changed account", reference("Account"))),
                &[BODY[0], ADMINISTRATORS, ("404", "No such account"), ("409", "The account is the last enabled administrator"), BODY[1], BODY[2], BODY[3]],
            ), "ChangeUser"),
        },
        "/api/admin/invites": { "get": operation(
            "listInvites", "List the open invitations, newest first (administrators only; a token needs the scope `api:read`)", BOTH,
            ("200", value("The invitations", json!({ "type": "array", "items": reference("Invite") }))), &[ADMINISTRATORS],
        ) },
        "/api/admin/invites/{invite_id}": {
            "parameters": path_id("invite_id", "The invitation's id"),
            "delete": operation(
                "withdrawInvite", "Revoke an invitation: its link stops working (administrators only; a token needs the scope `api`)", BOTH,
                ("200", value("The invitation is revoked", object(&["invite_id"], json!({ "invite_id": { "type": "string", "format": "uuid" } })))),
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
        "is_admin": { "type": "boolean", "description": "Whether the account will be an administrator" },
        "created_by": { "type": ["string", "null"], "format": "uuid", "description": "null: created with a command on the server" },
        "created_at": reference("Time"),
        "expires_at": reference("Time"),
    })
}

fn new_invite() -> Value {
    let mut properties = invite();
    properties["invite_url"] = json!({ "type": "string", "format": "uri", "description": "Anyone who has the link can create the account" });
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
            "upstreams": { "type": ["array", "null"], "items": { "type": "string" }, "description": "The upstreams that the account can use; null: all" },
            "active_tokens": { "type": "integer", "minimum": 0 },
        })),
        "ChangeUser": { "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": {
            "is_disabled": { "type": "boolean" },
            "is_admin": { "type": "boolean" },
            "upstreams": { "type": ["array", "null"], "items": { "type": "string", "pattern": "^[a-z0-9-]{1,32}$" }, "maxItems": 100, "description": "null: all" },
        } },
        "InviteUser": object(&["email"], json!({ "email": { "type": "string", "minLength": 3, "examples": ["grace@example.org"] }, "is_admin": { "type": "boolean", "description": "false by default" } })),
        "Invite": object(INVITE, invite()),
        "NewInvite": new_invite(),
    })
}
