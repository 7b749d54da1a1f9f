//! Behind proxies: a request comes from whom a trusted one names, and from nobody else's say-so.

use http::StatusCode;
use serde_json::json;
use trustrelay_authority::{Issued, PatRef};
use trustrelay_web::{ProxyHeader, TrustedProxies};

use crate::support::{ADA, Answer, Call, EVE, PASSWORD, Setting, World};

const BALANCER: &str = "10.0.0.5";

async fn world_behind(header: ProxyHeader) -> World {
    let networks = vec!["10.0.0.0/24".parse().expect("a network")];
    World::with(Setting { proxies: TrustedProxies { networks, header }, ..Setting::default() }).await
}

/// Where a token was last used from.
async fn last_used_from(world: &World, token: &Issued, session: &str) -> String {
    let principal = world.authority.authenticate_session(session).await.expect("asked").expect("signed in");
    let activity = world.authority.activity(&principal, PatRef::Id(token.record.pat_id)).await.expect("seen");
    activity.address.map_or_else(|| "nowhere".to_owned(), |address| address.to_string())
}

async fn guess(call: Call<'_>, email: &str) -> Answer {
    call.json(json!({ "email": email, "password": "a wrong password" })).send().await
}

#[tokio::test]
async fn a_tokens_last_use_is_its_clients_over_rest_and_mcp() {
    for (header, name, value) in [
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "198.51.100.1, 203.0.113.9"),
        (ProxyHeader::Forwarded, "forwarded", "for=198.51.100.1, for=\"203.0.113.9:4711\""),
    ] {
        let world = world_behind(header).await;
        let session = world.browser().await;
        let (rest, mcp) = (world.token("api:read").await, world.token("mcp").await);
        world.get("/api/user").bearer(&rest).coming_from(BALANCER).header(name, value).send().await;
        world.post("/mcp").bearer(&mcp).coming_from(BALANCER).header(name, value).send().await;
        for token in [&rest, &mcp] {
            assert_eq!(last_used_from(&world, token, &session).await, "203.0.113.9");
        }
    }
}

#[tokio::test]
async fn nobody_is_believed_who_is_no_trusted_proxy() {
    let world = world_behind(ProxyHeader::XForwardedFor).await;
    let session = world.browser().await;
    let token = world.token("api:read").await;
    for (peer, is) in [("10.0.1.5", "10.0.1.5"), ("203.0.113.1", "203.0.113.1"), (BALANCER, "203.0.113.9")] {
        let ask = world.get("/api/user").bearer(&token).coming_from(peer);
        ask.header("x-forwarded-for", "203.0.113.9").header("forwarded", "for=10.0.0.9").send().await;
        assert_eq!(last_used_from(&world, &token, &session).await, is);
    }
    // And who was not told of any proxy believes none.
    let world = World::new().await;
    let session = world.browser().await;
    let token = world.token("api:read").await;
    let ask = world.get("/api/user").bearer(&token).coming_from(BALANCER);
    ask.header("x-forwarded-for", "203.0.113.9").send().await;
    assert_eq!(last_used_from(&world, &token, &session).await, BALANCER);
}

#[tokio::test]
async fn sign_ins_are_counted_by_client_and_not_by_proxy() {
    let world = world_behind(ProxyHeader::XForwardedFor).await;
    let from =
        |client: &str| world.post("/api/auth/login").coming_from(BALANCER).header("x-forwarded-for", client);
    for _ in 0..5 {
        assert_eq!(guess(from("203.0.113.9"), ADA).await.status, StatusCode::UNAUTHORIZED);
    }
    // Writing more into the header does not make a new client of it.
    for lie in ["203.0.113.9", "198.51.100.1, 203.0.113.9", "203.0.113.9:4711", "unknown,203.0.113.9"] {
        assert_eq!(guess(from(lie), ADA).await.status, StatusCode::TOO_MANY_REQUESTS, "{lie}");
    }
    let body = json!({ "email": ADA, "password": PASSWORD });
    assert_eq!(
        from("203.0.113.10").json(&body).send().await.status,
        StatusCode::OK,
        "a neighbour is not held back"
    );
}

#[tokio::test]
async fn who_writes_the_header_from_elsewhere_is_counted_as_himself() {
    let world = world_behind(ProxyHeader::XForwardedFor).await;
    for attempt in 0..6 {
        let lying = world.post("/api/auth/login").coming_from("203.0.113.1");
        let answer = guess(lying.header("x-forwarded-for", &format!("198.51.100.{attempt}")), EVE).await;
        let expected = if attempt < 5 { StatusCode::UNAUTHORIZED } else { StatusCode::TOO_MANY_REQUESTS };
        assert_eq!(answer.status, expected, "{attempt}");
    }
}

#[tokio::test]
async fn nobody_but_a_node_can_say_whom_a_request_was_carried_for() {
    let world = world_behind(ProxyHeader::XForwardedFor).await;
    let session = world.browser().await;
    let token = world.token("mcp").await;
    let ask = world.post("/mcp").bearer(&token).coming_from("203.0.113.1");
    let claim = "1800000000 known 10.0.0.9 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    ask.header("trustrelay-carried", claim).send().await;
    assert_eq!(last_used_from(&world, &token, &session).await, "203.0.113.1");
}
