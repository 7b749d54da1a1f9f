//! Upstreams that are commands: started on demand, ended without leftovers, and isolated from each
//! other.

use std::time::{Duration, Instant};

use serde_json::json;
use trustrelay_relay::{UpstreamConfig, UpstreamTransport};

use crate::kit::child::{is_gone, is_there};
use crate::kit::{Children, Client, Era, Eras, eventually, is_quiet, principal, relay, relay_with};

async fn pid(client: &Client) -> u32 {
    client.call("pid", json!({})).await.done().parse().unwrap()
}

#[tokio::test]
async fn a_command_is_started_when_it_is_needed_and_not_before() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    assert_eq!(client.ask("ping", json!({})).await.status, 200);
    assert!(children.log.started().is_empty());
    let pid = pid(&client).await;
    assert!(is_there(pid) && children.log.started().contains(&pid));
}

#[tokio::test]
async fn a_shutdown_leaves_no_process_behind_not_even_a_childs_child() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    client.names("tools/list").await;
    let grandchild: u32 = client.call("grandchild", json!({})).await.done().parse().unwrap();
    assert!(is_there(grandchild));
    relay.shutdown().await;
    for pid in children.log.started().into_iter().chain([grandchild]) {
        is_gone(pid).await;
    }
}

#[test]
fn a_runtime_that_just_ends_leaves_no_process_behind_either() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (pid, grandchild) = runtime.block_on(async {
        let children = Children::new(Eras::Session).await;
        let relay = relay(vec![children.config("up")]);
        let client = Client::new(&relay, &principal("mcp"), None).await;
        (pid(&client).await, client.call("grandchild", json!({})).await.done().parse().unwrap())
    });
    assert!(is_there(pid) && is_there(grandchild));
    runtime.shutdown_timeout(Duration::from_secs(5));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        is_gone(pid).await;
        is_gone(grandchild).await;
    });
}

#[tokio::test]
async fn a_crash_fails_the_calls_in_flight_at_once_and_the_next_call_has_a_new_process() {
    for (era, eras) in
        [(Era::Session, Eras::Session), (Era::Stateless, Eras::Stateless), (Era::Stateless, Eras::Session)]
    {
        let children = Children::new(eras).await;
        let relay = relay(vec![children.config("up")]);
        let client = Client::of(&relay, &principal("mcp"), None, era).await;
        let (first, grandchild) = (pid(&client).await, client.call("grandchild", json!({})).await.done());
        let waiting = client.waiting("w").await;
        let crashed = client.call("crash", json!({})).await;
        assert!(crashed.text.contains("`up` is down"), "{}", crashed.text);
        assert!(waiting.whole().await.text.contains("`up` is down"));
        is_gone(grandchild.parse().unwrap()).await;
        let second = pid(&client).await;
        assert_ne!(first, second);
        assert!(is_there(second));
    }
}

