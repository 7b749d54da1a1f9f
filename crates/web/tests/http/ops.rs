//! `/healthz`, `/readyz`, `/metrics`

use std::time::Duration;

use axum::body::Body;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;
use trustrelay_authority::{Expiry, NewPat};

use crate::mcp::initialize;
use crate::support::{ADA, DAY, EVE, PASSWORD, Setting, World, path_of, recorder};

#[tokio::test]
async fn it_is_alive_and_ready() {
    let world = World::new().await;
    insta::assert_snapshot!(world.get("/healthz").send().await, @r#"
    200 OK
    {
      "value": {
        "status": "ok"
      }
    }
    "#);
    insta::assert_snapshot!(world.get("/readyz").send().await, @r#"
    200 OK
    {
      "value": {
        "status": "ready"
      }
    }
    "#);
}

#[tokio::test]
async fn a_node_that_has_lost_its_lease_is_alive_and_not_ready() {
    let world = World::new().await;
    world.clock.advance(DAY);
    insta::assert_snapshot!(world.get("/readyz").send().await, @r#"
    503 Service Unavailable
    retry-after: 1
    {
      "error": {
        "code": "not_ready",
        "message": "this node has no lease; see the node's log"
      }
    }
    "#);
    assert_eq!(world.get("/healthz").send().await.status, StatusCode::OK);
}

/// The lines of `/metrics` that start like this.
async fn lines(world: &World, start: &str) -> String {
    let answer = world.get("/metrics").send().await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    let mut lines: Vec<_> = answer.text.lines().filter(|line| line.starts_with(start)).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn what_happened_is_counted() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::with(Setting { metrics: Some(handle), ..Setting::default() }).await;
    let session = world.browser().await;
    let tokens = "/api/user/personal-access-tokens";
    let body = json!({ "pat_name": "n", "pat_scope": "mcp" });
    world.post(tokens).session(&session).json(&body).send().await;
    world.post(tokens).session(&session).form("").send().await;
    world.post("/settings/developer").session(&session).form("pat_name=n&scope=mcp").send().await;
    let token = world.token("mcp").await;
    world.get("/api/user").bearer(&token).send().await;
    initialize(world.post("/mcp").bearer(&token)).send().await;
    world.get(&path_of(&token)).bearer(&token).send().await;
    world.delete(&path_of(&token)).session(&session).send().await;
    world.get("/api/user").bearer(&token).send().await;
    world.get("/api/user").authorization("Bearer x").send().await;
    world.post("/mcp/github").send().await;
    for password in ["wrong", PASSWORD] {
        world.post("/api/auth/login").json(json!({ "email": ADA, "password": password })).send().await;
    }
    for _ in 0..6 {
        world.post("/login").form("email=nobody&password=x").send().await;
    }
    insta::assert_snapshot!(lines(&world, "trustrelay_verifications_total").await, @r#"
    trustrelay_verifications_total{outcome="accepted"} 3
    trustrelay_verifications_total{outcome="expired"} 0
    trustrelay_verifications_total{outcome="malformed"} 1
    trustrelay_verifications_total{outcome="missing"} 1
    trustrelay_verifications_total{outcome="owner_disabled"} 0
    trustrelay_verifications_total{outcome="revoked"} 1
    trustrelay_verifications_total{outcome="unavailable"} 0
    trustrelay_verifications_total{outcome="unknown"} 0
    "#);
    insta::assert_snapshot!(lines(&world, "trustrelay_logins_total").await, @r#"
    trustrelay_logins_total{outcome="failed"} 0
    trustrelay_logins_total{outcome="good"} 1
    trustrelay_logins_total{outcome="throttled"} 1
    trustrelay_logins_total{outcome="wrong"} 6
    "#);
    insta::assert_snapshot!(lines(&world, "trustrelay_tokens_").await, @r#"
    trustrelay_tokens_expiring{within_days="1"} 0
    trustrelay_tokens_expiring{within_days="30"} 0
    trustrelay_tokens_expiring{within_days="7"} 0
    trustrelay_tokens_issued_total 2
    trustrelay_tokens_revoked_total 1
    "#);
    insta::assert_snapshot!(lines(&world, "trustrelay_http_requests_total").await, @r#"
    trustrelay_http_requests_total{route="/api/auth/login",status="200"} 1
    trustrelay_http_requests_total{route="/api/auth/login",status="401"} 1
    trustrelay_http_requests_total{route="/api/user",status="200"} 1
    trustrelay_http_requests_total{route="/api/user",status="401"} 2
    trustrelay_http_requests_total{route="/api/user/personal-access-tokens",status="201"} 1
    trustrelay_http_requests_total{route="/api/user/personal-access-tokens",status="415"} 1
    trustrelay_http_requests_total{route="/api/user/personal-access-tokens/{pat_id}",status="200"} 2
    trustrelay_http_requests_total{route="/login",status="401"} 5
    trustrelay_http_requests_total{route="/login",status="429"} 1
    trustrelay_http_requests_total{route="/mcp",status="200"} 1
    trustrelay_http_requests_total{route="/mcp/{name}",status="401"} 1
    trustrelay_http_requests_total{route="/metrics",status="200"} 3
    trustrelay_http_requests_total{route="/settings/developer",status="303"} 1
    "#);
    insta::assert_snapshot!(lines(&world, "trustrelay_lease_held").await, @"trustrelay_lease_held 1");
}

#[tokio::test]
async fn tokens_that_are_due_soon_are_counted_once_a_minute() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::with(Setting { metrics: Some(handle), ..Setting::default() }).await;
    let made = async |email: &str, days: i64| {
        let expiry = Expiry::Days(days);
        let new = NewPat { name: "n".into(), scope: "mcp".into(), expiry, ..NewPat::default() };
        world.authority.issue_for(email, new).await.expect("issued");
    };
    for (email, days) in [(ADA, 1), (ADA, 5), (EVE, 20), (EVE, 100)] {
        made(email, days).await;
    }
    let first = lines(&world, "trustrelay_tokens_expiring").await;
    insta::assert_snapshot!(first, @r#"
    trustrelay_tokens_expiring{within_days="1"} 1
    trustrelay_tokens_expiring{within_days="30"} 3
    trustrelay_tokens_expiring{within_days="7"} 2
    "#);
    made(EVE, 2).await;
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(lines(&world, "trustrelay_tokens_expiring").await, first, "not yet");
    world.clock.advance(Duration::from_secs(1));
    insta::assert_snapshot!(lines(&world, "trustrelay_tokens_expiring").await, @r#"
    trustrelay_tokens_expiring{within_days="1"} 1
    trustrelay_tokens_expiring{within_days="30"} 4
    trustrelay_tokens_expiring{within_days="7"} 3
    "#);
}

#[tokio::test]
async fn made_up_paths_and_methods_make_no_series_of_their_own() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::with(Setting { metrics: Some(handle), ..Setting::default() }).await;
    for at in 0..200 {
        world.get(&format!("/api/{at}")).send().await;
        world.get(&format!("/api/user/personal-access-tokens/{at}")).send().await;
        world.call(&format!("X{at}"), "/api/user").send().await;
    }
    let counted = lines(&world, "trustrelay_http_requests_total").await;
    insta::assert_snapshot!(counted, @r#"
    trustrelay_http_requests_total{route="/api/user",status="405"} 200
    trustrelay_http_requests_total{route="/api/user/personal-access-tokens/{pat_id}",status="401"} 200
    trustrelay_http_requests_total{route="none",status="404"} 200
    "#);
}

#[tokio::test]
async fn with_an_address_for_operators_metrics_are_served_there_alone() {
    let (recorder, handle) = recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let setting = Setting { metrics: Some(handle), metrics_elsewhere: true, ..Setting::default() };
    let world = World::with(setting).await;
    // Not to an administrator either: whoever asks, the path is not there.
    let root = world.token("mcp api tokens").await;
    let nobody = world.get("/metrics").send().await;
    insta::assert_snapshot!(nobody, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "this path does not exist; GET /api/openapi.json lists all paths"
      }
    }
    "#);
    for call in [world.get("/metrics").bearer(&root), world.post("/metrics")] {
        assert_eq!(call.send().await.to_string(), nobody.to_string());
    }
    let answer = world.get("/metrics").at_ops().send().await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/plain; version=0.0.4"));
    assert!(answer.text.contains("trustrelay_lease_held 1"), "{answer}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.get(path).send().await.status, StatusCode::OK, "{path}");
        assert_eq!(world.get(path).at_ops().send().await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_address_for_operators_serves_nothing_else() {
    let world = World::new().await;
    let root = world.token("mcp api tokens").await;
    for route in trustrelay_web::routes() {
        if ["/metrics", "/healthz", "/readyz"].contains(&route.path) {
            continue;
        }
        for method in &route.methods {
            let request = Request::builder().method(method).uri(route.path).header(HOST, "relay.example");
            let request = request.header(AUTHORIZATION, format!("Bearer {}", root.token.expose()));
            let request = request.body(Body::empty()).expect("a request");
            let answer = world.ops_router.clone().oneshot(request).await.expect("infallible");
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {}", route.path);
        }
    }
}
