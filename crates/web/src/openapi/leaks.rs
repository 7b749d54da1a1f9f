//! What the document says of tokens that were seen where they should not be.

use serde_json::{Value, json};

use super::{BODY, answer, object, operation, reference};

const TURNS: (&str, &str) =
    ("429", "Too many requests from this address; Retry-After says when to try again");

/// RFC 7009: its failures are OAuth's.
pub(super) fn revoke() -> Value {
    let mut operation = operation(
        "revokeByHolding",
        "Revoke a token by sending it, without another credential (RFC 7009). The answer is the same whether or not the token exists",
        &[],
        ("200", json!({ "description": "Revoked everywhere, or there is no such token" })),
        &[
            ("400", "`token` is missing, or the form cannot be read"),
            BODY[1],
            BODY[2],
            ("415", "The body is not application/x-www-form-urlencoded"),
            TURNS,
        ],
    );
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut().filter(|response| response["content"].is_object()) {
            response["content"]["application/json"]["schema"] = reference("OAuthError");
        }
    }
    let token = json!({ "type": "string", "minLength": 1, "description": "The token" });
    let hint = json!({ "type": "string", "description": "Ignored, because there is only one type of token" });
    let schema = json!({ "type": "object", "required": ["token"], "properties": { "token": token, "token_type_hint": hint } });
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/x-www-form-urlencoded": { "schema": schema } } });
    operation
}

/// Two shapes: everybody's, and GitHub's for who has signed.
pub(super) fn leaks() -> Value {
    let received = json!({ "type": "integer", "minimum": 0, "description": "The number of candidates received, not of the tokens among them" });
    let everybody =
        object(&["value"], json!({ "value": object(&["received"], json!({ "received": received })) }));
    let github = json!({ "type": "array", "items": object(&["token_hash", "token_type", "label"], json!({
        "token_hash": { "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the token" },
        "token_type": { "type": "string" },
        "label": { "enum": ["true_positive", "false_positive"] },
    })) });
    let answer = answer(
        "All candidates that are tokens of this server are revoked everywhere",
        json!({ "oneOf": [everybody, github] }),
    );
    let mut operation = operation(
        "reportLeaks",
        "Report leaked tokens: they are revoked, and their owners are notified where they were found. No credential is needed. Reports that are \
         signed like those of GitHub's secret scanning use GitHub's array and get an answer that says which candidates are tokens",
        &[],
        ("200", answer),
        &[
            BODY[0],
            ("403", "The signature is not valid"),
            BODY[1],
            ("413", "The body is larger than 1 MiB"),
            BODY[3],
            TURNS,
        ],
    );
    // What is wrong with a signature is no challenge.
    operation["responses"]["403"].as_object_mut().map(|refused| refused.remove("headers"));
    let text = json!({ "type": ["string", "null"] });
    let url = json!({ "type": ["string", "null"], "description": "Where the token was found; the first 2,048 characters are kept" });
    let seen = object(&["token"], json!({ "token": { "type": "string" }, "url": &url, "source": &text }));
    let everybody = object(
        &["candidates"],
        json!({ "candidates": { "type": "array", "maxItems": 1000, "items": seen } }),
    );
    let found = json!({ "type": "object", "required": ["token", "type"], "properties": {
        "token": { "type": "string" }, "type": { "type": "string" }, "url": &url, "source": &text,
    } });
    let github = json!({ "type": "array", "maxItems": 1000, "items": found });
    operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": { "oneOf": [everybody, github] } } } });
    let header = |name: &str| json!({ "name": name, "in": "header", "schema": { "type": "string" }, "description": "GitHub's signature of the body" });
    operation["parameters"] =
        json!([header("Github-Public-Key-Identifier"), header("Github-Public-Key-Signature")]);
    operation
}
