//! What tokens are held to, over REST, MCP and the pages.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use trustrelay_authority::{AskedLimits, Expiry, Issued, NewPat};
use trustrelay_web::{ProxyHeader, TrustedProxies};

use crate::support::{ADA, Setting, World, path_of};

const TOKENS: &str = "/api/user/personal-access-tokens";
const HOME: &str = "10.1.2.3";
const AWAY: &str = "203.0.113.9";

pub(crate) async fn held(world: &World, networks: &[&str], rate: Option<i64>) -> Issued {
    let networks = networks.iter().map(|text| (*text).to_owned()).collect();
    let limits = AskedLimits { networks, requests_per_minute: rate, unused_days: None };
    let limits = limits.read().expect("limits");
    let new = NewPat { name: "held".into(), scope: "mcp api".into(), expiry: Expiry::Default, limits };
    let issued = world.authority.issue_for(ADA, new).await.expect("issued");
    world.keep_secret(issued.token.expose());
    issued
}

#[tokio::test]
async fn a_token_is_made_with_limits_and_shows_them() {
    let world = World::new().await;
    let session = world.browser().await;
    let limits = json!({
        "allowed_networks": ["10.0.0.0/8", "2001:db8::1/128"], "requests_per_minute": 60, "expires_if_unused_days": 30,
    });
    let asked = json!({
        "pat_name": "held", "pat_scope": "mcp",
        "allowed_networks": ["10.0.0.0/8", "2001:db8::1"], "requests_per_minute": 60, "expires_if_unused_days": 30,
    });
    let created = world.post(TOKENS).session(&session).json(&asked).send().await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.value()["pat_id"].as_str().expect("an id").to_owned();
    let listed = world.get(TOKENS).session(&session).send().await;
    let one = world.get(&format!("{TOKENS}/{id}")).session(&session).send().await;
    for shown in [created.value(), listed.value()[0].clone(), one.value()] {
        for field in ["allowed_networks", "requests_per_minute", "expires_if_unused_days"] {
            assert_eq!(shown[field], limits[field], "{field}");
        }
    }
    // One that is held to nothing says nothing of it.
    let free = world.post(TOKENS).session(&session).json(json!({ "pat_name": "free", "pat_scope": "mcp" }));
    let free = free.send().await.value();
    assert!(free.get("allowed_networks").is_none() && free.get("requests_per_minute").is_none(), "{free}");
}

#[tokio::test]
async fn limits_that_are_none_are_refused_by_their_field() {
    let world = World::new().await;
    let session = world.browser().await;
    for (field, value) in [
        ("allowed_networks", json!(["10.1.2.3/8"])),
        ("allowed_networks", json!(["office"])),
        ("allowed_networks", json!("10.0.0.0/8")),
        ("requests_per_minute", json!(0)),
        ("requests_per_minute", json!(1.5)),
        ("requests_per_minute", json!(1_000_001)),
        ("expires_if_unused_days", json!(366)),
        ("expires_if_unused_days", json!("30")),
    ] {
        let mut asked = json!({ "pat_name": "held", "pat_scope": "mcp" });
        asked[field] = value;
        let answer = world.post(TOKENS).session(&session).json(&asked).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{asked}");
        assert!(answer.to_string().contains(field), "{answer}");
    }
    assert_eq!(world.get(TOKENS).session(&session).send().await.value(), json!([]));
}

