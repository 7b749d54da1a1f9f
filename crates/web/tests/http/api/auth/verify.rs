//! `POST /api/auth/verify`

use http::StatusCode;

use crate::support::{DAY, World};

#[tokio::test]
async fn a_session_says_whose_it_is() {
    let world = World::new().await;
    let session = world.browser().await;
    let answer = world.post("/api/auth/verify").session(&session).send().await;
    insta::assert_snapshot!(answer, @r#"
    200 OK
    {
      "value": {
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
async fn so_does_a_token_of_whatever_scope() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let answer = world.post("/api/auth/verify").bearer(&token).send().await;
    assert_eq!(answer.value()["user"]["email"], "ada@example.org");
}

#[tokio::test]
async fn no_session_and_one_that_ran_out_are_nobody_s() {
    let world = World::new().await;
    let session = world.browser().await;
    let none = world.post("/api/auth/verify").send().await;
    insta::assert_snapshot!(none, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trustrelay"
    {
      "error": {
        "code": "unauthenticated",
        "message": "this needs a personal access token: send `Authorization: Bearer tr_pat_…`"
      }
    }
    "#);
    let made_up = world.post("/api/auth/verify").session(&"x".repeat(43)).send().await;
    world.clock.advance(7 * DAY);
    let ran_out = world.post("/api/auth/verify").session(&session).send().await;
    for answer in [made_up, ran_out] {
        assert_eq!(answer.to_string(), none.to_string());
    }
}

#[tokio::test]
async fn the_session_of_a_disabled_account_is_nobody_s() {
    let world = World::new().await;
    let session = world.browser_of("eve@example.org").await;
    world.authority.set_disabled("eve@example.org", true).await.expect("disabled");
    let answer = world.post("/api/auth/verify").session(&session).send().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
