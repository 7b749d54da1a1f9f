//! Bodies that are no JSON, too large, of another kind, or never end: alike wherever a body is
//! taken.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::StatusCode;

use crate::support::{Answer, Call, Setting, World};

const TAKERS: [&str; 2] = ["/api/auth/login", "/api/user/personal-access-tokens"];

async fn to_all(world: &World, send: impl AsyncFn(Call<'_>) -> Answer) -> Answer {
    let session = world.browser().await;
    let mut answers = Vec::new();
    for path in TAKERS {
        answers.push(send(world.post(path).session(&session)).await);
    }
    let last = answers.pop().expect("an answer");
    for answer in answers {
        assert_eq!(answer.to_string(), last.to_string());
    }
    last
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let world = World::new().await;
    let mut refusals = String::new();
    for body in ["", "{", "{:}", "hello", "\u{feff}{}", "{\"\\ud800\":1}"] {
        let answer = to_all(&world, async |call| call.json(body).send().await).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        refusals +=
            &format!("{body:?}: {}\n", answer.json()["error"]["message"].as_str().expect("a message"));
    }
    insta::assert_snapshot!(refusals, @r#"
    "": the body is not JSON: EOF while parsing a value at line 1 column 0
    "{": the body is not JSON: EOF while parsing an object at line 1 column 1
    "{:}": the body is not JSON: key must be a string at line 1 column 2
    "hello": the body is not JSON: expected value at line 1 column 1
    "\u{feff}{}": the body is not JSON: expected value at line 1 column 1
    "{\"\\ud800\":1}": the body is not JSON: unexpected end of hex escape at line 1 column 9
    "#);
    let answer =
        to_all(&world, async |call| call.body("application/json", &b"{\"\xff\":1}"[..]).send().await).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "not UTF-8");
    let deep = "[".repeat(500);
    let answer = to_all(&world, async |call| call.json(&deep).send().await).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "nested without end");
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused() {
    let world = World::new().await;
    let answer = to_all(&world, async |call| call.form("email=a&password=b").send().await).await;
    insta::assert_snapshot!(answer, @r#"
    415 Unsupported Media Type
    {
      "error": {
        "code": "unsupported_media_type",
        "message": "send the body as JSON, with `Content-Type: application/json`"
      }
    }
    "#);
    for kind in ["text/plain", "application/jsonp", "application/json, text/plain", "json", ""] {
        let answer = to_all(&world, async |call| call.body(kind, "{}").send().await).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    for kind in ["application/json; charset=utf-8", "APPLICATION/JSON"] {
        let answer = to_all(&world, async |call| call.body(kind, "[]").send().await).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{kind} is JSON");
    }
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused() {
    let world = World::new().await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(64 * 1024));
    let answer = to_all(&world, async |call| call.json(&large).send().await).await;
    insta::assert_snapshot!(answer, @r#"
    413 Payload Too Large
    {
      "error": {
        "code": "body_too_large",
        "message": "the body is larger than 65536 bytes"
      }
    }
    "#);
    let endless =
        || Body::from_stream(stream::repeat(Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1024]))));
    let answer = to_all(&world, async |call| call.body("application/json", endless()).send().await).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "also where its length is not said");
    let fits = format!("{}[]", " ".repeat(64 * 1024 - 2));
    let answer = to_all(&world, async |call| call.json(&fits).send().await).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "what just fits is read");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let world = World::with(Setting { time_limit: Duration::from_secs(1), ..Setting::default() }).await;
    let stalled = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let answer = to_all(&world, async |call| call.body("application/json", stalled()).send().await).await;
    insta::assert_snapshot!(answer, @r#"
    408 Request Timeout
    {
      "error": {
        "code": "body_too_slow",
        "message": "the body did not arrive within 500ms; send it again"
      }
    }
    "#);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let world = World::new().await;
    let broken = || {
        Body::from_stream(stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]))
    };
    let answer = to_all(&world, async |call| call.body("application/json", broken()).send().await).await;
    insta::assert_snapshot!(answer, @r#"
    400 Bad Request
    {
      "error": {
        "code": "body_not_read",
        "message": "the body is incomplete; send it again"
      }
    }
    "#);
}

#[tokio::test]
async fn who_may_not_ask_is_told_before_the_body_is_read() {
    let world = World::new().await;
    let stalled = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let answer =
        world.post("/api/user/personal-access-tokens").body("application/json", stalled).send().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
