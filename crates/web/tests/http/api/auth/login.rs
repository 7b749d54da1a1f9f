//! `POST /api/auth/login`

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::support::{ADA, Answer, EVE, PASSWORD, Setting, World};

async fn sign_in(world: &World, email: &str, password: &str) -> Answer {
    world.post("/api/auth/login").json(json!({ "email": email, "password": password })).send().await
}

#[tokio::test]
async fn signing_in_sets_a_cookie_that_scripts_cannot_read() {
    let world = World::new().await;
    let answer = sign_in(&world, ADA, PASSWORD).await;
    insta::assert_snapshot!(answer, @r#"
    200 OK
    set-cookie: session=[session]; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800
    {
      "value": {
        "expires_at": "2126-04-14T00:00:00Z"
      }
    }
    "#);
    let who = world.get("/api/user").session(&answer.cookie()).send().await;
    assert_eq!(who.value()["user"]["email"], ADA);
}

#[tokio::test]
async fn on_https_the_cookie_is_for_https_alone() {
    let world = World::with(Setting { secure_cookies: true, ..Setting::default() }).await;
    let answer = sign_in(&world, ADA, PASSWORD).await;
    insta::assert_snapshot!(answer.header("set-cookie").replace(&answer.cookie(), "[session]"), @"session=[session]; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=604800");
}

#[tokio::test]
async fn an_address_is_the_same_however_it_is_written() {
    let world = World::new().await;
    assert_eq!(sign_in(&world, " ADA@Example.ORG ", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_password_an_unknown_and_a_disabled_account_are_answered_alike() {
    let world = World::new().await;
    let wrong = sign_in(&world, ADA, "correct horse batterz").await;
    insta::assert_snapshot!(wrong, @r#"
    401 Unauthorized
    {
      "error": {
        "code": "wrong_credentials",
        "message": "the email address or the password is wrong"
      }
    }
    "#);
    let unknown = sign_in(&world, "nobody@example.org", PASSWORD).await;
    world.authority.set_disabled(EVE, true).await.expect("disabled");
    let disabled = sign_in(&world, EVE, PASSWORD).await;
    for answer in [unknown, disabled] {
        assert_eq!(answer.to_string(), wrong.to_string());
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_and_an_unknown_account_tells_nothing_by_it() {
    let world = World::new().await;
    let mut ends = Vec::new();
    for email in [ADA, "nobody@example.org"] {
        for _ in 0..5 {
            assert_eq!(sign_in(&world, email, "a wrong password").await.status, StatusCode::UNAUTHORIZED);
        }
        ends.push(sign_in(&world, email, PASSWORD).await);
    }
    insta::assert_snapshot!(ends[0], @r#"
    429 Too Many Requests
    retry-after: 900
    {
      "error": {
        "code": "too_many_attempts",
        "message": "too many attempts; try again in 15 minutes"
      }
    }
    "#);
    assert_eq!(ends[0].to_string(), ends[1].to_string());

    let body = json!({ "email": ADA, "password": PASSWORD });
    let elsewhere = world.post("/api/auth/login").coming_from("198.51.100.1").json(&body).send().await;
    assert_eq!(elsewhere.status, StatusCode::OK, "one address's guesses do not lock the owner out");
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(sign_in(&world, ADA, PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_success_forgives_what_was_mistyped_before_it() {
    let world = World::new().await;
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(sign_in(&world, ADA, "a wrong password").await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(sign_in(&world, ADA, PASSWORD).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn another_site_cannot_sign_its_visitor_in() {
    let world = World::new().await;
    let body = json!({ "email": ADA, "password": PASSWORD });
    let answer =
        world.post("/api/auth/login").header("sec-fetch-site", "cross-site").json(&body).send().await;
    insta::assert_snapshot!(answer, @r#"
    403 Forbidden
    {
      "error": {
        "code": "cross_origin",
        "message": "this request came from another site, and browser sessions accept requests from their own site only; use a token (if this is the right site, correct the server's --public-url)"
      }
    }
    "#);
    let answer =
        world.post("/api/auth/login").header("origin", "https://evil.example").json(&body).send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer =
        world.post("/api/auth/login").header("sec-fetch-site", "same-origin").json(&body).send().await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_is_not_needed_and_a_bad_one_does_no_harm() {
    let world = World::new().await;
    let body = json!({ "email": ADA, "password": PASSWORD });
    let answer = world.post("/api/auth/login").authorization("Bearer tr_pat_x").json(&body).send().await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let world = World::new().await;
    let mut refusals = String::new();
    for body in [
        "{}",
        r#"{"email":"a@b"}"#,
        r#"{"email":1,"password":"p"}"#,
        r#"{"email":"a@b","password":null}"#,
        r#"{"email":"a@b","password":"p","remember":true}"#,
        r#"{"email":"a@b","email":"b@c","password":"p"}"#,
        r#"{"email":"a@b","password":"p"} {}"#,
        r#"["ada@example.org","correct horse battery"]"#,
        "null",
        "\"tr_pat_x\"",
    ] {
        let answer = world.post("/api/auth/login").json(body).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        refusals +=
            &format!("{body}\n  {}\n", answer.json()["error"]["message"].as_str().expect("a message"));
    }
    insta::assert_snapshot!(refusals, @r#"
    {}
      missing field `email` at line 1 column 2
    {"email":"a@b"}
      missing field `password` at line 1 column 15
    {"email":1,"password":"p"}
      `email`: invalid type: integer `1`, expected a string at line 1 column 10
    {"email":"a@b","password":null}
      `password`: invalid type: null, expected a string at line 1 column 30
    {"email":"a@b","password":"p","remember":true}
      unknown field `remember`, expected `email` or `password` at line 1 column 40
    {"email":"a@b","email":"b@c","password":"p"}
      duplicate field `email` at line 1 column 22
    {"email":"a@b","password":"p"} {}
      the body is not JSON: trailing characters at line 1 column 32
    ["ada@example.org","correct horse battery"]
      the body must be a JSON object, `{…}`
    null
      the body must be a JSON object, `{…}`
    "tr_pat_x"
      the body must be a JSON object, `{…}`
    "#);
}
