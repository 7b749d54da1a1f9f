//! `DELETE /api/user/personal-access-tokens/{pat_id}`

use std::time::Duration;

use http::StatusCode;
use uuid::Uuid;

use super::TOKENS;
use crate::mcp::open_session;
use crate::support::{EVE, World, path_of};

#[tokio::test]
async fn when_it_is_answered_the_token_is_refused() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    insta::assert_snapshot!(world.delete(&path_of(&token)).session(&session).send().await, @r#"
    200 OK
    {
      "value": {
        "pat_id": "[id]",
        "revoked_at": "2126-04-07T00:00:00Z",
        "sessions_terminated": 0
      }
    }
    "#);
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.post("/mcp").bearer(&token).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn again_it_is_answered_with_the_first_time() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let first = world.delete(&path_of(&token)).session(&session).send().await;
    world.clock.advance(Duration::from_secs(3600));
    let again = world.delete(&path_of(&token)).session(&session).send().await;
    assert_eq!(again.to_string(), first.to_string());
}

#[tokio::test]
async fn the_sessions_that_it_ended_are_counted_once() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    open_session(&world, "/mcp", &token).await;
    open_session(&world, "/api/mcp", &token).await;
    let first = world.delete(&path_of(&token)).session(&session).send().await;
    assert_eq!(first.value()["sessions_terminated"], 2);
    let again = world.delete(&path_of(&token)).session(&session).send().await;
    assert_eq!(again.value()["sessions_terminated"], 0);
}

#[tokio::test]
async fn a_token_always_revokes_itself() {
    let world = World::new().await;
    for scope in ["mcp", "mcp:github/search", "api:read", "api", "tokens"] {
        let token = world.token(scope).await;
        let answer = world.delete(&format!("{TOKENS}/self")).bearer(&token).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{scope}");
        assert_eq!(answer.value()["pat_id"], token.record.pat_id.to_string());
        assert_eq!(answer.header("trustrelay-token-expiration"), "2127-04-07T00:00:00Z");
        let refused = world.delete(&format!("{TOKENS}/self")).bearer(&token).send().await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }
    let by_id = world.token("mcp").await;
    assert_eq!(world.delete(&path_of(&by_id)).bearer(&by_id).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_revokes_others_of_its_account_only_with_the_scope_tokens() {
    let world = World::new().await;
    let (api, tokens, other) =
        (world.token("api mcp").await, world.token("tokens").await, world.token("mcp").await);
    insta::assert_snapshot!(world.delete(&path_of(&other)).bearer(&api).send().await, @r#"
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
    assert_eq!(world.get("/api/user").bearer(&other).send().await.status, StatusCode::OK, "it stands");
    assert_eq!(world.delete(&path_of(&other)).bearer(&tokens).send().await.status, StatusCode::OK);
    assert_eq!(world.get("/api/user").bearer(&other).send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_s_token_is_as_unknown_as_one_that_never_was_and_stands() {
    let world = World::new().await;
    let (session, hers) = (world.browser().await, world.token_of(EVE, "api").await);
    let unknown = world.delete(&format!("{TOKENS}/{}", Uuid::now_v7())).session(&session).send().await;
    insta::assert_snapshot!(unknown, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "there is no such token"
      }
    }
    "#);
    let another_s = world.delete(&path_of(&hers)).session(&session).send().await;
    assert_eq!(another_s.to_string(), unknown.to_string());
    assert_eq!(world.get("/api/user").bearer(&hers).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_browser_has_no_token_to_be_self() {
    let world = World::new().await;
    let session = world.browser().await;
    let answer = world.delete(&format!("{TOKENS}/self")).session(&session).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let answer = world.delete(&format!("{TOKENS}/%ff")).session(&session).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}
