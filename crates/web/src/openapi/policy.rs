//! What the document says of `/api/admin/policy`.

use serde_json::{Value, json};

use super::{BODY, BOTH, object, operation, reference, value, with_body};

const ADMINISTRATORS: (&str, &str) = (
    "403",
    "The account is not an administrator, the token does not have a required scope (WWW-Authenticate names the scope), or the request came from another site",
);

pub(super) fn paths() -> Value {
    json!({ "/api/admin/policy": {
        "get": operation(
            "getPolicy", "Get the policy for all tokens (administrators only; a token needs the scope `api:read`)", BOTH,
            ("200", value("The policy", reference("Policy"))), &[ADMINISTRATORS],
        ),
        "put": with_body(operation(
            "putPolicy",
            "Change the policy for all tokens; once this is answered, it applies on every node. The rules for lifetime and scopes apply to new tokens, the rules for networks and unused tokens to all tokens immediately (administrators only; a token needs the scope `api`, and also `tokens` to relax any rule)",
            BOTH,
            ("200", value("The changed policy", reference("Policy"))),
            &[
                BODY[0], ADMINISTRATORS,
                ("409", "The policy was changed since `version`, or the change would revoke more tokens than `ends_tokens`; nothing was changed"),
                BODY[1], BODY[2], BODY[3],
            ],
        ), "PutPolicy"),
    } })
}

fn rules() -> Value {
    let days = |says: &str| json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 365, "description": says });
    json!({
        "max_days": days("The maximum lifetime in days, from creation or rotation; null: 365"),
        "default_days": days("The default lifetime in days, no more than `max_days`; null: 365, or `max_days`"),
        "allowed_scopes": { "type": "array", "items": { "type": "string" }, "maxItems": 64, "description": "The scopes that new tokens can have, including what they cover; empty: all" },
        "unused_days": days("A token is revoked after this many days without use, also if it was never used; null: never"),
        "allowed_networks": { "type": "array", "items": { "type": "string" }, "maxItems": 64, "description": "The networks that tokens can be used from, in CIDR notation; empty: anywhere. Browser sessions are not restricted" },
    })
}

const RULES: &[&str] = &["max_days", "default_days", "allowed_scopes", "unused_days", "allowed_networks"];

pub(super) fn schemas() -> Value {
    let mut policy = rules();
    policy["version"] = json!({ "type": "integer", "minimum": 0, "description": "Increases with each change; 0: never changed" });
    policy["unused_tokens"] = json!({ "type": "integer", "minimum": 0, "maximum": 10001, "description": "The number of active tokens that were not used for `unused_days`. They are revoked soon, unless tokens created with them are used; 10001 means more than ten thousand" });
    let mut put = rules();
    put["version"] = json!({ "type": ["integer", "null"], "minimum": 0, "description": "Change the policy only if it still has this version" });
    put["ends_tokens"] = json!({ "type": ["integer", "null"], "minimum": 0, "description": "The maximum number of tokens that a shorter `unused_days` may revoke at once; 0 by default" });
    json!({
        "Policy": object(&[RULES, &["version", "unused_tokens"]].concat(), policy),
        "PutPolicy": object(RULES, put),
    })
}
