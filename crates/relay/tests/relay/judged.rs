//! The relay judges exactly what it sends: nothing reaches an upstream that another reader would take for something else.

use serde_json::json;

use crate::kit::{Client, Era, Eras, Place, Transport};

/// What the upstream has been sent that has this in it.
fn sent(bodies: &[String], what: &str) -> usize {
    bodies.iter().filter(|body| body.contains(what)).count()
}

#[tokio::test]
async fn a_request_without_an_id_is_refused_everywhere() {
    for place in Place::all() {
        let world = place.begin().await;
        let client = &world.client;
        for method in [
            "tools/call",
            "vendor/exec",
            "resources/subscribe",
            "initialize",
            "notifications/message",
            "",
            "x",
        ] {
            let params =
                json!({"name": client.tool("echo"), "uri": "test://one", "arguments": {"tag": "idless"}});
            let full: serde_json::Value =
                serde_json::from_str(&client.message(&json!(1), method, &params)).unwrap();
            let mut without = full.clone();
            without.as_object_mut().unwrap().remove("id");
            let mut null = full;
            null["id"] = json!(null);
            for body in [without, null] {
                assert_eq!(client.post(&body.to_string()).await.status(), 400, "{place:?} {body}");
            }
        }
        // The upstream answers this one last, so it has had whatever came before.
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
        assert_eq!(sent(&world.log.bodies(), "idless"), 0, "{place:?}");
    }
}

#[tokio::test]
async fn a_narrow_scope_does_not_call_by_leaving_the_id_out() {
    for transport in [Transport::Http, Transport::Stdio] {
        for at in [None, Some("up")] {
            let place = Place { client: Era::Session, upstream: Eras::Session, transport, at };
            let world = place.begin().await;
            for scope in ["mcp:up/echo", "mcp:read"] {
                let client = Client::new(&world.relay, &crate::kit::principal(scope), at).await;
                let params = json!({"name": client.tool("poke"), "arguments": {"tag": "idless"}});
                assert_eq!(client.note("tools/call", params).await, 400, "{scope}");
            }
            assert_eq!(world.client.call("echo", json!({})).await.done(), "done {}");
            assert_eq!(sent(&world.log.bodies(), "idless"), 0);
            assert_eq!(world.kept.all().iter().filter(|call| call.tool == "poke").count(), 0);
        }
    }
}

#[tokio::test]
async fn notifications_that_a_client_may_send_are_accepted() {
    for place in Place::all() {
        let world = place.begin().await;
        for method in ["initialized", "cancelled", "progress", "roots/list_changed", "tasks/status"] {
            let params = json!({"requestId": "none", "progressToken": "none", "progress": 1});
            let status = world.client.note(&format!("notifications/{method}"), params).await;
            assert_eq!(status, 202, "{place:?} {method}");
        }
    }
}
