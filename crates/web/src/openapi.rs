//! `GET /api/openapi.json`: OpenAPI 3.1 of the REST API.
//!
//! Written by hand, beside the routes: a test holds it against them, and against what the handlers answer.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub(crate) async fn handle() -> Response {
    ([(CACHE_CONTROL, "public, max-age=300")], axum::Json(&*DOCUMENT)).into_response()
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

fn failure(description: &str) -> Value {
    answer(description, reference("Error"))
}

/// An operation. `failures` are those beside the ones that every operation of its kind has.
fn operation(
    id: &str,
    summary: &str,
    security: &[&str],
    success: (&str, Value),
    failures: &[(&str, &str)],
) -> Value {
    let mut responses = serde_json::Map::new();
    responses.insert(success.0.into(), success.1);
    if !security.is_empty() {
        let text = "No credential, or a bad, expired or revoked one; WWW-Authenticate says which";
        responses.insert("401".into(), failure(text));
    }
    responses.insert(
        "503".into(),
        failure("The store does not answer, or it took too long; Retry-After says when to try again"),
    );
    for (status, text) in failures {
        responses.insert((*status).into(), failure(text));
    }
    let security: Vec<_> = security.iter().map(|name| json!({ *name: [] })).collect();
    json!({ "operationId": id, "summary": summary, "security": security, "responses": responses })
}

fn with_body(mut operation: Value, schema: &str) -> Value {
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": reference(schema) } } });
    operation
}

const BOTH: &[&str] = &["token", "session"];
const BODY: [(&str, &str); 3] = [
    ("400", "The body is not JSON, or a field is wrong: the message names it"),
    ("413", "The body is larger than 64 KiB"),
    ("415", "The body is not application/json"),
];
const FORBIDDEN: (&str, &str) =
    ("403", "The token lacks a scope (the message names it), or a browser was sent here by another site");
const UNKNOWN: (&str, &str) = ("404", "No such token, or another's");

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
            &[BODY[0], ("401", "The e-mail address or the password is wrong"), ("403", "Asked for by another site"),
              BODY[1], BODY[2], ("429", "Too many attempts; Retry-After says when to try again")],
        ), "Login") },
        "/api/auth/logout": { "post": operation(
            "logout", "Sign out: ends the session", &["session"], ("200", value("Signed out", json!({ "type": "object" }))),
            &[("403", "Asked for by another site")],
        ) },
        "/api/auth/verify": { "post": operation(
            "verifySession", "Whose session is this?", &["session"],
            ("200", value("It stands", json!({
                "type": "object", "required": ["user"], "properties": { "user": reference("User") }
            }))),
            &[("403", "Asked for by another site")],
        ) },
        "/api/user": { "get": operation(
            "whoAmI", "Who am I, and with what credential?", BOTH, ("200", value("The caller", reference("WhoAmI"))), &[],
        ) },
        "/api/user/personal-access-tokens": {
            "get": operation(
                "listTokens", "The caller's active tokens, newest first (a token needs the scope `tokens`)", BOTH,
                ("200", value("The tokens", json!({ "type": "array", "items": reference("Token") }))), &[FORBIDDEN],
            ),
            "post": with_body(operation(
                "createToken", "Make a token: its secret is in this answer and nowhere else (a token needs the scope `tokens`)", BOTH,
                ("201", value("The token, with its secret", reference("CreatedToken"))),
                &[BODY[0], FORBIDDEN, ("404", "The account is not active"), ("409", "The account has too many tokens"), BODY[1], BODY[2]],
            ), "CreateToken"),
        },
        "/api/user/personal-access-tokens/{pat_id}": {
            "parameters": id,
            "get": operation(
                "getToken", "One of the caller's tokens", BOTH, ("200", value("The token", reference("Token"))),
                &[("400", "`self` with a browser session"), FORBIDDEN, UNKNOWN],
            ),
            "delete": operation(
                "revokeToken", "Revoke a token: when this is answered, no request that starts afterwards is accepted anywhere", BOTH,
                ("200", value("Revoked; again: the first time", reference("Revoked"))),
                &[("400", "`self` with a browser session"), FORBIDDEN, UNKNOWN],
            ),
        },
        "/api/openapi.json": { "get": operation("openapi", "This document", &[], ("200", answer("OpenAPI 3.1", json!({ "type": "object" }))), &[]) },
        "/healthz": { "get": operation("healthz", "Does the process answer?", &[], ("200", value("It does", json!({ "type": "object" }))), &[]) },
        "/readyz": { "get": operation("readyz", "Can it judge tokens?", &[], ("200", value("It can", json!({ "type": "object" }))), &[]) },
        "/metrics": { "get": operation("metrics", "Numbers, as Prometheus text", &[], ("200", json!({
            "description": "The numbers", "content": { "text/plain": { "schema": { "type": "string" } } }
        })), &[]) },
    })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
}

fn schemas() -> Value {
    let token = json!({
        "pat_id": { "type": "string", "format": "uuid" },
        "pat_name": { "type": "string" },
        "pat_hint": { "type": "string", "description": "`...` and the token's last four characters" },
        "pat_scope": { "type": "string", "description": "Space-separated" },
        "created_at": reference("Time"),
        "expires_at": reference("Time"),
    });
    let mut listed = token.clone();
    listed["last_used_at"] = json!({ "anyOf": [reference("Time"), { "type": "null" }] });
    let mut created = token;
    created["pat_token"] = json!({ "type": "string", "pattern": "^tr_pat_[0-9A-Za-z]{38}$" });
    json!({
        "Time": { "type": "string", "format": "date-time", "description": "RFC 3339, UTC" },
        "Error": object(&["error"], json!({
            "error": object(&["code", "message"], json!({ "code": { "type": "string" }, "message": { "type": "string" } }))
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
            "pat_name": { "type": "string", "minLength": 1, "maxLength": 100, "description": "What will use the token" },
            "pat_scope": { "type": "string", "description": "Space-separated: mcp, mcp:read, mcp:<upstream>, mcp:<upstream>/<tool>, api, api:read, tokens" },
            "expires_in_days": { "type": ["integer", "null"], "minimum": 1, "maximum": 365, "description": "365 if left out" },
            "expires_at": { "anyOf": [reference("Time"), { "type": "null" }], "description": "Instead of expires_in_days" },
        })),
        "Token": object(&["pat_id", "pat_name", "pat_hint", "pat_scope", "created_at", "expires_at", "last_used_at"], listed),
        "CreatedToken": object(&["pat_id", "pat_name", "pat_hint", "pat_scope", "created_at", "expires_at", "pat_token"], created),
        "Revoked": object(&["pat_id", "revoked_at", "sessions_terminated"], json!({
            "pat_id": { "type": "string", "format": "uuid" },
            "revoked_at": reference("Time"),
            "sessions_terminated": { "type": "integer", "minimum": 0, "description": "MCP sessions that this call ended" },
        })),
    })
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "TrustRelay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Personal access tokens. With an Authorization header the session cookie is not looked at.",
        },
        "paths": paths(),
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "tr_pat_…" },
                "session": { "type": "apiKey", "in": "cookie", "name": "session" },
            },
        },
    })
}
