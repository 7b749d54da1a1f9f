//! `GET /api/user`, and who a request comes from.

mod credentials;
mod cross_origin;
mod personal_access_tokens;

use crate::support::World;

#[tokio::test]
async fn a_browser_learns_who_it_is() {
    let world = World::new().await;
    let session = world.browser().await;
    insta::assert_snapshot!(world.get("/api/user").session(&session).send().await, @r#"
    200 OK
    {
      "value": {
        "credential": {
          "expires_at": "2126-04-14T00:00:00Z",
          "kind": "session",
          "pat_id": null,
          "pat_scope": null
        },
        "user": {
          "email": "ada@example.org",
          "is_admin": true,
          "user_id": "[id]"
        }
      }
    }
    "#);
}

#[tokio::test]
async fn a_token_learns_whose_it_is_what_it_opens_and_until_when() {
    let world = World::new().await;
    let token = world.token("mcp api:read").await;
    insta::assert_snapshot!(world.get("/api/user").bearer(&token).send().await, @r#"
    200 OK
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    {
      "value": {
        "credential": {
          "expires_at": "2127-04-07T00:00:00Z",
          "kind": "pat",
          "pat_id": "[id]",
          "pat_scope": "mcp api:read"
        },
        "user": {
          "email": "ada@example.org",
          "is_admin": true,
          "user_id": "[id]"
        }
      }
    }
    "#);
}

#[tokio::test]
async fn head_says_the_same_without_a_body() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let got = world.get("/api/user").bearer(&token).send().await;
    let head = world.call("HEAD", "/api/user").bearer(&token).send().await;
    assert_eq!(head.status, got.status);
    assert_eq!(head.header("content-length"), got.text.len().to_string());
    assert!(head.text.is_empty());
    insta::assert_snapshot!(head, @r#"
    200 OK
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    "#);
}
