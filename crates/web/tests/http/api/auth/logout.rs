//! `POST /api/auth/logout`

use http::StatusCode;

use crate::support::World;

#[tokio::test]
async fn signing_out_ends_the_session_and_takes_the_cookie_away() {
    let world = World::new().await;
    let (session, other) = (world.browser().await, world.browser().await);
    let answer = world.post("/api/auth/logout").session(&session).send().await;
    insta::assert_snapshot!(answer, @r#"
    200 OK
    set-cookie: session=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0
    {
      "value": {}
    }
    "#);
    let ended = world.get("/api/user").session(&session).send().await;
    assert_eq!(ended.status, StatusCode::UNAUTHORIZED);
    let again = world.post("/api/auth/logout").session(&session).send().await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    let stays = world.get("/api/user").session(&other).send().await;
    assert_eq!(stays.status, StatusCode::OK, "another browser stays signed in");
}

#[tokio::test]
async fn a_token_has_no_session_to_end() {
    let world = World::new().await;
    let (token, session) = (world.token("api tokens").await, world.browser().await);
    let answer = world.post("/api/auth/logout").bearer(&token).session(&session).send().await;
    insta::assert_snapshot!(answer, @r#"
    400 Bad Request
    trustrelay-token-expiration: 2127-04-07T00:00:00Z
    {
      "error": {
        "code": "invalid_request",
        "message": "a token has no session; to revoke the token, DELETE /api/user/personal-access-tokens/self"
      }
    }
    "#);
    let stays = world.get("/api/user").session(&session).send().await;
    assert_eq!(stays.status, StatusCode::OK, "beside a token the cookie is not looked at");
}

#[tokio::test]
async fn another_site_cannot_sign_its_visitor_out() {
    let world = World::new().await;
    let session = world.browser().await;
    let answer =
        world.post("/api/auth/logout").session(&session).header("sec-fetch-site", "cross-site").send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(world.get("/api/user").session(&session).send().await.status, StatusCode::OK);
}