#[tokio::test]
async fn from_elsewhere_a_token_opens_nothing_over_rest_and_mcp() {
    let world = World::new().await;
    let token = held(&world, &["10.0.0.0/8"], None).await;
    for path in ["/api/user", "/mcp", "/mcp/github"] {
        let call = |from: &str| match path {
            "/api/user" => world.get(path).bearer(&token).coming_from(from),
            _ => world.post(path).bearer(&token).coming_from(from),
        };
        let away = call(AWAY).send().await;
        assert_eq!(away.status, StatusCode::FORBIDDEN, "{path}");
        let text = away.to_string();
        assert!(text.contains("network_not_allowed") && text.contains(AWAY), "{text}");
        assert!(!text.contains("10.0.0.0"), "where it may be used from is not told: {text}");
        assert_ne!(call(HOME).send().await.status, StatusCode::FORBIDDEN, "{path}");
    }
    // The account's browser may go where it will.
    let session = world.browser().await;
    assert_eq!(
        world.get("/api/user").session(&session).coming_from(AWAY).send().await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn behind_a_proxy_it_is_the_client_that_has_to_be_there() {
    let networks = vec!["10.0.0.5".parse().expect("a network")];
    let proxies = TrustedProxies { networks, header: ProxyHeader::XForwardedFor };
    let world = World::with(Setting { proxies, ..Setting::default() }).await;
    // The proxy is in the network itself.
    let token = held(&world, &["10.0.0.0/8"], None).await;
    for (peer, header, status) in [
        ("10.0.0.5", Some("10.1.2.3"), StatusCode::OK),
        ("10.0.0.5", Some("203.0.113.9"), StatusCode::FORBIDDEN),
        ("10.0.0.5", Some("10.1.2.3, 203.0.113.9"), StatusCode::FORBIDDEN),
        // It does not say for whom it speaks.
        ("10.0.0.5", Some("unknown"), StatusCode::FORBIDDEN),
        ("10.0.0.5", Some(""), StatusCode::FORBIDDEN),
        // Nobody else speaks for anybody.
        ("203.0.113.9", Some("10.1.2.3"), StatusCode::FORBIDDEN),
        ("10.1.2.3", Some("203.0.113.9"), StatusCode::OK),
    ] {
        let mut call = world.get("/api/user").bearer(&token).coming_from(peer);
        if let Some(header) = header {
            call = call.header("x-forwarded-for", header);
        }
        assert_eq!(call.send().await.status, status, "{peer} {header:?}");
    }
}

#[tokio::test]
async fn a_token_is_told_what_is_left_and_then_when_to_come_again() {
    let world = World::new().await;
    let token = held(&world, &[], Some(3)).await;
    for (path, limit) in
        [("/api/user", "\"pat\";r=2;t=20"), ("/mcp", "\"pat\";r=1;t=20"), (TOKENS, "\"pat\";r=0;t=20")]
    {
        let call = if path == "/mcp" { world.post(path) } else { world.get(path) };
        let answer = call.bearer(&token).send().await;
        assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(answer.header("ratelimit-policy"), "\"pat\";q=3;w=60", "{path}");
        assert_eq!(answer.header("ratelimit"), limit, "{path}");
    }
    for path in ["/api/user", "/mcp", "/mcp/github"] {
        let call = if path == "/api/user" { world.get(path) } else { world.post(path) };
        let answer = call.bearer(&token).send().await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert!(answer.to_string().contains("rate_limited"), "{answer}");
        assert_eq!(answer.header("retry-after"), "20", "{path}");
        assert_eq!(answer.header("ratelimit"), "\"pat\";r=0;t=20", "{path}");
        assert_eq!(answer.header("ratelimit-policy"), "\"pat\";q=3;w=60", "{path}");
    }
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK);
    // What has no rate is not told of one.
    let free = world.token("api").await;
    let answer = world.get("/api/user").bearer(&free).send().await;
    assert!(answer.headers.get("ratelimit").is_none() && answer.headers.get("ratelimit-policy").is_none());
}

#[tokio::test]
async fn a_request_that_is_refused_is_no_use_of_the_token() {
    let world = World::new().await;
    let session = world.browser().await;
    let token = held(&world, &["10.0.0.0/8"], None).await;
    world.get("/api/user").bearer(&token).coming_from(AWAY).send().await;
    let shown = world.get(&path_of(&token)).session(&session).send().await.value();
    assert_eq!(shown["last_used_at"], json!(null));
}

#[tokio::test]
async fn the_page_makes_a_token_with_limits_and_shows_them() {
    let world = World::new().await;
    let session = world.browser().await;
    let form = "pat_name=held&scope=mcp&allowed_networks=10.0.0.0%2F8+192.0.2.7&requests_per_minute=60&expires_if_unused_days=30";
    let made = world.post("/settings/developer").session(&session).form(form).send().await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{made}");
    let listed = world.get(TOKENS).session(&session).send().await.value();
    assert_eq!(listed[0]["allowed_networks"], json!(["10.0.0.0/8", "192.0.2.7/32"]));
    let id = listed[0]["pat_id"].as_str().expect("an id");
    let page = world.get(&format!("/settings/developer/{id}")).session(&session).send().await.to_string();
    for shown in ["10.0.0.0/8", "60 requests per minute", "30 days without use"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let wrong = "pat_name=filled-in&scope=mcp&allowed_networks=office";
    let refused = world.post("/settings/developer").session(&session).form(wrong).send().await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let page = refused.to_string();
    assert!(page.contains("allowed_networks") && page.contains("value=\"office\""), "{page}");
}
