//! `POST /api/revoke`

use http::StatusCode;
use serde_json::json;
use trustrelay_authority::Issued;

use crate::support::{Answer, World};

async fn revoke(world: &World, form: &str) -> Answer {
    world.post("/api/revoke").form(form).send().await
}

async fn stands(world: &World, issued: &Issued) -> bool {
    world.get("/api/user").bearer(issued).send().await.status == StatusCode::OK
}

#[tokio::test]
async fn whoever_holds_a_token_revokes_it_and_is_answered_with_nothing() {
    let world = World::new().await;
    let (issued, other) = (world.token("mcp").await, world.token("mcp").await);
    let hint = "token_type_hint=access_token&client_id=anything";
    let answer = revoke(&world, &format!("token={}&{hint}", issued.token.expose())).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""));
    assert!(!stands(&world, &issued).await);
    assert!(stands(&world, &other).await);
}

#[tokio::test]
async fn the_answer_is_the_same_whether_or_not_it_existed() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let text = issued.token.expose().to_owned();
    let unknown = trustrelay_token::Token::generate().expect("random");
    let first = revoke(&world, &format!("token={text}")).await.to_string();
    for token in [&text, unknown.expose(), &text[..44], "tr_pat_", "x", "%00", "%C3%BC"] {
        assert_eq!(revoke(&world, &format!("token={token}")).await.to_string(), first, "{}", token.len());
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_form_is_said_in_the_shape_of_oauth() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    insta::assert_snapshot!(revoke(&world, "token_type_hint=access_token").await, @r#"
    400 Bad Request
    {
      "error": "invalid_request",
      "error_description": "`token` is missing; send the token to revoke"
    }
    "#);
    let token = issued.token.expose();
    for form in ["", "token=", &format!("token={token}&token={token}"), &format!("Token={token}")] {
        let answer = revoke(&world, form).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_request"))
        );
    }
    let as_json = json!({ "token": token });
    let answer = world.post("/api/revoke").json(&as_json).send().await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = world.get("/api/revoke").send().await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    assert_eq!(answer.json()["error"], "invalid_request");
    let answer = world.post("/api/revoke").form(&format!("token={}", "x".repeat(64 * 1024))).send().await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    // In the query it would be logged on its way.
    let answer = world.post(&format!("/api/revoke?token={token}")).form("").send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(stands(&world, &issued).await, "nothing was done");
}

#[tokio::test]
async fn one_address_may_not_ask_without_end() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    for _ in 0..60 {
        assert_eq!(revoke(&world, "token=x").await.status, StatusCode::OK);
    }
    let form = format!("token={}", issued.token.expose());
    insta::assert_snapshot!(revoke(&world, &form).await, @r#"
    429 Too Many Requests
    retry-after: 60
    {
      "error": "temporarily_unavailable",
      "error_description": "too many attempts; try again in 1 minute"
    }
    "#);
    assert!(stands(&world, &issued).await);
    let answer = world.post("/api/revoke").form(&form).coming_from("198.51.100.1").send().await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!stands(&world, &issued).await);
}
