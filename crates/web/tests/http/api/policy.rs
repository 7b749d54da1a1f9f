//! `/api/admin/policy`, and what it does to others.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADA, Answer, DAY, EVE, World};

const PATH: &str = "/api/admin/policy";
const TOKENS: &str = "/api/user/personal-access-tokens";
const HOME: &str = "10.1.2.3";
const AWAY: &str = "203.0.113.9";

/// The policy that decides nothing, but for these members.
fn policy(members: Value) -> Value {
    let mut policy = json!({
        "max_days": null, "default_days": null, "allowed_scopes": [], "unused_days": null, "allowed_networks": [],
    });
    for (name, value) in members.as_object().expect("members") {
        policy[name] = value.clone();
    }
    policy
}

async fn put(world: &World, session: &str, members: Value) -> Answer {
    world.put(PATH).session(session).json(policy(members)).send().await
}

/// The code of an error, from REST or from the MCP endpoint.
fn code(answer: &Answer) -> String {
    let error = &answer.json()["error"];
    error["code"].as_str().or(error["data"]["code"].as_str()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_policy_reads_back_with_its_version_and_is_in_the_audit_log() {
    let world = World::new().await;
    let session = world.browser().await;
    let before = world.get(PATH).session(&session).send().await.value();
    assert_eq!(before, policy(json!({ "version": 0, "unused_tokens": 0 })));
    let decided = json!({
        "max_days": 90, "default_days": 30, "allowed_scopes": ["mcp", "api:read"], "unused_days": 45,
        "allowed_networks": ["10.0.0.0/8", "2001:db8::/32"],
    });
    let now = put(&world, &session, decided.clone()).await;
    assert_eq!(now.status, StatusCode::OK, "{now}");
    assert_eq!(world.get(PATH).session(&session).send().await.value(), now.value());
    let now = now.value();
    for (name, value) in decided.as_object().expect("members") {
        assert_eq!(&now[name], value, "{name}");
    }
    let told = world.get("/api/admin/audit?action=policy.changed").session(&session).send().await;
    let told = &told.json()["value"][0];
    assert_eq!(told["actor"]["email"], ADA, "{told}");
    let after: Value = serde_json::from_str(told["details"]["after"].as_str().expect("text")).expect("JSON");
    assert_eq!((&told["details"]["before"], after), (&json!("{}"), decided));

    // Whoever has seen an older one is told, and so is who asks again.
    let stale = put(&world, &session, json!({ "version": 0 })).await;
    assert_eq!((stale.status, &*code(&stale)), (StatusCode::CONFLICT, "conflict"));
    let fresh = put(&world, &session, json!({ "version": now["version"] })).await;
    assert_eq!(fresh.status, StatusCode::OK, "{fresh}");
}

#[tokio::test]
async fn what_is_no_policy_is_refused_by_its_field_and_changes_nothing() {
    let world = World::new().await;
    let session = world.browser().await;
    for (field, value) in [
        ("max_days", json!(0)),
        ("max_days", json!(366)),
        ("max_days", json!("90")),
        ("default_days", json!(-1)),
        ("allowed_scopes", json!(["root"])),
        ("allowed_scopes", json!("mcp")),
        ("unused_days", json!(1.5)),
        ("allowed_networks", json!(["10.1.2.3/8"])),
        ("allowed_networks", json!(null)),
        ("nonsense", json!(1)),
    ] {
        let answer = put(&world, &session, json!({ field: value })).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{field}: {answer}");
    }
    let longer = put(&world, &session, json!({ "max_days": 30, "default_days": 31 })).await;
    assert!(longer.text.contains("default_days") && longer.text.contains("max_days"), "{longer}");
    // A rule that somebody did not think of is not dropped.
    for field in ["max_days", "default_days", "allowed_scopes", "unused_days", "allowed_networks"] {
        let mut partial = policy(json!({}));
        partial.as_object_mut().expect("members").remove(field);
        let answer = world.put(PATH).session(&session).json(partial).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer.text.contains(field), "{answer}");
    }
    assert_eq!(world.get(PATH).session(&session).send().await.value()["version"], 0);
    // Who may not ask is told so before anything else.
    let eve = world.browser_of(EVE).await;
    let refused = put(&world, &eve, json!({ "max_days": 0 })).await;
    assert_eq!((refused.status, &*code(&refused)), (StatusCode::FORBIDDEN, "forbidden"));
}

#[tokio::test]
async fn a_token_against_the_policy_is_not_made_and_the_answer_says_what_is_allowed() {
    let world = World::new().await;
    let (ada, eve) = (world.browser().await, world.browser_of(EVE).await);
    let old = world.token_of(EVE, "mcp tokens api").await;
    put(&world, &ada, json!({ "max_days": 90, "default_days": 30, "allowed_scopes": ["mcp", "api:read"] }))
        .await;
    let make = async |members: Value| {
        let mut asked = json!({ "pat_name": "n", "pat_scope": "mcp" });
        for (name, value) in members.as_object().expect("members") {
            asked[name] = value.clone();
        }
        world.post(TOKENS).session(&eve).json(asked).send().await
    };
    for (members, says) in [
        (json!({ "pat_scope": "mcp tokens" }), ["`pat_scope`", "`tokens`", "mcp api:read"]),
        (json!({ "expires_in_days": 91 }), ["`expires_in_days`", "1 to 90", "policy"]),
        (json!({ "expires_at": "2136-01-01T00:00:00Z" }), ["`expires_at`", "90 days", "policy"]),
    ] {
        let refused = make(members.clone()).await;
        assert_eq!(
            (refused.status, &*code(&refused)),
            (StatusCode::FORBIDDEN, "not_allowed_by_policy"),
            "{members}"
        );
        assert!(says.iter().all(|part| refused.text.contains(part)), "{refused}");
        assert_eq!(refused.header("www-authenticate"), "", "no other scope would help");
    }
    let made = make(json!({ "pat_scope": "mcp:github api:read", "expires_in_days": 90 })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made}");
    assert_eq!(make(json!({ "expires_in_days": 0 })).await.status, StatusCode::BAD_REQUEST);

    // An old token goes on, makes nothing beyond the policy, and gets no longer a life by rotation.
    assert_eq!(world.get("/api/user").bearer(&old).send().await.status, StatusCode::OK);
    let child = json!({ "pat_name": "child", "pat_scope": "api" });
    let child = world.post(TOKENS).bearer(&old).json(child).send().await;
    assert_eq!(code(&child), "not_allowed_by_policy");
    let rotate = format!("{TOKENS}/{}/rotate", old.record.pat_id);
    let longer = world.post(&rotate).session(&eve).json(json!({ "expires_in_days": 91 })).send().await;
    assert_eq!((longer.status, &*code(&longer)), (StatusCode::FORBIDDEN, "not_allowed_by_policy"));
    let rotated = world.post(&rotate).session(&eve).json(json!({ "expires_in_days": 90 })).send().await;
    assert_eq!(rotated.status, StatusCode::OK, "{rotated}");
}

#[tokio::test]
async fn every_token_is_held_to_the_policy_s_networks_over_rest_and_mcp_and_no_browser_is() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp api").await);
    let rest = async |from: &str| world.get("/api/user").bearer(&token).coming_from(from).send().await;
    let mcp = async |from: &str| {
        crate::mcp::initialize(world.post("/mcp")).bearer(&token).coming_from(from).send().await
    };
    assert_eq!((rest(AWAY).await.status, mcp(AWAY).await.status), (StatusCode::OK, StatusCode::OK));
    put(&world, &session, json!({ "allowed_networks": ["10.0.0.0/8"] })).await;
    for refused in [rest(AWAY).await, mcp(AWAY).await] {
        assert_eq!((refused.status, &*code(&refused)), (StatusCode::FORBIDDEN, "network_not_allowed"));
        assert!(refused.text.contains(AWAY) && refused.text.contains("policy"), "{refused}");
        assert!(!refused.text.contains("10.0.0.0"), "{refused}");
    }
    assert_eq!((rest(HOME).await.status, mcp(HOME).await.status), (StatusCode::OK, StatusCode::OK));
    // An administrator's token locks itself out; their browser undoes it.
    let own = world.get(PATH).bearer(&token).coming_from(AWAY).send().await;
    assert_eq!(code(&own), "network_not_allowed");
    let undo = world.put(PATH).session(&session).coming_from(AWAY).json(policy(json!({}))).send().await;
    assert_eq!(undo.status, StatusCode::OK);
    assert_eq!(rest(AWAY).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_policy_that_ends_tokens_has_to_say_how_many() {
    let world = World::new().await;
    let session = world.browser().await;
    for _ in 0..2 {
        world.token_of(EVE, "mcp").await;
    }
    world.clock.advance(6 * DAY);
    for ends in [json!(null), json!(1)] {
        let refused = put(&world, &session, json!({ "unused_days": 5, "ends_tokens": ends })).await;
        assert_eq!((refused.status, &*code(&refused)), (StatusCode::CONFLICT, "conflict"), "{refused}");
        assert!(refused.text.contains("2 tokens") && refused.text.contains("ends_tokens"), "{refused}");
    }
    let decided = put(&world, &session, json!({ "unused_days": 5, "ends_tokens": 2 })).await;
    assert_eq!((decided.status, &decided.value()["unused_tokens"]), (StatusCode::OK, &json!(2)));
    // What ends none, or fewer than before, needs no number.
    assert_eq!(put(&world, &session, json!({ "unused_days": 7 })).await.status, StatusCode::OK);
}
