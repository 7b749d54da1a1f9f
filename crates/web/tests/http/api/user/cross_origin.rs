//! Changes that another site makes a browser send.

use http::StatusCode;
use serde_json::json;

use crate::support::{Call, Setting, World};

const TOKENS: &str = "/api/user/personal-access-tokens";

/// Ada's browser, about to make a token.
async fn change(world: &World) -> Call<'_> {
    let session = world.browser().await;
    world.post(TOKENS).session(&session).json(json!({ "pat_name": "n", "pat_scope": "mcp" }))
}

#[tokio::test]
async fn browsers_say_where_a_change_comes_from_and_only_ours_is_made() {
    let world = World::new().await;
    for site in ["same-origin", "none"] {
        let answer = change(&world).await.header("sec-fetch-site", site).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{site}");
    }
    for site in ["cross-site", "same-site", "", "Same-Origin", "same-origin, cross-site"] {
        let answer = change(&world).await.header("sec-fetch-site", site).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{site}");
    }
    let answer = change(&world).await.header("sec-fetch-site", "cross-site").send().await;
    insta::assert_snapshot!(answer, @r#"
    403 Forbidden
    {
      "error": {
        "code": "cross_origin",
        "message": "this request came from another site, and browser sessions accept requests from their own site only; use a token (if this is the right site, correct the server's --public-url)"
      }
    }
    "#);
}

#[tokio::test]
async fn an_older_browser_says_its_origin() {
    let world = World::new().await;
    for ours in ["http://relay.example", "http://RELAY.example"] {
        let answer = change(&world).await.header("origin", ours).send().await;
        assert_eq!(answer.status, StatusCode::CREATED, "{ours}");
    }
    for theirs in [
        "https://evil.example",
        // Served by plain HTTP, so that is the whole origin.
        "https://relay.example",
        "null",
        "",
        "relay.example",
        "https://relay.example.evil.example",
        "https://relay.example:8443",
        "https://evil.example/?://relay.example",
        "é",
    ] {
        let answer = change(&world).await.header("origin", theirs).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{theirs}");
    }
}

#[tokio::test]
async fn what_the_browser_says_of_the_site_outweighs_the_origin() {
    let world = World::new().await;
    let answer = change(&world)
        .await
        .header("sec-fetch-site", "cross-site")
        .header("origin", "http://relay.example")
        .send()
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn behind_a_proxy_the_public_address_is_ours_too() {
    let setting = Setting { public_url: Some("https://relay.example.org/"), ..Setting::default() };
    let world = World::with(setting).await;
    // The proxy asks by a name of its own.
    let behind = "127.0.0.1:8080";
    let answer = change(&world).await.host(behind).header("origin", "https://relay.example.org").send().await;
    assert_eq!(answer.status, StatusCode::CREATED);
    for theirs in ["http://relay.example.org", "https://relay.example.org:444", "https://evil.example"] {
        let answer = change(&world).await.host(behind).header("origin", theirs).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{theirs}");
    }
}

/// Whoever is on the network can write a page of `http://relay.example.org`.
#[tokio::test]
async fn plain_http_of_the_public_host_is_another_origin() {
    let setting = Setting { public_url: Some("https://relay.example.org/"), ..Setting::default() };
    let world = World::with(setting).await;
    let host = "relay.example.org";
    for theirs in ["http://relay.example.org", "http://RELAY.example.org"] {
        let answer = change(&world).await.host(host).header("origin", theirs).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{theirs}");
    }
    let ours = change(&world).await.host(host).header("origin", "https://relay.example.org").send().await;
    assert_eq!(ours.status, StatusCode::CREATED, "{ours}");
}

#[tokio::test]
async fn without_a_public_address_a_proxy_that_changes_the_host_is_named_in_the_refusal() {
    let world = World::new().await;
    let answer = change(&world).await.host("127.0.0.1:8080").header("origin", "https://relay.example.org");
    let answer = answer.send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text.contains("--public-url"), "{answer}");
}

#[tokio::test]
async fn in_http_2_the_host_is_in_the_address() {
    let world = World::new().await;
    let session = world.browser().await;
    for (host, status) in [("relay.example", StatusCode::CREATED), ("other.example", StatusCode::FORBIDDEN)] {
        let answer = world
            .post(&format!("https://{host}{TOKENS}"))
            .without_host()
            .session(&session)
            .header("origin", "https://relay.example")
            .json(json!({ "pat_name": "n", "pat_scope": "mcp" }))
            .send()
            .await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn what_is_no_browser_says_neither_and_is_served() {
    let world = World::new().await;
    assert_eq!(change(&world).await.send().await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn reading_is_not_changing() {
    let world = World::new().await;
    let session = world.browser().await;
    for method in ["GET", "HEAD"] {
        let answer = world.call(method, TOKENS).session(&session).header("sec-fetch-site", "cross-site");
        assert_eq!(answer.send().await.status, StatusCode::OK, "{method}");
    }
}

#[tokio::test]
async fn every_change_with_a_cookie_is_held_to_it() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let one = format!("{TOKENS}/{}", token.record.pat_id);
    for (method, path) in [
        ("POST", "/api/auth/login"),
        ("POST", "/api/auth/logout"),
        ("POST", "/api/auth/verify"),
        ("POST", TOKENS),
        ("DELETE", &one),
    ] {
        let call = world.call(method, path).session(&session).header("sec-fetch-site", "cross-site");
        let answer = call.json("{}").send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(answer.json()["error"]["code"], "cross_origin");
    }
    assert_eq!(world.get("/api/user").bearer(&token).send().await.status, StatusCode::OK, "it stands");
}

#[tokio::test]
async fn a_token_comes_from_no_site() {
    let world = World::new().await;
    let token = world.token("tokens mcp").await;
    let answer = world
        .post(TOKENS)
        .bearer(&token)
        .header("sec-fetch-site", "cross-site")
        .header("origin", "https://evil.example")
        .json(json!({ "pat_name": "n", "pat_scope": "mcp" }))
        .send()
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "no browser adds an Authorization header by itself");
}
