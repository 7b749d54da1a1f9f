//! The share that one token may have of processes and of memory.

use serde_json::json;

use crate::kit::child::is_there;
use crate::kit::{Children, Client, Era, Eras, principal, relay, relay_with};

#[tokio::test]
async fn one_token_takes_a_quarter_of_the_processes_and_leaves_the_rest_to_others() {
    for era in [Era::Session, Era::Stateless] {
        let children = Children::new(Eras::Session).await;
        // The catalogue has a process of its own.
        let relay = relay_with(vec![children.config("up")], |config| config.limits.processes = 8);
        let greedy = principal("mcp");
        let mut held = Vec::new();
        let mut refused = 0;
        for n in 0..16 {
            // Sessions of a token share a process if their clients have the same capabilities.
            let mut client = Client::silent(&relay, &greedy, Some("up"), era);
            client.capabilities = json!({ "sampling": {}, "experimental": { "n": { "n": n } } });
            if era == Era::Session {
                let begun = client.initialize().await;
                let Some(session) = begun.headers().get("mcp-session-id") else {
                    refused += 1;
                    continue;
                };
                client.session = session.to_str().ok().map(str::to_owned);
            }
            if client.call("pid", json!({})).await.done_or_error().is_none() {
                refused += 1;
                continue;
            }
            let waits = format!("w{n}");
            held.push(client.waiting(&waits).await);
            children.log.saw(&format!(r#"WAITS "{waits}""#)).await;
        }
        assert_eq!((held.len(), refused), (2, 14), "{era:?}");
        let there = children.log.started().into_iter().filter(|pid| is_there(*pid)).count();
        assert!(there <= 3, "{there}");
        let other = Client::of(&relay, &principal("mcp"), Some("up"), era).await;
        assert_eq!(other.call("echo", json!({})).await.done(), "done {}", "{era:?}");
    }
}

#[tokio::test]
async fn idle_sessions_of_a_token_make_room_for_its_own_new_ones() {
    let children = Children::new(Eras::Session).await;
    let relay = relay_with(vec![children.config("up")], |config| config.limits.processes = 8);
    let mine = principal("mcp");
    for n in 0..6 {
        let mut client = Client::stateless(&relay, &mine, None);
        client.capabilities = json!({ "experimental": { "n": { "n": n } } });
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
    }
}

#[tokio::test]
async fn subscriptions_of_a_session_are_bounded_in_number_and_in_bytes() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let mine = principal("mcp");
    let client = Client::new(&relay, &mine, Some("up")).await;
    let subscribe = async |client: &Client, uri: String| {
        client.ask("resources/subscribe", json!({ "uri": uri })).await.last()
    };
    let long = subscribe(&client, format!("test://{}", "x".repeat(4090))).await;
    assert_eq!(long["error"]["code"], -32602, "{long}");
    let uri = |n: u32| format!("test://{n:05}/{}", "x".repeat(4000));
    let mut taken = 0;
    let refused = loop {
        let answer = subscribe(&client, uri(taken)).await;
        if answer["result"] != json!({}) {
            break answer;
        }
        taken += 1;
    };
    assert_eq!(taken, 65, "of 4,013 bytes each, 256 KiB in all");
    assert!(refused.to_string().contains("reached its subscription limit"), "{refused}");
    // Subscribing again needs no more space, and unsubscribing frees it.
    assert_eq!(subscribe(&client, uri(0)).await["result"], json!({}));
    let unsubscribed = client.ask("resources/unsubscribe", json!({ "uri": uri(0) })).await.last();
    assert_eq!(unsubscribed["result"], json!({}), "{unsubscribed}");
    assert_eq!(subscribe(&client, uri(taken)).await["result"], json!({}));
    // The limit applies to each session separately.
    let another = Client::new(&relay, &mine, Some("up")).await;
    assert_eq!(subscribe(&another, uri(taken + 1)).await["result"], json!({}));
}

#[tokio::test]
async fn long_capabilities_are_refused_and_say_by_how_much() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let mine = principal("mcp");
    for era in [Era::Session, Era::Stateless] {
        let mut client = Client::silent(&relay, &mine, None, era);
        client.capabilities = json!({ "experimental": { "x": { "x": "x".repeat(4096) } } });
        let answer = match era {
            Era::Session => crate::kit::Live::of(client.initialize().await).whole().await,
            Era::Stateless => client.call("echo", json!({})).await,
        };
        assert_eq!(answer.code(), -32602, "{era:?} {answer:?}");
        assert!(answer.text.contains("longer than 4096 bytes"), "{}", answer.text);
    }
}
