//! The pages, without a browser: what they refuse, what they show once, where they lead. How they
//! look and work in a browser is told by the end-to-end tests.

mod admin;
mod admin_notices;
mod admin_tokens;
mod audit;
mod developer;
mod login;
mod notices;
mod policy;
mod profile;
mod rotate;
mod setup;
mod token;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::StatusCode;

use crate::support::{Setting, World};

/// Every page that takes a form, and a form that it takes.
const FORMS: [(&str, &str); 20] = [
    ("/login", "email=a&password=b"),
    ("/setup", "token=x&email=a&password=b"),
    ("/settings/profile/password", "current_password=a&new_password=b"),
    ("/settings/developer", "pat_name=n&scope=mcp"),
    ("/settings/notices", "url=https%3A%2F%2Fhooks.example.org"),
    ("/admin/notices", "url=https%3A%2F%2Fhooks.example.org"),
    ("/admin/tokens/revoke?owner=nobody", "expected=1"),
    ("/admin/people", "email=a%40example.org"),
    ("/settings/developer/self/rotate", "overlap=day&idempotency_key=k"),
    ("/admin/policy", "max_days=30"),
    ("/settings/profile/sign-out-everywhere", ""),
    ("/settings/developer/self/revoke", ""),
    ("/settings/notices/no-id/test", ""),
    ("/settings/notices/no-id/remove", ""),
    ("/admin/tokens/no-id/revoke", ""),
    ("/admin/notices/no-id/test", ""),
    ("/admin/notices/no-id/remove", ""),
    ("/admin/people/no-id/disable", ""),
    ("/admin/people/no-id/demote", ""),
    ("/logout", ""),
];
/// The first so many have fields.
const FIELDS: usize = 10;

#[tokio::test]
async fn a_form_that_another_site_sends_is_refused_with_a_page() {
    let world = World::new().await;
    let session = world.browser().await;
    for (path, form) in FORMS {
        for (header, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            let answer = world.post(path).session(&session).header(header, value).form(form).send().await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {header} {value}");
            assert_eq!(answer.kind(), "text/html", "{path}");
        }
    }
    assert_eq!(
        world.get("/api/user").session(&session).send().await.status,
        StatusCode::OK,
        "still signed in"
    );
}

#[tokio::test]
async fn a_form_that_is_wrong_is_refused_with_a_page() {
    let world = World::new().await;
    let session = world.browser().await;
    let large = format!("pat_name={}", "x".repeat(64 * 1024));
    for (path, form) in &FORMS[..FIELDS] {
        let json = world.post(path).session(&session).json("{}").send().await;
        assert_eq!(json.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        let file =
            world.post(path).session(&session).body("multipart/form-data; boundary=x", "--x--").send().await;
        assert_eq!(file.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        let too_large = world.post(path).session(&session).form(&large).send().await;
        assert_eq!(too_large.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        for answer in [json, file, too_large] {
            assert_eq!(answer.kind(), "text/html", "{path}");
        }
        if !["/settings/developer", "/admin/policy"].contains(path) {
            let twice = world.post(path).session(&session).form(&format!("{form}&{form}")).send().await;
            let none = world.post(path).session(&session).form("").send().await;
            for answer in [twice, none] {
                assert_eq!((answer.status, answer.kind()), (StatusCode::BAD_REQUEST, "text/html"), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_form_that_does_not_arrive_is_not_waited_for() {
    let world = World::with(Setting { time_limit: Duration::from_secs(1), ..Setting::default() }).await;
    let session = world.browser().await;
    for (path, _) in &FORMS[..FIELDS] {
        let stalled = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let call = world.post(path).session(&session);
        let answer = call.body("application/x-www-form-urlencoded", stalled).send().await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::REQUEST_TIMEOUT, "text/html"), "{path}");
    }
}

#[tokio::test]
async fn a_query_or_a_path_that_cannot_be_read_is_refused_with_a_page() {
    let world = World::new().await;
    let session = world.browser().await;
    for path in [
        "/login?next=a&next=b",
        "/setup?token=a&token=b",
        "/settings/developer?revoked=1&revoked=2",
        "/settings/developer/%ff/revoke",
        "/settings/notices?after=newest",
        "/settings/notices/%ff/remove",
        "/assets/%ff",
    ] {
        let answer = world.get(path).session(&session).send().await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::BAD_REQUEST, "text/html"), "{path}");
    }
}

#[tokio::test]
async fn an_asset_that_is_not_there_is_not_found() {
    let world = World::new().await;
    for name in ["nothing.css", "..%2fCargo.toml", "%2e%2e%2fapp.css", "app.css%00", "APP.CSS"] {
        let answer = world.get(&format!("/assets/{name}")).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
    }
    let style = world.get("/assets/app.css").send().await;
    assert_eq!((style.status, style.kind()), (StatusCode::OK, "text/css"));
}

#[tokio::test]
async fn a_form_s_answer_that_is_reloaded_says_how_to_go_on() {
    let world = World::new().await;
    let session = world.browser().await;
    let answer = world.get("/settings/profile/password").session(&session).send().await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    assert!(answer.text.contains("Something went wrong"), "{answer}");
    assert!(answer.text.contains("This page can't be reloaded. Go back and try again."), "{answer}");
}

#[tokio::test]
async fn a_stranger_is_sent_to_sign_in_and_comes_back() {
    let world = World::new().await;
    for path in ["/settings/developer", "/settings/profile", "/settings/notices"] {
        let answer = world.get(path).send().await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(answer.header("location"), format!("/login?next={}", path.replace('/', "%2F")));
    }
    let late =
        world.post("/settings/profile/password").form("current_password=a&new_password=b").send().await;
    assert_eq!(
        (late.status, late.header("location")),
        (StatusCode::SEE_OTHER, "/login"),
        "a form is not a page"
    );
    let answer = world.get("/").send().await;
    assert_eq!(answer.header("location"), "/login");
    let answer = world.get("/").session(&world.browser().await).send().await;
    assert_eq!(answer.header("location"), "/settings/developer");
}

#[tokio::test]
async fn several_sessions_are_explained_instead_of_sent_in_circles() {
    let world = World::new().await;
    let (mine, planted) = (world.browser().await, world.browser_of("eve@example.org").await);
    let answer = world.get("/settings/developer").session(&planted).session(&mine).send().await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text.contains("Delete the cookies of this site"), "{answer}");
    let out = world.post("/logout").session(&planted).session(&mine).send().await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    for ended in [mine, planted] {
        assert_eq!(world.get("/api/user").session(&ended).send().await.status, StatusCode::UNAUTHORIZED);
    }
}
