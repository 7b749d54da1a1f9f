//! An account that is restricted to some upstreams. The others do not exist for it, in lists and in
//! calls, on both endpoints and in both eras.

use serde_json::json;

use crate::kit::{Client, Era, Eras, Fake, http, principal, relay};

const ERAS: [Era; 2] = [Era::Session, Era::Stateless];

#[tokio::test]
async fn to_an_account_that_is_held_to_some_upstreams_the_others_are_as_if_they_were_not_there() {
    let (fake, other) = (Fake::start(Eras::Both).await, Fake::start(Eras::Both).await);
    let relay = relay(vec![http("up", &fake), http("other", &other)]);
    for era in ERAS {
        // The restriction holds regardless of the scopes.
        for scopes in ["mcp", "mcp:up mcp:other", "mcp:up mcp:other/echo"] {
            let mine = principal(scopes);
            mine.upstreams.hold_to(Some(&["up".to_owned()]));
            let client = Client::of(&relay, &mine, None, era).await;
            for list in ["tools/list", "prompts/list"] {
                let names = client.names(list).await;
                assert!(names.iter().any(|name| name.starts_with("up__")), "{list}: {names:?}");
                assert!(!names.iter().any(|name| name.starts_with("other")), "{list}: {names:?}");
            }
            let row = client.ask("tools/call", json!({"name": "trustrelay__upstreams"})).await;
            assert!(row.text.contains("up") && !row.text.contains("other"), "{}", row.text);
            for (method, member) in [("tools/call", "echo"), ("prompts/get", "greet")] {
                let asked = async |upstream: &str| {
                    let answer = client.ask(method, json!({"name": format!("{upstream}__{member}")})).await;
                    (answer.status, answer.last().get("error").cloned())
                };
                let (there, nowhere) = (asked("other").await, asked("nowhere").await);
                assert!(there.1.is_some() && there == nowhere, "{method}: {there:?}, {nowhere:?}");
            }
            let at = async |name: &'static str| {
                let client = Client::silent(&relay, &mine, Some(name), era);
                let answer = client.ask("tools/list", json!({})).await;
                (answer.status, answer.text)
            };
            let (there, nowhere) = (at("other").await, at("nowhere").await);
            assert_eq!((there.0.as_u16(), &there), (404, &nowhere));
        }
    }
    assert!(other.log.all().is_empty(), "{:?}", other.log.bodies());
}

#[tokio::test]
async fn what_is_given_back_is_there_at_once_and_what_is_taken_is_gone_at_once() {
    let fake = Fake::start(Eras::Both).await;
    let relay = relay(vec![http("up", &fake)]);
    for era in ERAS {
        let mine = principal("mcp");
        let client = Client::of(&relay, &mine, None, era).await;
        let (here, sees) = (
            async || client.call("echo", json!({})).await,
            async || client.names("tools/list").await.contains(&"up__echo".to_owned()),
        );
        assert_eq!((here().await.done().as_str(), sees().await), ("done {}", true));
        mine.upstreams.hold_to(Some(&[]));
        assert!(here().await.last().get("error").is_some() && !sees().await);
        mine.upstreams.hold_to(None);
        assert_eq!((here().await.done().as_str(), sees().await), ("done {}", true));
    }
}
