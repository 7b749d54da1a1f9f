//! Unsolicited messages of upstreams: received on one stream for all listeners, and received again
//! after it broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::response::IntoResponse as _;
use http::StatusCode;
use serde_json::json;

use crate::kit::{Client, Era, Eras, Fake, eventually, http, is_quiet, principal, relay};

#[tokio::test]
async fn two_listeners_share_the_one_stream_that_an_upstream_gives_a_session() {
    // Like real servers, the fake refuses a second stream of a session.
    let open = Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    let fake = Fake::gated(Eras::Session, move |seen| {
        let id = seen.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let second = seen.method == "GET" && !open.lock().unwrap().insert(id);
        async move { second.then(|| StatusCode::CONFLICT.into_response()) }
    })
    .await;
    let relay = relay(vec![http("up", &fake)]);
    let mine = principal("mcp");
    let (one, two) = (Client::stateless(&relay, &mine, None), Client::stateless(&relay, &mine, Some("up")));
    let (mut first, mut second) =
        (one.listen(&["test://one"]).await, two.listen(&["test://one", "test://each/2"]).await);
    for heard in [&mut first, &mut second] {
        one.call("touch", json!({"uri": "test://one"})).await;
        assert_eq!(heard.message().await["params"]["uri"], "test://one");
    }
    drop(first);
    fake.log.saw("resources/subscribe").await;
    one.call("touch", json!({"uri": "test://each/2"})).await;
    let mut uri = second.message().await["params"]["uri"].clone();
    while uri == "test://one" {
        uri = second.message().await["params"]["uri"].clone();
    }
    assert_eq!(uri, "test://each/2");
    // The upstream is told that a resource is no longer watched after its last listener left, and
    // not before.
    drop(second);
    fake.log.saw_times("resources/unsubscribe", 2).await;
    let bodies = fake.log.bodies();
    let told = bodies.iter().filter(|body| body.contains("resources/unsubscribe"));
    let told: Vec<_> = told.map(|body| body.contains("test://one")).collect();
    assert_eq!(told, [false, true], "{bodies:#?}");
    is_quiet(&relay).await;
}

#[tokio::test]
async fn list_changes_are_heard_again_after_the_upstreams_stream_broke() {
    for eras in [Eras::Session, Eras::Stateless] {
        let broken = Arc::new(AtomicBool::new(true));
        let streams = Arc::new(AtomicUsize::new(0));
        let (breaks, counts) = (Arc::clone(&broken), Arc::clone(&streams));
        let fake = Fake::gated(eras, move |seen| {
            let is_stream = seen.method == "GET" || seen.body.contains("subscriptions/listen");
            let breaks = is_stream && breaks.load(Ordering::SeqCst);
            if is_stream {
                counts.fetch_add(1, Ordering::SeqCst);
            }
            async move { breaks.then(|| crate::kit::fake::stream(": hello, and good bye\n\n")) }
        })
        .await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Client::of(&relay, &principal("mcp"), None, Era::Stateless).await;
        client.names("tools/list").await;
        let mut heard = client.listen(&[]).await;
        assert!(eventually(|| (streams.load(Ordering::SeqCst) > 0).then_some(())).await.is_some());
        broken.store(false, Ordering::SeqCst);
        fake.log.saw(if eras == Eras::Session { "HEARS" } else { "LISTENS" }).await;
        client.call("grow", json!({})).await;
        assert_eq!(heard.message().await["method"], "notifications/tools/list_changed", "{eras:?}");
        // The relay does not keep reconnecting to an upstream that ends its streams at once.
        assert!(streams.load(Ordering::SeqCst) < 20);
    }
}
