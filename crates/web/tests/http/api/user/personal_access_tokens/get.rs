//! `GET /api/user/personal-access-tokens/{pat_id}`

use http::StatusCode;
use uuid::Uuid;

use super::TOKENS;
use crate::support::{DAY, EVE, World, path_of};

#[tokio::test]
async fn a_browser_sees_each_of_its_own() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp:github api:read").await);
    insta::assert_snapshot!(world.get(&path_of(&token)).session(&session).send().await, @r#"
    200 OK
    {
      "value": {
        "created_at": "2126-04-07T00:00:00Z",
        "expires_at": "2127-04-07T00:00:00Z",
        "last_used_at": null,
        "pat_hint": "[hint]",
        "pat_id": "[id]",
        "pat_name": "ci-pipeline",
        "pat_parent_id": null,
        "pat_scope": "mcp:github api:read",
        "revoked_at": null,
        "rotated_at": null
      }
    }
    "#);
}

#[tokio::test]
async fn a_token_always_sees_itself_by_its_id_or_as_self() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let by_name = world.get(&format!("{TOKENS}/self")).bearer(&token).send().await;
    insta::assert_snapshot!(by_name, @r#"
    200 OK
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    {
      "value": {
        "created_at": "2126-04-07T00:00:00Z",
        "expires_at": "2127-04-07T00:00:00Z",
        "last_used_at": "2126-04-07T00:00:00Z",
        "pat_hint": "[hint]",
        "pat_id": "[id]",
        "pat_name": "ci-pipeline",
        "pat_parent_id": null,
        "pat_scope": "mcp",
        "revoked_at": null,
        "rotated_at": null
      }
    }
    "#);
    let by_id = world.get(&path_of(&token)).bearer(&token).send().await;
    assert_eq!(by_id.value(), by_name.value());
    let encoded = world.get(&format!("{TOKENS}/%73%65%6c%66")).bearer(&token).send().await;
    assert_eq!(encoded.value(), by_name.value(), "however it is written");
}

#[tokio::test]
async fn a_token_sees_others_of_its_account_only_with_the_scope_tokens() {
    let world = World::new().await;
    let (api, tokens, other) =
        (world.token("api mcp").await, world.token("tokens").await, world.token("mcp").await);
    insta::assert_snapshot!(world.get(&path_of(&other)).bearer(&api).send().await, @r#"
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
    assert_eq!(world.get(&path_of(&other)).bearer(&tokens).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_a_revoked_token_it_is_said_when_that_was() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let before = world.get(&path_of(&token)).session(&session).send().await.value();
    assert_eq!(before["revoked_at"], serde_json::Value::Null);
    let revoked = world.delete(&path_of(&token)).session(&session).send().await.value();
    world.clock.advance(DAY);
    let after = world.get(&path_of(&token)).session(&session).send().await.value();
    assert_eq!((&after["revoked_at"], &after["pat_id"]), (&revoked["revoked_at"], &before["pat_id"]));
    assert_eq!(after["revoked_at"], "2126-04-07T00:00:00Z");
}

#[tokio::test]
async fn a_browser_has_no_token_to_be_self() {
    let world = World::new().await;
    let session = world.browser().await;
    insta::assert_snapshot!(world.get(&format!("{TOKENS}/self")).session(&session).send().await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_request",
        "message": "`self` means the token that makes the request, but this request has a browser session; use the token's id"
      }
    }
    "#);
}

#[tokio::test]
async fn another_s_token_is_as_unknown_as_one_that_never_was() {
    let world = World::new().await;
    let (session, hers) = (world.browser().await, world.token_of(EVE, "mcp tokens").await);
    let unknown = world.get(&format!("{TOKENS}/{}", Uuid::now_v7())).session(&session).send().await;
    insta::assert_snapshot!(unknown, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "there is no such token"
      }
    }
    "#);
    let another_s = world.get(&path_of(&hers)).session(&session).send().await;
    assert_eq!(another_s.to_string(), unknown.to_string());
    let with_a_token = world.get(&path_of(&hers)).bearer(&world.token("tokens").await).send().await;
    assert_eq!(with_a_token.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_id_is_nobody_s_token() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let id = token.record.pat_id;
    for odd in [
        "x",
        "SELF",
        "self%20",
        "%00",
        "..%2f..",
        "%252e",
        "0",
        &format!("{id}x"),
        &format!("{id}%0a"),
        &"9".repeat(5000),
        token.token.expose(),
    ] {
        let answer = world.get(&format!("{TOKENS}/{odd}")).session(&session).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{odd}");
        assert_eq!(answer.json()["error"]["code"], "not_found");
    }
}

#[tokio::test]
async fn an_id_that_is_not_utf_8_is_refused_by_its_name() {
    let world = World::new().await;
    let session = world.browser().await;
    for odd in ["%ff", "%c3%28", "self%80"] {
        let answer = world.get(&format!("{TOKENS}/{odd}")).session(&session).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{odd}");
    }
    insta::assert_snapshot!(world.get(&format!("{TOKENS}/%ff")).session(&session).send().await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid_request",
        "message": "`pat_id` in the path is not valid UTF-8 after percent-decoding"
      }
    }
    "#);
}

#[tokio::test]
async fn a_path_that_goes_on_or_ends_early_is_none() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    for path in [format!("{TOKENS}/"), format!("{}/", path_of(&token)), format!("{}/x", path_of(&token))] {
        let answer = world.get(&path).session(&session).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_revoked_token_can_still_be_looked_at() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    assert_eq!(world.delete(&path_of(&token)).session(&session).send().await.status, StatusCode::OK);
    assert_eq!(world.get(&path_of(&token)).session(&session).send().await.status, StatusCode::OK);
}
