//! `GET /api/user/personal-access-tokens`

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use trustrelay_authority::{Expiry, NewPat};

use super::TOKENS;
use crate::support::{ADA, DAY, EVE, World, path_of};

async fn named(world: &World, name: &str, days: i64) {
    let new =
        NewPat { name: name.into(), scope: "mcp".into(), expiry: Expiry::Days(days), ..NewPat::default() };
    world.authority.issue_for(ADA, new).await.expect("issued");
    world.clock.advance(Duration::from_secs(60));
}

fn names(value: &Value) -> Vec<&str> {
    let pats = value.as_array().expect("a list");
    pats.iter().map(|pat| pat["pat_name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn what_is_due_soon_is_listed_soonest_first_and_nothing_else() {
    let world = World::new().await;
    let session = world.browser().await;
    let due = format!("{TOKENS}?due=soon");
    assert_eq!(world.get(&due).session(&session).send().await.json(), json!({ "value": [] }));
    for (name, days) in [("later", 100), ("second", 20), ("ended", 1), ("first", 3), ("third", 31)] {
        named(&world, name, days).await;
    }
    world.clock.advance(DAY);
    let (session, token) = (world.browser().await, world.token("tokens api:read").await);
    let answers =
        [world.get(&due).session(&session).send().await, world.get(&due).bearer(&token).send().await];
    for answer in answers {
        assert_eq!(names(&answer.value()), ["first", "second", "third"], "{answer}");
    }
    let all = world.get(TOKENS).session(&session).send().await;
    assert_eq!(names(&all.value()), ["ci-pipeline", "third", "first", "second", "later"]);
    let others = world.get(&due).session(&world.browser_of(EVE).await).send().await;
    assert_eq!(others.value(), json!([]));
}

#[tokio::test]
async fn another_question_than_what_is_due_soon_is_refused_with_what_may_be_asked() {
    let world = World::new().await;
    let session = world.browser().await;
    for (query, says) in [
        ("due=later", "`due` must be `soon`"),
        ("due=", "`due` must be `soon`"),
        ("due=Soon", "`due` must be `soon`"),
        ("soon=true", "expected `due`"),
        ("due=soon&due=soon", "due"),
    ] {
        let answer = world.get(&format!("{TOKENS}?{query}")).session(&session).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {answer}");
        assert!(answer.text.contains(says), "{query}: {answer}");
    }
}

#[tokio::test]
async fn a_browser_without_tokens_sees_none() {
    let world = World::new().await;
    let session = world.browser().await;
    assert_eq!(world.get(TOKENS).session(&session).send().await.json(), json!({ "value": [] }));
}

#[tokio::test]
async fn the_newest_is_first_and_a_token_is_unused_until_it_is_used() {
    let world = World::new().await;
    let session = world.browser().await;
    named(&world, "older", 30).await;
    let token = world.token("api mcp").await;
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    insta::assert_snapshot!(world.get(TOKENS).session(&session).send().await, @r#"
    200 OK
    {
      "value": [
        {
          "created_at": "2126-04-07T00:01:00Z",
          "expires_at": "2127-04-07T00:01:00Z",
          "last_used_at": "2126-04-07T00:02:00Z",
          "pat_hint": "[hint]",
          "pat_id": "[id]",
          "pat_name": "ci-pipeline",
          "pat_parent_id": null,
          "pat_scope": "mcp api",
          "revoked_at": null,
          "rotated_at": null
        },
        {
          "created_at": "2126-04-07T00:00:00Z",
          "expires_at": "2126-05-07T00:00:00Z",
          "last_used_at": null,
          "pat_hint": "[hint]",
          "pat_id": "[id]",
          "pat_name": "older",
          "pat_parent_id": null,
          "pat_scope": "mcp",
          "revoked_at": null,
          "rotated_at": null
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn only_active_tokens_of_one_s_own_are_listed() {
    let world = World::new().await;
    let revoked = world.token("mcp").await;
    world.token_of(EVE, "mcp").await;
    named(&world, "short", 1).await;
    named(&world, "long", 30).await;
    let session = world.browser().await;
    assert_eq!(world.delete(&path_of(&revoked)).session(&session).send().await.status, StatusCode::OK);
    let listed = world.get(TOKENS).session(&session).send().await.value();
    assert_eq!(names(&listed), ["long", "short"]);
    world.clock.advance(DAY);
    let listed = world.get(TOKENS).session(&session).send().await.value();
    assert_eq!(names(&listed), ["long"]);
}

#[tokio::test]
async fn a_token_lists_only_with_the_scope_tokens() {
    let world = World::new().await;
    let api = world.token("api").await;
    insta::assert_snapshot!(world.get(TOKENS).bearer(&api).send().await, @r#"
    403 Forbidden
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    www-authenticate: Bearer realm="trustrelay", error="insufficient_scope", error_description="the token does not have the scope `tokens`", scope="tokens"
    {
      "error": {
        "code": "insufficient_scope",
        "message": "the token does not have the scope `tokens`"
      }
    }
    "#);
    let tokens = world.token("tokens").await;
    let listed = world.get(TOKENS).bearer(&tokens).send().await;
    assert_eq!(listed.value().as_array().map(Vec::len), Some(2));
}
