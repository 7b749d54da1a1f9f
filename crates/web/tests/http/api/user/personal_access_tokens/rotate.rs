//! `POST /api/user/personal-access-tokens/{pat_id}/rotate`

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::TOKENS;
use crate::mcp::{call_in_session, open_session};
use crate::support::{EVE, World, path_of};

fn rotate(path: &str) -> String {
    format!("{path}/rotate")
}

#[tokio::test]
async fn it_answers_with_the_new_secret_once_and_says_how_long_the_old_one_is_good() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let answer = world.post(&rotate(&path_of(&token))).session(&session).send().await;
    assert_eq!(answer.header("cache-control"), "no-store");
    insta::assert_snapshot!(answer, @r#"
    200 OK
    {
      "value": {
        "created_at": "2126-04-07T00:00:00Z",
        "expires_at": "2127-04-07T00:00:00Z",
        "old_secret": {
          "until_first_use": false,
          "valid_until": "2126-04-08T00:00:00Z"
        },
        "pat_hint": "[hint]",
        "pat_id": "[id]",
        "pat_name": "ci-pipeline",
        "pat_scope": "mcp",
        "pat_token": "[token]",
        "rotated_at": "2126-04-07T00:00:00Z"
      }
    }
    "#);
    let secret = answer.value()["pat_token"].as_str().expect("a token").to_owned();
    for secret in [secret.as_str(), token.token.expose()] {
        let answer = world.get("/api/user").authorization(&format!("Bearer {secret}")).send().await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.value()["credential"]["pat_id"], token.record.pat_id.to_string());
    }
    let listed = world.get(TOKENS).session(&session).send().await;
    assert_eq!(listed.value()[0]["rotated_at"], "2126-04-07T00:00:00Z");
    assert!(!listed.to_string().contains(&secret));
}

#[tokio::test]
async fn a_secret_whose_time_is_over_is_refused_by_name() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let path = rotate(&path_of(&token));
    let answer = world.post(&path).session(&session).json(json!({ "overlap_seconds": 0 })).send().await;
    assert_eq!(answer.status, StatusCode::OK);
    let refused = world.get("/api/user").bearer(&token).send().await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let challenge = refused.header("www-authenticate");
    assert!(challenge.contains("invalid_token") && challenge.contains("rotated"), "{challenge}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let path = rotate(&path_of(&token));
    let asked = async |body: serde_json::Value| {
        world.post(&path).session(&session).header("idempotency-key", "4c2b-1").json(body).send().await
    };
    let first = asked(json!({})).await;
    world.clock.advance(Duration::from_secs(60));
    let again = asked(json!({})).await;
    assert_eq!(again.value(), first.value());
    assert!(again.value()["pat_token"].is_string(), "{again}");
    let other = asked(json!({ "until_first_use": true })).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json()["error"]["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn mcp_sessions_survive_it() {
    let world = World::new().await;
    let (browser, token) = (world.browser().await, world.token("mcp").await);
    let session = open_session(&world, "/mcp", &token).await;
    let rotated = world
        .post(&rotate(&path_of(&token)))
        .session(&browser)
        .json(json!({ "overlap_seconds": 0 }))
        .send()
        .await;
    let secret = rotated.value()["pat_token"].as_str().expect("a token").to_owned();
    let answer = call_in_session(&world, "/mcp", &format!("Bearer {secret}"), &session).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer}");
    let old = format!("Bearer {}", token.token.expose());
    let refused = call_in_session(&world, "/mcp", &old, &session).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_requests_change_nothing() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp rotate").await);
    let path = rotate(&path_of(&token));
    for (body, says) in [
        (json!({ "overlap_seconds": 604_801 }), "`overlap_seconds` is 604801"),
        (json!({ "overlap_seconds": -1 }), "`overlap_seconds`"),
        (json!({ "overlap_seconds": 60, "until_first_use": true }), "not both"),
        (json!({ "expires_in_days": 366 }), "`expires_in_days` must be a whole number from 1 to 365"),
        (json!({ "overlap": "24h" }), "unknown field `overlap`"),
    ] {
        let answer = world.post(&path).session(&session).json(&body).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(says), "{message}");
    }
    for keys in [vec!["a b"], vec![""], vec!["a", "b"]] {
        let call = keys
            .iter()
            .fold(world.post(&path).session(&session), |call, key| call.header("idempotency-key", key));
        assert_eq!(call.send().await.status, StatusCode::BAD_REQUEST, "{keys:?}");
    }
    let own = world.post(&format!("{TOKENS}/self/rotate")).bearer(&token);
    let refused = own.json(json!({ "overlap_seconds": 0 })).send().await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK, "it is as it was");

    let eve = world.browser_of(EVE).await;
    assert_eq!(world.post(&path).session(&eve).send().await.status, StatusCode::NOT_FOUND);
    world.delete(&path_of(&token)).session(&session).send().await;
    assert_eq!(world.post(&path).session(&session).send().await.status, StatusCode::CONFLICT);
}