#[tokio::test]
async fn a_command_that_keeps_failing_is_not_started_again_and_again() {
    let children = Children::in_mood(Eras::Session, "dies").await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let begun = Instant::now();
    for _ in 0..50 {
        assert!(client.call("echo", json!({})).await.text.contains("`up` is down"));
    }
    // Between two starts there are 200 ms, 400 ms, 800 ms and so on. Each call may need two starts,
    // one per era.
    let most = 4 + 2 * (1.0 + begun.elapsed().as_secs_f64() / 0.2).log2().ceil() as usize;
    let started = children.log.started().len();
    assert!((1..=most).contains(&started), "{started} of {most}");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_an_upstream_that_is_down() {
    let transport =
        UpstreamTransport::Stdio { command: vec!["/no/such/secret-program".into()], env: vec![], cwd: None };
    let relay = relay(vec![UpstreamConfig { name: "up".parse().unwrap(), transport }]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let answer = client.call("echo", json!({})).await;
    assert!(
        answer.text.contains("`up` is down") && !answer.text.contains("secret-program"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn what_a_child_wrote_before_it_ended_still_arrives() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    for _ in 0..5 {
        let answered = eventually_answered(&client).await;
        assert_eq!(answered, r#"done {"last":true}"#);
    }
}

/// Returns the answer to a call after which the child ends. Retries until the child may be started
/// again.
async fn eventually_answered(client: &Client) -> String {
    for _ in 0..2000 {
        let answer = client.call("echo", json!({"last": true})).await;
        let started_again_later = answer.text.contains("is down");
        if !started_again_later {
            return answer.done();
        }
        assert!(!client.relay.upstreams().is_empty());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never answered");
}

#[tokio::test]
async fn a_child_that_closes_its_output_is_ended_and_its_calls_fail() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let first = pid(&client).await;
    let waiting = client.waiting("w").await;
    assert!(client.call("mute", json!({})).await.text.contains("`up` is down"));
    assert!(waiting.whole().await.text.contains("`up` is down"));
    is_gone(first).await;
    assert_ne!(pid(&client).await, first);
}

#[tokio::test]
async fn a_child_that_does_not_end_by_itself_is_made_to() {
    let children = Children::in_mood(Eras::Session, "stubborn").await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let pid = pid(&client).await;
    client.revoke();
    is_gone(pid).await;
    is_quiet(&relay).await;
}

#[tokio::test]
async fn noise_on_a_childs_output_is_left_out() {
    for eras in [Eras::Session, Eras::Stateless] {
        let children = Children::in_mood(eras, "noisy").await;
        let relay = relay(vec![children.config("up")]);
        for era in [Era::Session, Era::Stateless] {
            let client = Client::of(&relay, &principal("mcp"), Some("up"), era).await;
            let answer = client.call("progress", json!({"tag": "t"})).await;
            assert!(answer.text.contains("done") && !answer.text.contains("nonsense"), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_line_that_never_ends_costs_time_and_no_memory() {
    let children = Children::in_mood(Eras::Session, "endless line").await;
    let relay = relay_with(vec![children.config("up")], |config| {
        config.limits.answer = 64 << 10;
        config.limits.start = Duration::from_millis(700);
    });
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let before = resident_bytes();
    let answer = client.call("echo", json!({})).await;
    assert_eq!(answer.code(), -32000, "{}", answer.text);
    assert!(resident_bytes().saturating_sub(before) < 64 << 20);
    relay.shutdown().await;
    for pid in children.log.started() {
        is_gone(pid).await;
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn the_relays_own_environment_stays_its_own() {
    // This process's environment has many variables that a child must not see, such as Cargo's.
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let names = client.call("env", json!({})).await.done();
    let known = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TERM", "TMPDIR"];
    for name in names.split(' ') {
        assert!(known.contains(&name) || name.starts_with("PEER_"), "{name}");
    }
    assert!(names.contains("PEER_REPORT"));
}

#[tokio::test]
async fn one_tokens_child_is_not_anothers_in_the_session_era_and_everybodys_in_the_stateless() {
    for (eras, shared) in [(Eras::Session, false), (Eras::Stateless, true)] {
        let children = Children::new(eras).await;
        let relay = relay(vec![children.config("up")]);
        let mine = principal("mcp");
        for era in [Era::Session, Era::Stateless] {
            let one = Client::of(&relay, &mine, None, era).await;
            let same = Client::of(&relay, &mine, Some("up"), era).await;
            let other = Client::of(&relay, &principal("mcp"), None, era).await;
            let first = pid(&one).await;
            assert_eq!(first, pid(&same).await, "{eras:?} {era:?}");
            assert_eq!(first == pid(&other).await, shared, "{eras:?} {era:?}");
            // A session declares its client's capabilities once, so a client with other
            // capabilities has another session.
            let mut able = Client::silent(&relay, &mine, None, era);
            able.capabilities = json!({"roots": {"listChanged": true}});
            if era == Era::Session {
                able.begin().await;
            }
            assert_eq!(first == pid(&able).await, shared, "{eras:?} {era:?}");
        }
    }
}

#[tokio::test]
async fn processes_are_bounded_and_an_idle_one_makes_room() {
    let children = Children::new(Eras::Session).await;
    let relay = relay_with(vec![children.config("up")], |config| config.limits.processes = 2);
    let tokens: Vec<_> = (0..4).map(|_| Client::stateless(&relay, &principal("mcp"), None)).collect();
    // The catalogue uses one of the processes.
    tokens[0].names("tools/list").await;
    for client in &tokens {
        let answer = client.call("echo", json!({})).await;
        assert_eq!(answer.done(), "done {}");
    }
    let busy = tokens[0].waiting("w").await;
    children.log.saw(r#"WAITS "w""#).await;
    let refused = tokens[1].call("echo", json!({})).await;
    assert!(refused.text.contains("reached its process limit"), "{}", refused.text);
    let there = children.log.started().into_iter().filter(|pid| is_there(*pid)).count();
    assert!(there <= 2, "{there}");
    drop(busy);
}

#[tokio::test]
async fn a_command_that_dies_of_or_is_silent_to_what_it_does_not_know_serves_stateless_clients_too() {
    for mood in ["dies of what it does not know", "silent to what it does not know"] {
        let children = Children::in_mood(Eras::Session, mood).await;
        let relay = relay_with(vec![children.config("up")], |config| {
            config.limits.start = Duration::from_millis(1500);
        });
        let client = Client::stateless(&relay, &principal("mcp"), None);
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{mood}");
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{mood}");
    }
}

#[tokio::test]
async fn a_childs_errors_go_to_the_log_and_not_to_the_client() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), Some("up")).await;
    let heard = client.listen(&[]).await;
    let (logged, guard) = crate::kit::logged();
    let answer = client.call("complain", json!({"text": "a secret of the child's"})).await;
    assert_eq!(answer.done(), "complained");
    let line = eventually(|| logged.lock().unwrap().contains("a secret of the child's").then_some(())).await;
    assert!(line.is_some() && logged.lock().unwrap().contains("upstream=up"));
    drop(guard);
    client.revoke();
    assert!(!heard.whole().await.text.contains("secret"));
}

#[tokio::test]
async fn a_command_of_both_eras_lists_what_its_one_stateless_process_has_once_it_runs() {
    let children = Children::new(Eras::Both).await;
    let relay = relay(vec![children.config("up")]);
    let mine = principal("mcp");
    let session = Client::new(&relay, &mine, None).await;
    session.names("tools/list").await;
    let [first] = children.log.started()[..] else { panic!("{:?}", children.log.started()) };
    // A command whose era is known is not probed for the other era.
    assert!(!children.log.has("server/discover"));

    let stateless = Client::stateless(&relay, &mine, None);
    let shared = pid(&stateless).await;
    is_gone(first).await;
    children.log.saw("LISTENS").await;
    let mut heard = stateless.listen(&[]).await;
    stateless.call("grow", json!({})).await;
    assert_eq!(heard.message().await["method"], "notifications/tools/list_changed");
    assert!(session.names("tools/list").await.contains(&"up__grown0".to_owned()));
    // The calls of a session use a process of their own, as before.
    let own = pid(&session).await;
    assert!(own != shared && is_there(own) && is_there(shared));

    // A new process takes its place for the lists and their changes.
    stateless.call("crash", json!({})).await;
    let again = pid(&stateless).await;
    assert_ne!(again, shared);
    // The growth may have been announced twice.
    while stateless.names("tools/list").await.contains(&"up__grown0".to_owned()) {
        assert_eq!(heard.message().await["method"], "notifications/tools/list_changed");
    }
    relay.shutdown().await;
    for pid in children.log.started() {
        is_gone(pid).await;
    }
}

/// No JSON reader gets the id out of such a line. Its call must not wait for ever.
#[tokio::test]
async fn an_answer_that_cannot_be_used_fails_its_call_at_once() {
    let long = format!(r#""result":{{"text":"{}"}}"#, "x".repeat(150_000));
    for eras in [Eras::Session, Eras::Stateless] {
        let children = Children::new(eras).await;
        let relay = relay_with(vec![children.config("up")], |config| config.limits.answer = 100_000);
        for era in [Era::Session, Era::Stateless] {
            let mine = principal("mcp");
            let client = Client::of(&relay, &mine, None, era).await;
            let other = client.waiting("w").await;
            for raw in [
                r#""result":{"value":NaN}"#,
                r#""result":{},"error":null"#,
                r#""result":{},"result":{}"#,
                long.as_str(),
            ] {
                let answer = client.call("verbatim", json!({ "raw": raw })).await;
                let what = &raw[..raw.len().min(40)];
                assert!(answer.last().get("error").is_some(), "{eras:?} {era:?} {what}: {}", answer.text);
                assert!(answer.text.contains("upstream `up`"), "{eras:?} {era:?} {what}: {}", answer.text);
            }
            // The others go on.
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
            drop(other);
        }
    }
}

/// A client must not see, or answer, what another one is asked.
#[tokio::test]
async fn a_question_goes_to_the_one_client_that_it_can_be_meant_for() {
    let children = Children::new(Eras::Session).await;
    let relay = relay(vec![children.config("up")]);
    let mine = principal("mcp");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::silent(&relay, &mine, None, Era::Session);
        client.capabilities = json!({"elicitation": {}});
        client.begin().await;
        clients.push(client);
    }
    let question = json!({"method": "elicitation/create", "params": {"message": "which?"}, "tag": "t"});
    assert_eq!(pid(&clients[0]).await, pid(&clients[1]).await, "they share a process");
    let waiting = clients[0].waiting("w").await;
    children.log.saw(r#"WAITS "w""#).await;
    let refused = clients[1].call("ask", question.clone()).await;
    assert_eq!(refused.done(), "refused -32601");
    clients[0].note("notifications/cancelled", json!({"requestId": 8})).await;
    children.log.saw("GONE").await;
    let heard = waiting.whole().await;
    assert!(!heard.text.contains("elicitation"), "the other client was asked: {}", heard.text);

    let mut asking = clients[1].open_call("ask", question).await;
    let asked = asking.message().await;
    assert_eq!(asked["method"], "elicitation/create");
    clients[1].respond(&asked["id"], "result", json!({"action": "accept"})).await;
    assert_eq!(asking.whole().await.done(), r#"answered {"action":"accept"}"#);
}

/// The official filesystem server asks for roots right after `initialized`. Others send `ping`, and
/// end without an answer.
#[tokio::test]
async fn a_request_outside_a_call_is_answered() {
    let children = Children::in_mood(Eras::Session, "asks outside a call").await;
    let relay = relay(vec![children.config("up")]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
    children.log.saw(r#""id":"p1","result":{}"#).await;
    children.log.saw(r#""id":"r1","error":{"code":-32601"#).await;
}
