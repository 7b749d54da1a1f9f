//! `/settings/developer/{pat_id}`

use std::time::Duration;

use http::StatusCode;
use trustrelay_authority::{Call, Clock, Issued};
use uuid::Uuid;

use crate::support::{DAY, EVE, World};

fn path(token: &Issued) -> String {
    format!("/settings/developer/{}", token.record.pat_id)
}

fn calls(world: &World, token: &Issued, tool: &str, outcome: &'static str) {
    let call = Call {
        at: world.clock.now(),
        upstream: "github".into(),
        tool: tool.into(),
        outcome: outcome.into(),
        duration: Duration::from_millis(12),
        bytes_in: 10,
        bytes_out: 2000,
    };
    world.authority.note_call(token.record.pat_id, call);
}

#[tokio::test]
async fn the_list_leads_to_a_token_s_details_and_to_what_it_called() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp:github").await);
    world.get("/api/user").bearer(&token).header("user-agent", "agent/7.1").send().await;
    calls(&world, &token, "search", "ok");
    calls(&world, &token, "<script>alert(1)</script>", "forbidden");
    let list = world.get("/settings/developer").session(&session).send().await;
    assert!(list.text.contains(&format!("href=\"{}\"", path(&token))), "{list}");
    let page = world.get(&path(&token)).session(&session).send().await;
    assert_eq!((page.status, page.kind()), (StatusCode::OK, "text/html"));
    for shown in
        ["ci-pipeline", "mcp:github", "192.0.2.7", "agent/7.1", "search", "<svg", "1 failed", "2.0 kB"]
    {
        assert!(page.text.contains(shown), "{shown} in {page}");
    }
    assert!(!page.text.contains("<script>alert"));
    assert!(page.text.contains(&format!("href=\"{}/revoke\"", path(&token))));
}

#[tokio::test]
async fn a_token_that_called_nothing_and_one_that_did_so_long_ago_say_so() {
    let world = World::new().await;
    let (session, token) = (world.browser().await, world.token("mcp").await);
    let empty = world.get(&path(&token)).session(&session).send().await;
    assert!(empty.text.contains("No calls in the last 30 days"), "{empty}");
    calls(&world, &token, "search", "ok");
    world.clock.advance(DAY * 30);
    let late = world.get(&path(&token)).session(&world.browser().await).send().await;
    assert!(late.text.contains("No calls in the last 30 days") && !late.text.contains("search"), "{late}");
}

#[tokio::test]
async fn another_s_token_is_not_there_nor_is_one_that_never_was() {
    let world = World::new().await;
    let (session, hers) = (world.browser().await, world.token_of(EVE, "mcp").await);
    calls(&world, &hers, "search", "ok");
    let unknown = format!("/settings/developer/{}", Uuid::now_v7());
    for path in [&path(&hers), &unknown, "/settings/developer/x"] {
        let answer = world.get(path).session(&session).send().await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::NOT_FOUND, "text/html"), "{path}");
        assert!(!answer.text.contains("search"));
    }
    for odd in ["self", "%ff"] {
        let answer = world.get(&format!("/settings/developer/{odd}")).session(&session).send().await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::BAD_REQUEST, "text/html"), "{odd}");
    }
}

#[tokio::test]
async fn a_stranger_is_sent_to_sign_in_and_back_to_the_token() {
    let world = World::new().await;
    let token = world.token("mcp").await;
    let answer = world.get(&path(&token)).send().await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let next = path(&token).replace('/', "%2F");
    assert_eq!(answer.header("location"), format!("/login?next={next}"));
}
