//! `GET /api/openapi.json`: OpenAPI 3.1 of the REST API.
//!
//! Written by hand, beside the routes: a test holds it against them, and against what the handlers
//! answer.

mod admin;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use serde_json::{Value, json};

mod audit;
mod leaks;
mod notices;
mod policy;

use self::notices::{
    ADMIN_READ, ADMIN_SESSION_ONLY, READ, SESSION_ONLY, added_webhook, listed_notices, listed_webhooks,
    new_webhook, notice, removed_webhook, tested_webhook, tried_webhook, webhook, webhook_id,
    webhook_with_secret,
};

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub(crate) async fn handle() -> Response {
    ([(CACHE_CONTROL, "public, max-age=300")], axum::Json(&*DOCUMENT)).into_response()
}

/// An object with the members of another as well.
fn with(mut object: Value, others: Value) -> Value {
    if let (Some(members), Value::Object(others)) = (object.as_object_mut(), others) {
        members.extend(others);
    }
    object
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn answer(description: &str, schema: Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn value(description: &str, schema: Value) -> Value {
    let schema = json!({
        "type": "object", "required": ["value"], "additionalProperties": false, "properties": { "value": schema }
    });
    answer(description, schema)
}

fn failure((status, description): &(&str, &str)) -> Value {
    let mut failure = answer(description, reference("Error"));
    let header = |name: &str| json!({ "$ref": format!("#/components/headers/{name}") });
    match *status {
        "401" | "403" => failure["headers"] = json!({ "WWW-Authenticate": header("Challenge") }),
        "429" | "503" => failure["headers"] = json!({ "Retry-After": header("RetryAfter") }),
        _ => {}
    }
    failure
}

/// An operation. `failures` are those beside the ones that every operation of its kind has.
fn operation(
    id: &str,
    summary: &str,
    security: &[&str],
    (status, mut success): (&str, Value),
    failures: &[(&str, &str)],
) -> Value {
    let for_all = if security.is_empty() { &FOR_ALL[..3] } else { &FOR_ALL };
    if !security.is_empty() {
        let header = |name: &str| json!({ "$ref": format!("#/components/headers/{name}") });
        success["headers"] = json!({
            "TrustRelay-Token-Expiration": header("TokenExpiration"),
            "RateLimit-Policy": header("RateLimitPolicy"),
            "RateLimit": header("RateLimit"),
        });
    }
    let failures = for_all.iter().chain(failures).map(|given| (given.0.to_owned(), failure(given)));
    let responses: serde_json::Map<_, _> = failures.chain([(status.to_owned(), success)]).collect();
    let security: Vec<_> = security.iter().map(|name| json!({ *name: [] })).collect();
    json!({ "operationId": id, "summary": summary, "security": security, "responses": responses })
}

fn with_body(mut operation: Value, schema: &str) -> Value {
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": reference(schema) } } });
    operation
}

const BOTH: &[&str] = &["token", "session"];
/// The failures of every operation, and behind them those of every operation with a credential.
const FOR_ALL: [(&str, &str); 6] = [
    (
        "500",
        "Something went wrong on the server; the server log has the details under this answer's x-request-id",
    ),
    (
        "503",
        "The database is not available, or the request took too long; Retry-After says when to try again",
    ),
    ("400", "The request is not valid; the message says why and what to do"),
    ("401", "The credential is missing, wrong, expired or revoked; WWW-Authenticate says which"),
    ("403", "The token cannot be used from the address of the request"),
    ("429", "The token has reached its rate limit; Retry-After says when to try again"),
];
const BODY: [(&str, &str); 4] = [
    ("400", "The body is not JSON, or a field is not valid; the message names the field"),
    ("408", "The body did not arrive in time"),
    ("413", "The body is larger than 64 KiB"),
    ("415", "The body is not application/json"),
];
const CROSS_ORIGIN: (&str, &str) = ("403", "The request came from another site");
const FORBIDDEN: (&str, &str) = (
    "403",
    "The token does not have a required scope (WWW-Authenticate names the scope), or cannot be used from this address, or the request came from another site",
);
const FORBIDDEN_OR_AGAINST_POLICY: (&str, &str) = (
    "403",
    "The token does not have a required scope (WWW-Authenticate names the scope), or cannot be used from this address, or the policy does not allow the scopes or the lifetime (not_allowed_by_policy), or the request came from another site",
);
const FORBIDDEN_TOKEN: (&str, &str) =
    ("403", "The token does not have a required scope (WWW-Authenticate names the scope)");
const ADMIN: (&str, &str) =
    ("403", "The token does not have the scope `api:read`, or the account is not an administrator");
const AUDIT_QUERY: (&str, &str) = ("400", "The query is not valid; the message says why and what to do");
const UNKNOWN: (&str, &str) = ("404", "No such token, or the token of another account");

fn paths() -> Value {
    let id = json!([{
        "name": "pat_id", "in": "path", "required": true, "schema": { "type": "string" },
        "description": "The token's id, or `self` for the token that makes the request"
    }]);
    json!({
        "/api/auth/login": { "post": with_body(operation(
            "login", "Sign in: sets the session cookie", &[],
            ("200", value("Signed in", json!({
                "type": "object", "required": ["expires_at"], "properties": { "expires_at": reference("Time") }
            }))),
            &[BODY[0], ("401", "The email address or the password is wrong"), CROSS_ORIGIN,
              BODY[1], BODY[2], BODY[3], ("429", "Too many attempts; Retry-After says when to try again")],
        ), "Login") },
        "/api/auth/logout": { "post": operation(
            "logout", "Sign out: ends the session (400 with a token, which has no session)", BOTH,
            ("200", value("Signed out", json!({ "type": "object" }))), &[CROSS_ORIGIN],
        ) },
        "/api/auth/verify": { "post": operation(
            "verify", "Check a credential and get its account", BOTH,
            ("200", value("The credential is valid", json!({
                "type": "object", "required": ["user"], "properties": { "user": reference("User") }
            }))),
            &[CROSS_ORIGIN],
        ) },
        "/api/user": { "get": operation(
            "whoAmI", "Get the current account and credential", BOTH, ("200", value("The caller", reference("WhoAmI"))), &[],
        ) },
        "/api/user/personal-access-tokens": {
            "get": notices::due_soon(operation(
                "listTokens", "List the caller's active tokens, newest first, or those that expire soon (a token needs the scope `tokens`)", BOTH,
                ("200", value("The tokens", json!({ "type": "array", "items": reference("Token") }))),
                &[("400", "The query has an unknown parameter, or `due` is not valid"), FORBIDDEN],
            )),
            "post": with_body(operation(
                "createToken", "Create a token: only this answer contains its secret (a token needs the scope `tokens`)", BOTH,
                ("201", value("The token, with its secret", reference("CreatedToken"))),
                &[BODY[0], FORBIDDEN_OR_AGAINST_POLICY, ("404", "The account is not active"), ("409", "The account has too many tokens"), BODY[1], BODY[2], BODY[3]],
            ), "CreateToken"),
        },
        "/api/user/personal-access-tokens/{pat_id}/activity": {
            "parameters": &id,
            "get": operation(
                "getTokenActivity", "Get the calls of one of the caller's tokens in the last 30 days", BOTH,
                ("200", value("The calls by day and tool, and the latest 100 calls", reference("Activity"))),
                &[("400", "`self` with a browser session, or the id is not UTF-8"), FORBIDDEN, UNKNOWN],
            ),
        },
        "/api/user/personal-access-tokens/{pat_id}/rotate": {
            "parameters": &id,
            "post": rotate(),
        },
        "/api/user/personal-access-tokens/{pat_id}": {
            "parameters": &id,
            "get": operation(
                "getToken", "Get one of the caller's tokens", BOTH, ("200", value("The token", reference("Token"))),
                &[("400", "`self` with a browser session, or the id is not UTF-8"), FORBIDDEN, UNKNOWN],
            ),
            "delete": operation(
                "revokeToken", "Revoke a token: once this is answered, every later request with the token is refused on every node", BOTH,
                ("200", value("Revoked; if the token was revoked before, the time of that revocation", reference("Revoked"))),
                &[("400", "`self` with a browser session, or the id is not UTF-8"), FORBIDDEN, UNKNOWN],
            ),
        },
        "/api/revoke": { "post": leaks::revoke() },
        "/api/leaks": { "post": leaks::leaks() },
        "/api/user/audit": { "get": audit::asked(&["token", "action", "from", "to", "limit", "after"], operation(
            "listOwnAudit", "List the audit log of the caller's account, newest first (a token needs the scope `api:read`, and `tokens` to see entries about other tokens)", BOTH,
            ("200", answer("One page of the audit log", reference("AuditPage"))), &[AUDIT_QUERY, FORBIDDEN_TOKEN],
        )) },
        "/api/admin/audit": { "get": audit::asked(&["user", "actor", "token", "action", "from", "to", "limit", "after"], operation(
            "listAudit", "List the audit log of all accounts, newest first (administrators only; a token needs the scope `api:read`)", BOTH,
            ("200", answer("One page of the audit log", reference("AuditPage"))), &[AUDIT_QUERY, ADMIN],
        )) },
        "/api/admin/audit/export": { "get": audit::asked(&["user", "actor", "token", "action", "from", "to"], operation(
            "exportAudit", "Export the audit log of all accounts as JSON Lines, oldest first (administrators only; a token needs the scope `api:read`)", BOTH,
            ("200", json!({ "description": "One entry per line; docs/AUDIT.md describes how to verify the chain", "content": { "application/jsonl": { "schema": { "type": "string" } } } })),
            &[AUDIT_QUERY, ADMIN],
        )) },
        "/api/user/notices": { "get": listed_notices("listNotices", "List the caller's notices and their delivery, newest first", READ) },
        "/api/user/webhooks": { "get": listed_webhooks("listWebhooks", "List the webhooks that receive the caller's notices", READ),
            "post": added_webhook("addWebhook", "Add a webhook: only this answer contains its signing secret", SESSION_ONLY) },
        "/api/user/webhooks/{webhook_id}": { "parameters": webhook_id(), "delete": removed_webhook("removeWebhook", SESSION_ONLY) },
        "/api/user/webhooks/{webhook_id}/test": { "parameters": webhook_id(), "post": tested_webhook("testWebhook", SESSION_ONLY) },
        "/api/admin/notices": { "get": listed_notices("listAllNotices", "List the notices of all accounts (administrators only)", ADMIN_READ) },
        "/api/admin/webhooks": { "get": listed_webhooks("listSharedWebhooks", "List the webhooks that receive all notices (administrators only)", ADMIN_READ),
            "post": added_webhook("addSharedWebhook", "Add a webhook for all notices (administrators only)", ADMIN_SESSION_ONLY) },
        "/api/admin/webhooks/{webhook_id}": { "parameters": webhook_id(), "delete": removed_webhook("removeSharedWebhook", ADMIN_SESSION_ONLY) },
        "/api/admin/webhooks/{webhook_id}/test": { "parameters": webhook_id(), "post": tested_webhook("testSharedWebhook", ADMIN_SESSION_ONLY) },
        "/api/admin/nodes": { "get": operation(
            "listNodes", "List the nodes, and how far each has applied the log (administrators only; a token needs the scope `api:read`)", BOTH,
            ("200", value("The nodes", reference("Nodes"))),
            &[ADMIN],
        ) },
        "/api/openapi.json": { "get": operation("openapi", "This document", &[], ("200", answer("OpenAPI 3.1", json!({ "type": "object" }))), &[]) },
        "/healthz": { "get": operation("healthz", "Check that the process is alive", &[], ("200", value("The process is alive", json!({ "type": "object" }))), &[]) },
        "/readyz": { "get": operation("readyz", "Check that the node can verify tokens", &[], ("200", value("The node is ready", json!({ "type": "object" }))), &[]) },
        "/metrics": { "get": operation("metrics", "Metrics in the Prometheus text format", &[], ("200", json!({
            "description": "The metrics", "content": { "text/plain": { "schema": { "type": "string" } } }
        })), &[("404", "The metrics are served at another address (`--ops-listen`)")]) },
    })
}

fn rotate() -> Value {
    let mut rotate = with_body(
        operation(
            "rotateToken",
            "Give a token a new secret; the old secret keeps working for an overlap (a token needs `rotate` for itself, `tokens` for tokens created with it)",
            BOTH,
            ("200", value("The token, with its new secret", reference("RotatedToken"))),
            &[
                BODY[0],
                FORBIDDEN_OR_AGAINST_POLICY,
                (
                    "404",
                    "No such token, the token of another account, or a token that was not created with the calling token",
                ),
                ("409", "The token is no longer active, or was rotated at the same time"),
                BODY[1],
                BODY[2],
                BODY[3],
                ("422", "The idempotency key was already used for another rotation of this token"),
            ],
        ),
        "RotateToken",
    );
    rotate["requestBody"]["required"] = json!(false);
    rotate["parameters"] = json!([{
        "name": "Idempotency-Key", "in": "header", "required": false,
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
        "description": "Makes a retry safe if the answer was lost: for 24 hours, the same key gives the same answer"
    }]);
    rotate
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
}

fn activity() -> Value {
    let amount = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let mut call = json!({
        "upstream": { "type": "string", "description": "`trustrelay` for the built-in tools" },
        "tool": {
            "type": "string",
            "description": "The upstream's own name of the tool; the method if the call is not a tool call; `(other)` after 64 different names in a day",
        },
        "duration_us": amount("Microseconds"),
        "bytes_in": amount("Bytes in request bodies"),
        "bytes_out": amount("Bytes in response bodies"),
    });
    let mut tool = call.clone();
    tool["outcomes"] = json!({
        "type": "object", "additionalProperties": { "type": "integer", "minimum": 1 },
        "description": "The number of calls by outcome: `ok`, or the reason why a call failed",
    });
    call["at"] = reference("Time");
    call["outcome"] = json!({ "type": "string" });
    let day = json!({ "type": "string", "format": "date", "description": "UTC" });
    object(
        &["pat_id", "since", "days", "latest", "networks"],
        json!({
            "pat_id": { "type": "string", "format": "uuid" },
            "since": &day,
            "days": { "type": "array", "description": "Newest first; only days with calls", "items": object(&["day", "tools"], json!({
                "day": &day,
                "tools": { "type": "array", "items": object(&["upstream", "tool", "outcomes", "duration_us", "bytes_in", "bytes_out"], tool) },
            })) },
            "latest": { "type": "array", "maxItems": 100, "description": "Newest first", "items":
                object(&["at", "upstream", "tool", "outcome", "duration_us", "bytes_in", "bytes_out"], call) },
            "networks": {
                "type": "array", "maxItems": 50,
                "description": "The networks that the token was used from in these days, through MCP and the API, most recently used first",
                "items": object(&["network", "first_used_at", "last_used_at"], json!({
                    "network": { "type": "string", "description": "An IPv4 /24 or an IPv6 /48" },
                    "first_used_at": reference("Time"),
                    "last_used_at": reference("Time"),
                })),
            },
        }),
    )
}

fn schemas() -> Value {
    let token = json!({
        "pat_id": { "type": "string", "format": "uuid" },
        "pat_name": { "type": "string" },
        "pat_hint": { "type": "string", "description": "`...` and the token's last four characters" },
        "pat_scope": { "type": "string", "description": "Space-separated" },
        "created_at": reference("Time"),
        "expires_at": reference("Time"),
        "allowed_networks": {
            "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 16,
            "description": "The networks that the token can be used from; omitted if it can be used from anywhere",
        },
        "requests_per_minute": { "type": "integer", "minimum": 1, "description": "Omitted if the token has no rate limit" },
        "expires_if_unused_days": { "type": "integer", "minimum": 1, "description": "Omitted if the token is not revoked when it is unused" },
    });
    let mut listed = token.clone();
    listed["last_used_at"] = json!({ "anyOf": [reference("Time"), { "type": "null" }] });
    listed["rotated_at"] = json!({
        "anyOf": [reference("Time"), { "type": "null" }], "description": "When the token got its current secret; null if it was never rotated"
    });
    listed["revoked_at"] = json!({
        "anyOf": [reference("Time"), { "type": "null" }], "description": "When the token was revoked; it is refused from then on"
    });
    listed["pat_parent_id"] = json!({ "type": ["string", "null"], "format": "uuid", "description": "The token that created this token" });
    let mut rotated = token.clone();
    rotated["rotated_at"] = reference("Time");
    rotated["pat_token"] = json!({ "type": "string", "pattern": "^tr_pat_[0-9A-Za-z]{38}$" });
    rotated["old_secret"] = object(
        &["valid_until", "until_first_use"],
        json!({
            "valid_until": reference("Time"),
            "until_first_use": { "type": "boolean", "description": "Whether the old secret ends when the new one is first used, if that is sooner" },
        }),
    );
    let mut created = token;
    created["pat_token"] = json!({ "type": "string", "pattern": "^tr_pat_[0-9A-Za-z]{38}$" });
    json!({
        "Time": { "type": "string", "format": "date-time", "description": "RFC 3339, UTC" },
        "Error": object(&["error"], json!({
            "error": object(&["code", "message"], json!({ "code": { "type": "string" }, "message": { "type": "string" } }))
        })),
        "OAuthError": object(&["error", "error_description"], json!({
            "error": { "enum": ["invalid_request", "temporarily_unavailable", "server_error"] },
            "error_description": { "type": "string" }
        })),
        "Login": object(&["email", "password"], json!({
            "email": { "type": "string" }, "password": { "type": "string", "format": "password" }
        })),
        "User": object(&["user_id", "email", "is_admin"], json!({
            "user_id": { "type": "string", "format": "uuid" }, "email": { "type": "string" }, "is_admin": { "type": "boolean" }
        })),
        "WhoAmI": object(&["user", "credential"], json!({
            "user": reference("User"),
            "credential": object(&["kind", "pat_id", "pat_scope", "expires_at"], json!({
                "kind": { "enum": ["session", "pat"] },
                "pat_id": { "type": ["string", "null"], "format": "uuid" },
                "pat_scope": { "type": ["string", "null"] },
                "expires_at": reference("Time"),
            })),
        })),
        "CreateToken": object(&["pat_name", "pat_scope"], json!({
            "pat_name": { "type": "string", "minLength": 1, "maxLength": 100, "description": "What will use the token", "examples": ["ci-pipeline"] },
            "pat_scope": { "type": "string", "description": "Space-separated: mcp, mcp:read, mcp:<upstream>, mcp:<upstream>/<tool>, api, api:read, tokens, rotate", "minLength": 1, "examples": ["mcp:github api:read"] },
            "expires_in_days": { "type": ["integer", "null"], "minimum": 1, "maximum": 365, "description": "365 by default" },
            "expires_at": { "anyOf": [reference("Time"), { "type": "null" }], "description": "Use instead of expires_in_days" },
            "allowed_networks": {
                "type": ["array", "null"], "items": { "type": "string" }, "maxItems": 16,
                "description": "The networks or addresses that the token can be used from, such as 10.0.0.0/8 or 2001:db8::/32. By default the token can be used from anywhere",
            },
            "requests_per_minute": {
                "type": ["integer", "null"], "minimum": 1, "maximum": 1000000,
                "description": "The maximum number of requests per minute, on each node",
            },
            "expires_if_unused_days": {
                "type": ["integer", "null"], "minimum": 1, "maximum": 365, "description": "The token is revoked after this many days without use",
            },
        })),
        "RotateToken": object(&[], json!({
            "overlap_seconds": { "type": ["integer", "null"], "minimum": 0, "maximum": 604800, "description": "How long the old secret keeps working; 86400 by default. At least 60 if a token rotates itself" },
            "until_first_use": { "type": ["boolean", "null"], "description": "Use instead of overlap_seconds: the old secret works until the new one is first used" },
            "expires_in_days": { "type": ["integer", "null"], "minimum": 1, "maximum": 365, "description": "By default the token gets its original lifetime again" },
            "expires_at": { "anyOf": [reference("Time"), { "type": "null" }], "description": "Use instead of expires_in_days" },
        })),
        "RotatedToken": object(&["pat_id", "pat_name", "pat_hint", "pat_scope", "created_at", "rotated_at", "expires_at", "old_secret", "pat_token"], rotated),
        "Token": object(&["pat_id", "pat_name", "pat_hint", "pat_scope", "created_at", "expires_at", "last_used_at", "rotated_at", "revoked_at", "pat_parent_id"], listed),
        "CreatedToken": object(&["pat_id", "pat_name", "pat_hint", "pat_scope", "created_at", "expires_at", "pat_token"], created),
        "Nodes": object(&["log_head", "nodes"], json!({
            "log_head": { "type": "integer", "minimum": 0, "description": "The number of the latest entry of the log" },
            "nodes": { "type": "array", "items": object(&["node_id", "name", "node_url", "is_this", "applied_seq", "lease_left_ms"], json!({
                "node_id": { "type": "string", "format": "uuid" },
                "name": { "type": "string" },
                "node_url": { "type": ["string", "null"], "description": "The URL at which other nodes reach this node; null if none is configured. Each node needs its own" },
                "is_this": { "type": "boolean", "description": "Whether this is the node that answered" },
                "applied_seq": { "type": "integer", "minimum": 0 },
                "lease_left_ms": { "type": ["integer", "null"], "minimum": 0, "description": "null if the lease has run out" },
            })) },
        })),
        "Activity": activity(),
        "AuditPage": audit::page(),
        "Webhook": webhook(),
        "AddedWebhook": webhook_with_secret(),
        "AddWebhook": new_webhook(),
        "TestedWebhook": tried_webhook(),
        "Notice": notice(),
        "Revoked": object(&["pat_id", "revoked_at", "sessions_terminated"], json!({
            "pat_id": { "type": "string", "format": "uuid" },
            "revoked_at": reference("Time"),
            "sessions_terminated": { "type": "integer", "minimum": 0, "description": "MCP sessions that this call ended" },
        })),
    })
}

/// The document: OpenAPI 3.1 of the REST API.
pub fn document() -> Value {
    let own = schemas();
    let of_administrators = with(admin::schemas(&own["Token"]), policy::schemas());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "TrustRelay",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Personal access tokens. With an Authorization header the session cookie is not looked at. \
                HEAD works wherever GET does; other methods are answered with 405 and Allow, unknown paths with 404, \
                both with the schema Error. Every answer carries x-request-id.",
        },
        "servers": [{ "url": "/" }],
        "paths": with(paths(), with(admin::paths(), policy::paths())),
        "components": {
            "schemas": with(own, of_administrators),
            "headers": {
                "Challenge": {
                    "description": "RFC 6750 §3: which credential is asked for, and what was wrong with the one that came",
                    "schema": { "type": "string" },
                },
                "RateLimitPolicy": {
                    "description": "How many requests the token may make in how many seconds, if it is held to a rate (draft-ietf-httpapi-ratelimit-headers)",
                    "schema": { "type": "string" },
                },
                "RateLimit": {
                    "description": "How many requests it may make at once, and in how many seconds that is one more; also on failures",
                    "schema": { "type": "string" },
                },
                "RetryAfter": { "description": "In so many seconds", "schema": { "type": "integer", "minimum": 1 } },
                "TokenExpiration": {
                    "description": "When the token that made the request expires, also on failures",
                    "schema": reference("Time"),
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "tr_pat_…" },
                "session": { "type": "apiKey", "in": "cookie", "name": "session" },
            },
        },
    })
}
