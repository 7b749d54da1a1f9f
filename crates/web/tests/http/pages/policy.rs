//! `/admin/policy`, and what the pages of tokens make of it; without a browser.

use http::StatusCode;
use serde_json::json;

use crate::support::{DAY, EVE, World};

const PATH: &str = "/admin/policy";

#[tokio::test]
async fn a_policy_is_decided_by_a_form_that_comes_back_as_it_is_now() {
    let world = World::new().await;
    let session = world.browser().await;
    let page = world.get(PATH).session(&session).send().await;
    assert!(page.text.contains("name=\"version\" value=\"0\""), "{page}");
    assert!(page.text.contains("href=\"/admin/audit\""), "the way to the audit log");
    let form = "version=0&max_days=90&default_days=30&scope=api%3Aread&scope=mcp%3Agithub&scope_more=mcp%3Awiki%2Fsearch\
                &allowed_networks=10.0.0.0%2F8+2001%3Adb8%3A%3A%2F32";
    let changed = world.post(PATH).session(&session).form(form).send().await;
    let changed = world.follow(&session, &changed).await;
    for holds in [
        "role=\"status\"",
        "name=\"max_days\" value=\"90\"",
        "value=\"mcp:github\" checked",
        "value=\"mcp:wiki/search\"",
        "value=\"10.0.0.0/8 2001:db8::/32\"",
        "Your address is outside the allowed IP ranges",
    ] {
        assert!(changed.text.contains(holds), "{holds} in {changed}");
    }
    let kept = world.get("/api/admin/policy").session(&session).send().await.value();
    assert_eq!(kept["allowed_scopes"], json!(["mcp:github", "mcp:wiki/search", "api:read"]));

    // Loaded again later the page does not say of another's policy that it was decided just now.
    let stale = format!("{PATH}?changed={}", kept["version"].as_u64().expect("a number") - 1);
    assert!(!world.get(&stale).session(&session).send().await.text.contains("role=\"status\""));

    // Somebody who has not seen it begins from what holds by now.
    let stale = world.post(PATH).session(&session).form("version=0&max_days=1").send().await;
    assert_eq!(stale.status, StatusCode::CONFLICT);
    assert!(stale.text.contains("role=\"alert\"") && stale.text.contains("value=\"90\""), "{stale}");
    let wrong = format!("version={}&max_days=many&allowed_networks=office", kept["version"]);
    let wrong = world.post(PATH).session(&session).form(&wrong).send().await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(
        wrong.text.contains("value=\"many\"")
            && wrong.text.contains("Maximum lifetime (days) must be a whole number"),
        "{wrong}"
    );
    assert_eq!(world.get("/api/admin/policy").session(&session).send().await.value(), kept);
    let eve = world.browser_of(EVE).await;
    for refused in [
        world.get(PATH).session(&eve).send().await,
        world.post(PATH).session(&eve).form("max_days=x").send().await,
    ] {
        assert_eq!((refused.status, refused.kind()), (StatusCode::FORBIDDEN, "text/html"));
    }
}

#[tokio::test]
async fn a_form_that_ends_tokens_asks_first_and_says_how_many() {
    let world = World::new().await;
    let session = world.browser().await;
    world.token_of(EVE, "mcp").await;
    world.clock.advance(6 * DAY);
    let asks = world.post(PATH).session(&session).form("version=0&unused_days=5").send().await;
    assert_eq!(asks.status, StatusCode::CONFLICT);
    for holds in [
        "1 active token</strong> has",
        "/admin/tokens?unused_since=2126-04-08T00:00:00Z",
        "Nothing has been changed yet",
        "name=\"ends_tokens\" value=\"1\"",
        "name=\"unused_days\" value=\"5\"",
    ] {
        assert!(asks.text.contains(holds), "{holds} in {asks}");
    }
    let done = world.post(PATH).session(&session).form("version=0&unused_days=5&ends_tokens=1").send().await;
    let done = world.follow(&session, &done).await;
    assert!(
        done.text.contains("1 active token</strong> has not been used for 5 days and will be revoked soon"),
        "{done}"
    );
    let list = world.get("/admin/tokens?unused_since=2126-04-08T00:00:00Z").session(&session).send().await;
    assert!(list.text.contains("ci-pipeline") && list.text.contains(EVE), "the link leads to it: {list}");
}

#[tokio::test]
async fn the_pages_of_tokens_offer_what_the_policy_allows() {
    let world = World::new().await;
    let (session, eve) = (world.browser().await, world.browser_of(EVE).await);
    let token = world.token_of(EVE, "mcp").await;
    let page = world.get("/settings/developer").session(&eve).send().await.text;
    assert!(page.contains("REST API</p>"), "{page}");
    let form = "version=0&max_days=60&default_days=14&scope=mcp%3Agithub&unused_days=45";
    world.follow(&session, &world.post(PATH).session(&session).form(form).send().await).await;
    let page = world.get("/settings/developer").session(&eve).send().await.text;
    assert!(page.contains("value=\"14\" selected") && page.contains("policy: 60 days"), "{page}");
    assert!(
        page.contains("name=\"scope\" value=\"mcp:github\"")
            && !page.contains("name=\"scope\" value=\"mcp\"")
    );
    assert!(!page.contains("REST API</p>"), "of what is not offered there is no heading: {page}");
    // Who asks for more all the same is told why not.
    let form = "pat_name=n&scope=api&expires_in_days=14";
    let refused = world.post("/settings/developer").session(&eve).form(form).send().await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(
        refused.text.contains("role=\"alert\"") && refused.text.contains("does not allow `api`"),
        "{refused}"
    );
    let rotate = format!("/settings/developer/{}/rotate", token.record.pat_id);
    let page = world.get(&rotate).session(&eve).send().await;
    assert!(page.text.contains("limits it to 60 days"), "{page}");
}
