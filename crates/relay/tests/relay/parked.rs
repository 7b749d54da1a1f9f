//! Calls that wait for the input of a stateless client: the clients that may answer them, and the
//! end of the wait.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Client, Eras, Fake, Kept, eventually, http, is_quiet, principal, relay, relay_with};

const QUESTION: &str = "elicitation/create";

fn asking(tag: &str) -> Value {
    json!({"method": QUESTION, "params": {"message": "?"}, "tag": tag})
}

/// Starts a call that asks a question. Returns the state that the answer must contain.
async fn parked(client: &Client, tag: &str) -> Value {
    let asked = client.call("ask", asking(tag)).await.last();
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    asked["result"]["requestState"].clone()
}

fn retry(client: &Client, tool: &str, state: &Value) -> Value {
    json!({"name": client.tool(tool), "arguments": asking("t"), "requestState": state,
        "inputResponses": {"input": {"action": "accept"}}})
}

async fn world() -> (Fake, trustrelay_relay::Relay) {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake), http("other", &fake)]);
    (fake, relay)
}

#[tokio::test]
async fn a_state_is_good_once_and_for_its_own_token_and_tool_alone() {
    let (fake, relay) = world().await;
    for at in [None, Some("up")] {
        let mine = principal("mcp");
        let client = Client::stateless(&relay, &mine, at);
        let state = parked(&client, "t").await;
        let theirs = Client::stateless(&relay, &principal("mcp"), at);
        assert_eq!(theirs.ask("tools/call", retry(&theirs, "ask", &state)).await.code(), -32602);
        assert_eq!(client.ask("tools/call", retry(&client, "echo", &state)).await.code(), -32602);
        let elsewhere = Client::stateless(&relay, &mine, Some("other"));
        assert_eq!(elsewhere.ask("tools/call", retry(&elsewhere, "ask", &state)).await.code(), -32602);
        let answered = client.ask("tools/call", retry(&client, "ask", &state)).await;
        assert_eq!(answered.done(), r#"answered {"action":"accept"}"#);
        assert_eq!(client.ask("tools/call", retry(&client, "ask", &state)).await.code(), -32602);
        is_quiet(&relay).await;
    }
    // Two of all these calls reached the upstream.
    assert_eq!(fake.log.times("tools/call"), 2);
}

#[tokio::test]
async fn a_state_that_the_relay_did_not_make_begins_no_call_of_an_upstream_with_sessions() {
    let (fake, relay) = world().await;
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let good = parked(&client, "t").await;
    let sealed = good.as_str().unwrap();
    let altered = format!("{}{}", if sealed.starts_with('A') { 'B' } else { 'A' }, &sealed[1..]);
    for state in [json!("forged"), json!(""), json!(altered), json!(7), json!(null), json!({"a": 1})] {
        assert_eq!(client.ask("tools/call", retry(&client, "ask", &state)).await.code(), -32602, "{state}");
    }
    assert_eq!(fake.log.times("tools/call"), 1);
    // Without a state it is a new call, which asks its question again.
    let mut without = retry(&client, "ask", &good);
    without.as_object_mut().unwrap().remove("requestState");
    let asked = client.ask("tools/call", without).await.last();
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    assert_eq!(fake.log.times("tools/call"), 2);
}

#[tokio::test]
async fn a_retry_without_the_answer_is_asked_again() {
    let (_fake, relay) = world().await;
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let mut state = parked(&client, "t").await;
    for responses in [json!({}), json!({"another": {}}), json!(null), json!("none")] {
        let mut again = retry(&client, "ask", &state);
        again["inputResponses"] = responses;
        let asked = client.ask("tools/call", again).await.last();
        assert_eq!(asked["result"]["inputRequests"]["input"]["method"], QUESTION, "{asked}");
        assert_ne!(asked["result"]["requestState"], state);
        state = asked["result"]["requestState"].clone();
    }
    assert_eq!(
        client.ask("tools/call", retry(&client, "ask", &state)).await.done(),
        r#"answered {"action":"accept"}"#
    );
}

#[tokio::test]
async fn what_follows_an_answer_comes_under_the_retrys_own_id_and_progress_token() {
    let (_fake, relay) = world().await;
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let mut arguments = asking("t");
    arguments["then"] = json!("progress");
    let first =
        json!({"name": client.tool("ask"), "arguments": arguments, "_meta": {"progressToken": "first"}});
    let state = client.ask("tools/call", first.clone()).await.last()["result"]["requestState"].clone();
    let mut again = retry(&client, "ask", &state);
    again["_meta"] = json!({"progressToken": "second"});
    let answer = client.ask("tools/call", again).await;
    assert_eq!(answer.messages[0]["params"]["progressToken"], "second", "{}", answer.text);
    assert_eq!(answer.last()["id"], 8);
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_given_up_and_the_upstream_told() {
    let fake = Fake::start(Eras::Session).await;
    let relay =
        relay_with(vec![http("up", &fake)], |config| config.limits.input = Duration::from_millis(100));
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let state = parked(&client, "t").await;
    fake.log.saw("notifications/cancelled").await;
    fake.log.saw(r#"GONE "t""#).await;
    is_quiet(&relay).await;
    assert_eq!(client.ask("tools/call", retry(&client, "ask", &state)).await.code(), -32602);
}

#[tokio::test]
async fn a_revocation_cancels_what_waits_and_no_answer_revives_it() {
    let (fake, relay) = world().await;
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let other = Client::stateless(&relay, &principal("mcp"), None);
    let state = parked(&client, "mine").await;
    let others = parked(&other, "others").await;
    assert_eq!(client.revoke().calls, 1);
    fake.log.saw(r#"GONE "mine""#).await;
    assert_eq!(client.ask("tools/call", retry(&client, "ask", &state)).await.status, 401);
    assert!(!fake.log.has(r#"GONE "others""#));
    assert!(other.ask("tools/call", retry(&other, "ask", &others)).await.done().starts_with("answered"));
    is_quiet(&relay).await;
}

#[tokio::test]
async fn calls_that_wait_are_bounded_for_each_token() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay_with(vec![http("up", &fake)], |config| config.limits.parked_per_token = 2);
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let state = parked(&client, "one").await;
    parked(&client, "two").await;
    let third = client.call("ask", asking("three")).await;
    assert!(third.text.contains("too many calls of this token are waiting"), "{}", third.text);
    fake.log.saw(r#"GONE "three""#).await;
    parked(&Client::stateless(&relay, &principal("mcp"), None), "others").await;
    assert!(client.ask("tools/call", retry(&client, "ask", &state)).await.done().starts_with("answered"));
    parked(&client, "four").await;
}

#[tokio::test]
async fn a_state_is_of_no_use_after_a_restart() {
    let fake = Fake::start(Eras::Session).await;
    let keyed = || relay_with(vec![http("up", &fake)], |config| config.seal_keys = vec![[1; 32]]);
    let mut client = Client::stateless(&keyed(), &principal("mcp"), None);
    let state = parked(&client, "t").await;
    client.relay = keyed();
    let refused = client.ask("tools/call", retry(&client, "ask", &state)).await;
    assert!(refused.text.contains("call again"), "{}", refused.text);
    // A session id is not a valid state, and a state is not a valid session id.
    let session = Client::new(&client.relay, &client.principal, None).await;
    let as_state = json!(session.session.clone().unwrap());
    assert_eq!(client.ask("tools/call", retry(&client, "ask", &as_state)).await.code(), -32602);
    let mut stolen = Client::silent(&client.relay, &client.principal, None, crate::kit::Era::Session);
    stolen.session = state.as_str().map(str::to_owned);
    assert_eq!(stolen.ask("ping", json!({})).await.status, 404);
}

#[tokio::test]
async fn a_stateless_upstreams_question_that_a_session_client_never_answers_ends_with_an_error() {
    let fake = Fake::start(Eras::Stateless).await;
    let kept = std::sync::Arc::new(Kept::default());
    let recorder: std::sync::Arc<dyn trustrelay_relay::Recorder> = kept.clone();
    let relay = relay_with(vec![http("up", &fake)], |config| {
        config.limits.input = Duration::from_millis(100);
        config.recorder = Some(recorder);
    });
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let answer = client.call("ask", asking("t")).await;
    assert_eq!(answer.code(), -32603, "{}", answer.text);
    assert_eq!(kept.outcome("ask").await, "error");
    // A late answer that nobody waits for is refused. "Accepted" would mislead the client.
    assert_eq!(client.respond(&answer.messages[0]["id"], "result", json!({})).await, 400);
    assert!(eventually(|| (relay.open().calls == 0).then_some(())).await.is_some());
}
