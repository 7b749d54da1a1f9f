//! What all answers share: headers, ids, limits; and what paths and methods that are not there are
//! answered.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use trustrelay_web::Door;

use crate::support::{ADA, PASSWORD, Setting, World};

/// Where a browser asks for a page.
const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn all_headers(answer: &crate::support::Answer) -> String {
    let mut lines: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn a_page_tells_the_browser_to_trust_nothing_but_us() {
    let world = World::new().await;
    let answer = world.get("/login").header("x-request-id", "an-id").send().await;
    insta::assert_snapshot!(all_headers(&answer), @r#"
    cache-control: no-store
    content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'
    content-type: text/html; charset=utf-8
    cross-origin-opener-policy: same-origin
    cross-origin-resource-policy: same-origin
    referrer-policy: same-origin
    x-content-type-options: nosniff
    x-frame-options: DENY
    x-request-id: an-id
    "#);
}

#[tokio::test]
async fn data_is_nothing_to_be_shown_run_or_framed() {
    let world = World::new().await;
    let answer = world.get("/healthz").header("x-request-id", "an-id").send().await;
    insta::assert_snapshot!(all_headers(&answer), @r#"
    cache-control: no-store
    content-security-policy: default-src 'none'; frame-ancestors 'none'
    content-type: application/json
    cross-origin-opener-policy: same-origin
    cross-origin-resource-policy: same-origin
    referrer-policy: same-origin
    x-content-type-options: nosniff
    x-frame-options: DENY
    x-request-id: an-id
    "#);
}

#[tokio::test]
async fn a_caller_s_id_is_taken_over_if_it_is_harmless() {
    let world = World::new().await;
    for harmless in ["a", "0197f4a27e1c7c4e9a531f0e6a1b2c3d", "a-b_c.d", &"x".repeat(64)] {
        let answer = world.get("/healthz").header("x-request-id", harmless).send().await;
        assert_eq!(answer.header("x-request-id"), harmless);
    }
    for odd in ["", "a b", "a\"b", "<b>", "é", "a,b", &"x".repeat(65), "tr_pat_abc", "x-tr_pat_abc"] {
        for path in ["/healthz", "/mcp"] {
            let answer = world.get(path).header("x-request-id", odd).send().await;
            assert_eq!(answer.header("x-request-id").len(), 36, "{odd}");
        }
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_is_not_found_in_the_shape_that_was_asked_for() {
    let world = World::new().await;
    insta::assert_snapshot!(world.get("/api/nothing").header("accept", HTML).send().await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "this path does not exist; GET /api/openapi.json lists all paths"
      }
    }
    "#);
    for path in [
        "/nothing",
        "/api",
        "/apis",
        "/healthz/",
        "/mcp/a/b",
        "//api/user",
        "/%61pi/user",
        "/api%2fuser",
        "/%ff",
    ] {
        let answer = world.get(path).header("accept", "*/*").send().await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::NOT_FOUND, "application/json"), "{path}");
        let answer = world.get(path).header("accept", HTML).send().await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::NOT_FOUND, "text/html"), "{path}");
    }
    let answer = world.post("/nothing").send().await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has() {
    let world = World::new().await;
    let session = world.browser().await;
    for route in trustrelay_web::routes().iter().filter(|route| route.door != Door::Mcp) {
        let path = route.path.replace("{pat_id}", "self").replace("{name}", "app.css");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let known: Method = method.parse().expect("a method");
            if route.methods.contains(&known) {
                continue;
            }
            let answer = world.call(method, &path).session(&session).send().await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.header("allow"), route.allow(), "{method} {path}");
            let kind = if route.door == Door::Page { "text/html" } else { "application/json" };
            assert_eq!(answer.kind(), kind, "{method} {path}");
        }
    }
    insta::assert_snapshot!(world.call("PUT", "/api/user/personal-access-tokens").send().await, @r#"
    405 Method Not Allowed
    allow: GET, HEAD, POST
    {
      "error": {
        "code": "method_not_allowed",
        "message": "this path supports only GET, HEAD, POST"
      }
    }
    "#);
}

#[tokio::test]
async fn head_answers_wherever_get_does() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    for route in trustrelay_web::routes().iter().filter(|route| route.door != Door::Mcp) {
        if !route.methods.contains(&Method::GET) {
            continue;
        }
        let id = token.record.pat_id.to_string();
        let path = route.path.replace("{pat_id}", &id).replace("{name}", "app.css");
        let got = world.get(&path).session(&session).send().await;
        let head = world.call("HEAD", &path).session(&session).send().await;
        assert_eq!(head.status, got.status, "{path}");
        assert_eq!(head.kind(), got.kind(), "{path}");
        assert!(head.text.is_empty(), "{path}");
    }
}

#[test]
fn work_that_takes_too_long_is_given_up_in_the_shape_of_its_door() {
    // Passwords are checked on a thread for blocking work. There is one, and it is held: none is
    // ever checked, however fast or slow the machine is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let world = World::with(Setting { time_limit: Duration::ZERO, ..Setting::default() }).await;
        let (release, released) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv());
        let body = json!({ "email": ADA, "password": PASSWORD });
        insta::assert_snapshot!(world.post("/api/auth/login").json(body).send().await, @r#"
        503 Service Unavailable
        retry-after: 1
        {
          "error": {
            "code": "timeout",
            "message": "the request took too long and was cancelled; try again"
          }
        }
        "#);
        let page = world.post("/login").form(&format!("email={ADA}&password={PASSWORD}")).send().await;
        assert_eq!((page.status, page.kind()), (StatusCode::SERVICE_UNAVAILABLE, "text/html"));
        assert_eq!(page.header("retry-after"), "1");
        drop(release);
    });
}

/// RFC 9112 §3.2, on every route of every door, and where there is no route.
#[tokio::test]
async fn none_or_two_hosts_are_400_on_every_route() {
    let world = World::new().await;
    let routes = trustrelay_web::routes();
    let paths = routes.iter().map(|route| (route.methods[0].clone(), route.path));
    for (method, path) in paths.chain([(http::Method::GET, "/nowhere")]) {
        let path = path.replace(['{', '}'], "");
        let call = || world.call(method.as_str(), &path);
        let two = call().header("host", "other.example").send().await;
        let none = call().without_host().version(http::Version::HTTP_11).send().await;
        assert_eq!((two.status.as_u16(), none.status.as_u16()), (400, 400), "{method} {path}: {two} {none}");
        let in_http_2 = call().without_host().send().await;
        assert!(!in_http_2.text.contains("`Host`"), "{method} {path}: {in_http_2}");
    }
}
