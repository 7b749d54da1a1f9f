//! `GET /api/user/personal-access-tokens/{pat_id}/activity`

use std::time::Duration;

use http::StatusCode;
use trustrelay_authority::{Call, Clock, Issued};
use uuid::Uuid;

use super::TOKENS;
use crate::support::{DAY, EVE, World, path_of};

/// A call that a token makes now.
fn calls(world: &World, token: &Issued, tool: &str, outcome: &'static str) {
    let call = Call {
        at: world.clock.now(),
        upstream: "github".into(),
        tool: tool.into(),
        outcome: outcome.into(),
        duration: Duration::from_micros(1500),
        bytes_in: 10,
        bytes_out: 200,
    };
    world.authority.note_call(token.record.pat_id, call);
}

fn activity_of(token: &Issued) -> String {
    format!("{}/activity", path_of(token))
}

#[tokio::test]
async fn a_browser_sees_what_its_token_called_by_day_and_tool_and_one_by_one() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    calls(&world, &token, "search", "ok");
    world.clock.advance(DAY);
    calls(&world, &token, "search", "ok");
    calls(&world, &token, "search", "upstream_down");
    world.clock.advance(Duration::from_secs(1));
    calls(&world, &token, "resources/read", "ok");
    // Fresh from the authority's memory, and then out of the store.
    let noted = world.get(&activity_of(&token)).session(&session).send().await;
    insta::assert_snapshot!(noted, @r#"
    200 OK
    {
      "value": {
        "days": [
          {
            "day": "2126-04-08",
            "tools": [
              {
                "bytes_in": 10,
                "bytes_out": 200,
                "duration_us": 1500,
                "outcomes": {
                  "ok": 1
                },
                "tool": "resources/read",
                "upstream": "github"
              },
              {
                "bytes_in": 20,
                "bytes_out": 400,
                "duration_us": 3000,
                "outcomes": {
                  "ok": 1,
                  "upstream_down": 1
                },
                "tool": "search",
                "upstream": "github"
              }
            ]
          },
          {
            "day": "2126-04-07",
            "tools": [
              {
                "bytes_in": 10,
                "bytes_out": 200,
                "duration_us": 1500,
                "outcomes": {
                  "ok": 1
                },
                "tool": "search",
                "upstream": "github"
              }
            ]
          }
        ],
        "latest": [
          {
            "at": "2126-04-08T00:00:01Z",
            "bytes_in": 10,
            "bytes_out": 200,
            "duration_us": 1500,
            "outcome": "ok",
            "tool": "resources/read",
            "upstream": "github"
          },
          {
            "at": "2126-04-08T00:00:00Z",
            "bytes_in": 10,
            "bytes_out": 200,
            "duration_us": 1500,
            "outcome": "upstream_down",
            "tool": "search",
            "upstream": "github"
          },
          {
            "at": "2126-04-08T00:00:00Z",
            "bytes_in": 10,
            "bytes_out": 200,
            "duration_us": 1500,
            "outcome": "ok",
            "tool": "search",
            "upstream": "github"
          },
          {
            "at": "2126-04-07T00:00:00Z",
            "bytes_in": 10,
            "bytes_out": 200,
            "duration_us": 1500,
            "outcome": "ok",
            "tool": "search",
            "upstream": "github"
          }
        ],
        "networks": [],
        "pat_id": "[id]",
        "since": "2126-03-10"
      }
    }
    "#);
    world.authority.flush_calls().await;
    let written = world.get(&activity_of(&token)).session(&session).send().await;
    assert_eq!(written.text, noted.text);
}

#[tokio::test]
async fn a_token_always_sees_its_own_by_its_id_or_as_self() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let by_name = world.get(&format!("{TOKENS}/self/activity")).bearer(&token).send().await;
    insta::assert_snapshot!(by_name, @r#"
    200 OK
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    {
      "value": {
        "days": [],
        "latest": [],
        "networks": [
          {
            "first_used_at": "2126-04-07T00:00:00Z",
            "last_used_at": "2126-04-07T00:00:00Z",
            "network": "192.0.2.0/24"
          }
        ],
        "pat_id": "[id]",
        "since": "2126-03-09"
      }
    }
    "#);
    let by_id = world.get(&activity_of(&token)).bearer(&token).send().await;
    assert_eq!(by_id.value(), by_name.value());
}

#[tokio::test]
async fn what_another_of_the_account_called_needs_the_scope_tokens() {
    let world = World::new().await;
    let (api, tokens) = (world.token("api mcp").await, world.token("tokens").await);
    let other = world.token("mcp").await;
    calls(&world, &other, "search", "ok");
    let refused = world.get(&activity_of(&other)).bearer(&api).send().await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.header("www-authenticate").contains("scope=\"tokens\""), "{refused}");
    assert!(!refused.text.contains("search"));
    let seen = world.get(&activity_of(&other)).bearer(&tokens).send().await;
    assert_eq!(seen.value()["latest"][0]["tool"], "search");
}

#[tokio::test]
async fn what_another_person_s_token_called_is_as_unknown_as_a_token_that_never_was() {
    let world = World::new().await;
    let (session, hers) = (world.browser().await, world.token_of(EVE, "mcp").await);
    calls(&world, &hers, "search", "ok");
    let unknown = world.get(&format!("{TOKENS}/{}/activity", Uuid::now_v7())).session(&session).send().await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let another_s = world.get(&activity_of(&hers)).session(&session).send().await;
    assert_eq!(another_s.to_string(), unknown.to_string());
    let no_id = world.get(&format!("{TOKENS}/x/activity")).session(&session).send().await;
    assert_eq!(no_id.to_string(), unknown.to_string());
    let with_a_token = world.get(&activity_of(&hers)).bearer(&world.token("tokens").await).send().await;
    assert_eq!(with_a_token.status, StatusCode::NOT_FOUND);
    let nobody = world.get(&activity_of(&hers)).send().await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_browser_has_no_activity_as_self() {
    let world = World::new().await;
    let session = world.browser().await;
    let answer = world.get(&format!("{TOKENS}/self/activity")).session(&session).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let odd = world.get(&format!("{TOKENS}/%ff/activity")).session(&session).send().await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST);
    for method in ["POST", "DELETE", "PUT"] {
        let call = world.call(method, &format!("{TOKENS}/self/activity")).session(&session);
        let answer = call.send().await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
}

#[tokio::test]
async fn what_a_revoked_token_called_can_still_be_looked_at_for_thirty_days() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    calls(&world, &token, "search", "ok");
    world.delete(&path_of(&token)).session(&session).send().await;
    let days = async |session: &str| {
        let answer = world.get(&activity_of(&token)).session(session).send().await;
        answer.value()["days"].as_array().expect("days").len()
    };
    assert_eq!(days(&session).await, 1);
    world.clock.advance(DAY * 30);
    let session = world.browser().await;
    assert_eq!(days(&session).await, 0);
}
