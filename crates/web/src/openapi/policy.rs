//! What the document says of `/api/admin/policy`.

use serde_json::{Value, json};

use super::{BODY, BOTH, object, operation, reference, value, with_body};

const ADMINISTRATORS: (&str, &str) = (
    "403",
    "The account is no administrator's, the token lacks a scope (WWW-Authenticate names it), or a browser was sent here by another site",
);

pub(super) fn paths() -> Value {
    json!({ "/api/admin/policy": {
        "get": operation(
            "getPolicy", "What all tokens are held to (an administrator's; a token needs the scope `api:read`)", BOTH,
            ("200", value("The policy", reference("Policy"))), &[ADMINISTRATORS],
        ),
        "put": with_body(operation(
            "putPolicy",
            "Change what all tokens are held to; when this is answered, it holds on every node. Life and scopes hold for tokens made from then on, networks and being used for all at once (an administrator's; a token needs the scope `api`, and `tokens` beside it to relax any rule)",
            BOTH,
            ("200", value("The policy, as it is now", reference("Policy"))),
            &[
                BODY[0], ADMINISTRATORS,
                ("409", "It was changed since `version`, or it ends more tokens than `ends_tokens`: nothing was changed"),
                BODY[1], BODY[2], BODY[3],
            ],
        ), "PutPolicy"),
    } })
}

fn rules() -> Value {
    let days = |says: &str| json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 365, "description": says });
    json!({
        "max_days": days("How many days a token lives at most, from when it is made or rotated; null: 365"),
        "default_days": days("How many days a token lives if nothing is said, no more than `max_days`; null: 365, or `max_days`"),
        "allowed_scopes": { "type": "array", "items": { "type": "string" }, "maxItems": 64, "description": "What tokens may open, or what is covered by it; empty: whatever there is" },
        "unused_days": days("After how many days without a use a token ends, one that never was used as well; null: never"),
        "allowed_networks": { "type": "array", "items": { "type": "string" }, "maxItems": 64, "description": "From where alone tokens may be used, in CIDR notation; empty: from anywhere. Browser sessions are not held to it" },
    })
}

const RULES: &[&str] = &["max_days", "default_days", "allowed_scopes", "unused_days", "allowed_networks"];

pub(super) fn schemas() -> Value {
    let mut policy = rules();
    policy["version"] = json!({ "type": "integer", "minimum": 0, "description": "Another one with each change; 0: it never was changed" });
    policy["unused_tokens"] = json!({ "type": "integer", "minimum": 0, "maximum": 10001, "description": "How many active tokens were not used for `unused_days`: they end soon, unless tokens that were made with them are used; 10001: more than ten thousand" });
    let mut put = rules();
    put["version"] = json!({ "type": ["integer", "null"], "minimum": 0, "description": "Change it only if it is still this version" });
    put["ends_tokens"] = json!({ "type": ["integer", "null"], "minimum": 0, "description": "How many tokens shorter `unused_days` may end at once; 0 if left out" });
    json!({
        "Policy": object(&[RULES, &["version", "unused_tokens"]].concat(), policy),
        "PutPolicy": object(RULES, put),
    })
}
