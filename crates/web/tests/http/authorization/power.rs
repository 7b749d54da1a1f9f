//! Administrators' tokens: which changes take `tokens` beside `api`.

use serde_json::json;

use super::{BOB, CALLERS, Caller};
use crate::support::{ADA, Call, EVE, Setting, World};

const PERSON: &str = "/api/admin/users/{user_id}";
const POLICY: &str = "/api/admin/policy";

/// Every rule set, so that each can be relaxed.
fn strict_policy() -> serde_json::Value {
    json!({
        "max_days": 90, "default_days": 30, "allowed_scopes": ["mcp", "api", "tokens"], "unused_days": 45,
        "allowed_networks": ["192.0.2.0/24"],
    })
}

fn policy_but(rule: &str, value: serde_json::Value) -> serde_json::Value {
    let mut policy = strict_policy();
    policy[rule] = value;
    policy
}

/// Promoting, enabling, adding upstreams and relaxing the policy take `tokens` beside `api`, as
/// inviting does; the same changes the other way round take `api` alone.
#[tokio::test]
async fn api_without_tokens_takes_power_away_and_gives_none() {
    let world = World::with(Setting { accounts: &[ADA, EVE, BOB], ..Setting::default() }).await;
    let (session, bob) = (world.browser().await, world.id_of(BOB).await);
    let gives = [
        (PERSON, json!({ "is_admin": true })),
        (PERSON, json!({ "is_disabled": false })),
        (PERSON, json!({ "upstreams": null })),
        (PERSON, json!({ "upstreams": ["github", "wiki"] })),
        (PERSON, json!({ "upstreams": ["wiki"] })),
        (POLICY, policy_but("max_days", json!(91))),
        (POLICY, policy_but("default_days", json!(null))),
        (POLICY, policy_but("allowed_scopes", json!([]))),
        (POLICY, policy_but("unused_days", json!(46))),
        (POLICY, policy_but("allowed_networks", json!(["192.0.0.0/16"]))),
    ];
    let takes = [
        (PERSON, json!({ "is_admin": false })),
        (PERSON, json!({ "is_disabled": true })),
        (PERSON, json!({ "upstreams": ["github"] })),
        (PERSON, json!({ "upstreams": [] })),
        (POLICY, policy_but("max_days", json!(89))),
        (POLICY, policy_but("unused_days", json!(44))),
        (POLICY, policy_but("allowed_networks", json!(["192.0.2.0/25"]))),
    ];
    let send = async |call: Call<'_>, body: &serde_json::Value| call.json(body).send().await;
    let rows = gives.iter().map(|row| (row, true)).chain(takes.iter().map(|row| (row, false)));
    for ((path, body), is_giving) in rows {
        for caller in CALLERS {
            // What earlier callers changed is undone.
            let path = path.replace("{user_id}", &bob);
            let method = if path == POLICY { "PUT" } else { "PATCH" };
            let undo = if path == POLICY {
                vec![strict_policy()]
            } else {
                let states = [json!({ "is_admin": false }), json!({ "is_disabled": false })];
                states.into_iter().chain([json!({ "upstreams": ["github"] })]).collect()
            };
            for undo in undo {
                let undone = send(world.call(method, &path).session(&session), &undo).await;
                assert_eq!(undone.status, 200, "{undone}");
            }
            let call = Caller::of(&world, caller).await.sends(world.call(method, &path));
            let answer = send(call, body).await;
            let expected = match caller {
                "none" => 401,
                "ada" | "all" => 200,
                "api" if !is_giving => 200,
                _ => 403,
            };
            assert_eq!(answer.status, expected, "{caller} {body}: {answer}");
            if caller == "api" && is_giving {
                let challenge = answer.header("www-authenticate");
                assert!(challenge.contains("error=\"insufficient_scope\""), "{body}: {challenge}");
                assert!(challenge.contains("scope=\"tokens\""), "{body}: {challenge}");
            }
        }
    }
}
