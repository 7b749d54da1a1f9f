//! Sessions of the session era: their owner, their lifetime, and their recovery when the upstream
//! loses its own session.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use trustrelay_relay::{Cut, Ended, RelayConfig};
use uuid::Uuid;

use crate::kit::{
    Children, Client, Era, Eras, Fake, HOUR, Live, eventually, http, is_quiet, principal, principal_for,
    principal_of, relay, relay_with,
};

#[tokio::test]
async fn a_session_belongs_to_its_token_and_its_endpoint() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake), http("other", &fake)]);
    let all = principal("mcp");
    for at in [None, Some("up")] {
        let mine = Client::new(&relay, &all, at).await;
        assert_eq!(mine.ask("ping", json!({})).await.status, 200);
        let mut theirs = Client::silent(&relay, &principal("mcp"), at, Era::Session);
        assert_eq!(theirs.ask("ping", json!({})).await.status, 400);
        theirs.session = mine.session.clone();
        assert_eq!(theirs.ask("ping", json!({})).await.status, 404);
        assert_eq!(theirs.send(theirs.request(Method::DELETE, "")).await.status(), 404);
        assert_eq!(theirs.send(theirs.request(Method::GET, "")).await.status(), 404);
        for elsewhere in [None, Some("up"), Some("other")].into_iter().filter(|elsewhere| *elsewhere != at) {
            let mut there = Client::silent(&relay, &all, elsewhere, Era::Session);
            there.session = mine.session.clone();
            assert_eq!(there.ask("ping", json!({})).await.status, 404, "{at:?} {elsewhere:?}");
        }
        assert_eq!(mine.ask("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn what_is_no_session_id_opens_nothing() {
    let relay = relay(vec![]);
    let mut client = Client::new(&relay, &principal("mcp"), None).await;
    let good = client.session.clone().unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let forged = [
        String::new(),
        "a".into(),
        "../../etc".into(),
        good[..good.len() - 4].into(),
        format!("{good}AAAA"),
        flipped(0),
        flipped(40),
        flipped(good.len() / 2),
        good.repeat(30),
        "A".repeat(7000),
        good.to_uppercase(),
    ];
    for id in forged {
        client.session = Some(id.clone());
        assert_eq!(client.ask("ping", json!({})).await.status, 404, "{id}");
        assert_eq!(client.send(client.request(Method::GET, "")).await.status(), 404, "{id}");
    }
    client.session = Some(good);
    assert_eq!(client.ask("ping", json!({})).await.status, 200);
}

fn keyed(keys: Vec<[u8; 32]>) -> impl FnOnce(&mut RelayConfig) {
    move |config| config.seal_keys = keys
}

#[tokio::test]
async fn a_session_outlives_a_restart_under_the_same_key_and_under_no_other() {
    let fake = Fake::start(Eras::Session).await;
    let mine = principal("mcp");
    for at in [None, Some("up")] {
        let before = relay_with(vec![http("up", &fake)], keyed(vec![[1; 32]]));
        let mut client = Client::new(&before, &mine, at).await;
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
        client.relay = relay_with(vec![http("up", &fake)], keyed(vec![[2; 32], [1; 32]]));
        // The session was not used on this relay yet. Another token or another endpoint cannot
        // restore it either.
        let mut theirs = Client::silent(&client.relay, &principal("mcp"), at, Era::Session);
        let elsewhere = if at.is_none() { Some("up") } else { None };
        let mut there = Client::silent(&client.relay, &mine, elsewhere, Era::Session);
        for wrong in [&mut theirs, &mut there] {
            wrong.session = client.session.clone();
            assert_eq!(wrong.ask("ping", json!({})).await.status, 404, "{at:?}");
        }
        assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{at:?}");
        client.relay = relay_with(vec![http("up", &fake)], keyed(vec![[2; 32]]));
        assert_eq!(client.call("echo", json!({})).await.status, 404);
        client.relay = relay_with(vec![http("up", &fake)], keyed(vec![]));
        assert_eq!(client.call("echo", json!({})).await.status, 404);
    }
}

#[tokio::test]
async fn a_session_that_outlives_both_is_taken_up_by_its_stream_first_as_well() {
    let fake = Fake::start(Eras::Session).await;
    let before = relay_with(vec![http("up", &fake)], keyed(vec![[1; 32]]));
    let mut client = Client::new(&before, &principal("mcp"), Some("up")).await;
    // The upstream was restarted as well.
    fake.forget_sessions();
    client.relay = relay_with(vec![http("up", &fake)], keyed(vec![[1; 32]]));
    let mut heard = client.listen(&[]).await;
    assert_eq!(heard.status, 200);
    client.call("grow", json!({})).await;
    assert_eq!(heard.message().await["method"], "notifications/tools/list_changed");
    // A notification without a session to receive it is not a failure.
    fake.forget_sessions();
    assert_eq!(client.note("notifications/roots/list_changed", json!({})).await, 202);
    assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
}

#[tokio::test]
async fn an_ended_session_stays_ended() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    for at in [None, Some("up")] {
        let client = Client::new(&relay, &principal("mcp"), at).await;
        client.call("echo", json!({})).await;
        let heard = client.listen(&[]).await;
        assert_eq!(client.send(client.request(Method::DELETE, "")).await.status(), 204);
        assert_eq!(heard.whole().await.messages.len(), 0);
        for _ in 0..2 {
            assert_eq!(client.call("echo", json!({})).await.status, 404);
            assert_eq!(client.send(client.request(Method::DELETE, "")).await.status(), 404);
        }
        fake.log.saw("DELETE").await;
        is_quiet(&relay).await;
    }
}

#[tokio::test]
async fn sessions_of_a_token_are_bounded_and_the_one_that_made_room_comes_back_when_used() {
    let fake = Fake::start(Eras::Session).await;
    for at in [None, Some("up")] {
        let relay = relay_with(vec![http("up", &fake)], |config| config.limits.sessions_per_token = 2);
        let mine = principal("mcp");
        let one = Client::new(&relay, &mine, at).await;
        one.call("echo", json!({})).await;
        let two = Client::new(&relay, &mine, at).await;
        let three = Client::new(&relay, &mine, at).await;
        let bounded = eventually(|| (relay.open().sessions == 2).then_some(())).await;
        assert!(bounded.is_some(), "{:?}", relay.open());
        for client in [&one, &two, &three] {
            assert_eq!(client.call("echo", json!({})).await.done(), "done {}", "{at:?}");
        }
        // A session that is in use is not dropped to make room.
        let (_a, _b) = (two.listen(&[]).await, three.listen(&[]).await);
        let full = Client::silent(&relay, &mine, at, Era::Session);
        assert_eq!(full.initialize().await.status(), 429);
        assert_eq!(
            Client::silent(&relay, &principal("mcp"), at, Era::Session).initialize().await.status(),
            200
        );
        relay.cut_token(one.pat_id());
        is_quiet_of(&relay, 0).await;
    }
}

async fn is_quiet_of(relay: &trustrelay_relay::Relay, streams: usize) {
    let quiet = eventually(|| (relay.open().streams == streams).then_some(())).await;
    assert!(quiet.is_some(), "{:?}", relay.open());
}

#[tokio::test]
async fn an_idle_session_is_let_go_with_its_upstreams_and_comes_back_when_used() {
    let fake = Fake::start(Eras::Session).await;
    let children = Children::new(Eras::Session).await;
    let relay = relay_with(vec![http("up", &fake), children.config("pipe")], |config| {
        config.limits.idle = Duration::from_millis(200);
    });
    let client = Client::new(&relay, &principal("mcp"), None).await;
    assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
    let pid = client.ask("tools/call", json!({"name": "pipe__pid"})).await.done();
    is_quiet(&relay).await;
    fake.log.saw("DELETE").await;
    crate::kit::child::is_gone(pid.parse().unwrap()).await;
    assert_eq!(client.call("echo", json!({})).await.done(), "done {}");
    assert_ne!(client.ask("tools/call", json!({"name": "pipe__pid"})).await.done(), pid);
}

#[tokio::test]
async fn a_call_is_made_again_once_when_the_upstream_has_lost_the_session_and_never_otherwise() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    let principal = principal("mcp");
    for (at, era) in [
        (None, Era::Session),
        (Some("up"), Era::Session),
        (None, Era::Stateless),
        (Some("up"), Era::Stateless),
    ] {
        let client = Client::of(&relay, &principal, at, era).await;
        client.call("echo", json!({"before": 1})).await;
        fake.forget_sessions();
        let seen = fake.log.times("tools/call");
        assert_eq!(
            client.call("echo", json!({"after": 1})).await.done(),
            r#"done {"after":1}"#,
            "{at:?} {era:?}"
        );
        assert_eq!(fake.log.times("tools/call"), seen + 2);
    }
}

#[tokio::test]
async fn a_call_that_may_have_been_looked_at_is_not_made_again() {
    for status in [500, 502, 404] {
        let fake = Fake::gated(Eras::Session, move |seen| async move {
            let refused = http::StatusCode::from_u16(status).unwrap();
            seen.body.contains("refuse-me").then(|| axum::response::IntoResponse::into_response(refused))
        })
        .await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Client::new(&relay, &principal("mcp"), None).await;
        let answer = client.call("echo", json!({"refuse-me": 1})).await;
        assert_eq!(answer.code(), -32000, "{answer:?}");
        assert_eq!(fake.log.times("refuse-me"), if status == 404 { 2 } else { 1 });
    }
}

#[tokio::test]
async fn expiry_cuts_what_is_open() {
    let relay = relay(vec![]);
    let client = Client::new(&relay, &principal_for("mcp", Duration::from_secs(2)), None).await;
    let heard = client.listen(&[]).await;
    assert_eq!(heard.status, 200);
    assert_eq!(heard.whole().await.text, "");
    assert_eq!(client.ask("ping", json!({})).await.status, 401);
    assert_eq!(relay.open(), Cut::default());
}

#[tokio::test]
async fn an_old_secret_that_ends_takes_along_what_it_opened_and_nothing_of_the_new_one_s() {
    let relay = relay(vec![]);
    let (user_id, pat_id) = (Uuid::from_u128(1), Uuid::now_v7());
    // The credential with the longer life comes first, to show that the earlier expiry is noticed
    // all the same.
    let with_new = Client::new(&relay, &principal_of(user_id, pat_id, "mcp", HOUR), None).await;
    let old = principal_of(user_id, pat_id, "mcp", Duration::from_secs(2));
    let with_old = Client::new(&relay, &old, None).await;
    let (stays, ends) = (with_new.listen(&[]).await, with_old.listen(&[]).await);
    assert_eq!((stays.status, ends.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(ends.whole().await.text, "");
    assert_eq!(with_old.ask("ping", json!({})).await.status, 401);
    assert_eq!(with_new.ask("ping", json!({})).await.status, 200);
    assert_eq!(relay.open(), Cut { sessions: 1, streams: 1, calls: 0 });
    drop(stays);
}

#[tokio::test]
async fn a_token_revoked_between_the_door_and_the_registry_opens_nothing() {
    let fake = Fake::start(Eras::Both).await;
    let relay = relay(vec![http("up", &fake)]);
    for (at, era) in [
        (None, Era::Session),
        (Some("up"), Era::Session),
        (None, Era::Stateless),
        (Some("up"), Era::Stateless),
    ] {
        let client = Client::silent(&relay, &principal("mcp"), at, era);
        let body = match era {
            Era::Session => r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#.to_owned(),
            Era::Stateless => client.message(&json!(1), "tools/call", &json!({"name": client.tool("echo")})),
        };
        let (cutter, principal, pat_id) = (relay.clone(), client.principal.clone(), client.pat_id());
        // The body is read after the entry point has judged the request, so the revocation falls in
        // between.
        let late = body.clone();
        let request = client.request(Method::POST, &body).map(|_| {
            Box::pin(http_body_util::StreamBody::new(futures_util::stream::once(async move {
                principal.standing().end(jiff::Timestamp::UNIX_EPOCH);
                cutter.cut_token(pat_id);
                Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(late)))
            })))
        });
        assert_eq!(
            relay.handle(Arc::clone(&client.principal), at, request).await.status(),
            401,
            "{at:?} {era:?}"
        );
        is_quiet(&relay).await;
        let left = eventually(|| (fake.sessions() == 0).then_some(())).await;
        assert!(left.is_some() && !fake.log.has("tools/call"), "{at:?} {era:?}");
    }
}

#[tokio::test]
async fn a_cut_ends_the_streams_and_the_calls_and_tells_the_upstream() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    let client = Arc::new(Client::new(&relay, &principal("mcp"), None).await);
    let other = Client::new(&relay, &principal("mcp"), None).await;
    let heard = client.listen(&[]).await;
    let caller = Arc::clone(&client);
    let call = tokio::spawn(async move { caller.call("wait", json!({"tag": "w"})).await });
    fake.log.saw(r#"WAITS "w""#).await;
    assert_eq!(client.revoke(), Cut { sessions: 1, streams: 1, calls: 1 });
    assert_eq!(relay.cut_token(client.pat_id()), Ended::default());
    assert_eq!(heard.whole().await.messages.len(), 0);
    assert!(call.await.unwrap().text.contains("revoked"));
    fake.log.saw("notifications/cancelled").await;
    fake.log.saw("DELETE").await;
    assert_eq!(client.ask("ping", json!({})).await.status, 401);
    assert_eq!(other.ask("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_call_whose_session_ends_is_not_told_that_its_token_did() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    let client = Arc::new(Client::new(&relay, &principal("mcp"), None).await);
    let caller = Arc::clone(&client);
    let call = tokio::spawn(async move { caller.call("wait", json!({"tag": "w"})).await });
    fake.log.saw(r#"WAITS "w""#).await;
    let ended = client.send(client.request(Method::DELETE, "")).await;
    assert_eq!(ended.status(), 204);
    let answer = call.await.unwrap();
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, -32001));
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.text.contains("revoked"), "{}", answer.text);
}

#[tokio::test]
async fn a_disabled_account_is_cut_with_all_its_tokens_and_no_other_account() {
    let relay = relay(vec![]);
    let (one, two) = (principal("mcp"), principal("mcp"));
    let stranger = principal_of(Uuid::from_u128(2), Uuid::now_v7(), "mcp", HOUR);
    let mut streams = Vec::new();
    for principal in [&one, &two, &stranger] {
        let client = Client::new(&relay, principal, None).await;
        streams.push((client.listen(&[]).await, client));
    }
    let ended = relay.cut_user(one.user_id);
    assert_eq!(ended.counts, Cut { sessions: 2, streams: 2, calls: 0 });
    assert!(ended.sessions.len() == 2 && ended.sessions[0] != ended.sessions[1], "{ended:?}");
    assert_eq!(relay.open(), Cut { sessions: 1, streams: 1, calls: 0 });
    let (heard, client) = streams.pop().unwrap();
    for (ended, _) in streams {
        assert!(ended.whole().await.messages.is_empty());
    }
    assert_eq!(client.ask("ping", json!({})).await.status, 200);
    drop(heard);
}

#[tokio::test]
async fn a_cut_while_the_upstream_is_asked_what_it_speaks_opens_no_session_there() {
    let (open, held) = tokio::sync::watch::channel(false);
    let fake = Fake::gated(Eras::Session, move |seen| {
        let mut held = held.clone();
        async move {
            if seen.body.contains("server/discover") {
                let _ = held.wait_for(|open| *open).await;
            }
            None
        }
    })
    .await;
    let relay = relay(vec![http("up", &fake)]);
    let client = Client::stateless(&relay, &principal("mcp"), None);
    let cut = async {
        fake.log.saw("server/discover").await;
        assert_eq!(client.revoke(), Cut { sessions: 0, streams: 0, calls: 1 });
        open.send(true).unwrap();
    };
    let (answer, ()) = tokio::join!(client.call("echo", json!({"never-arrives": 1})), cut);
    assert!(answer.last().get("error").is_some(), "{}", answer.text);
    is_quiet(&relay).await;
    // The catalogue's own session declares no capabilities.
    assert!(!fake.log.has("never-arrives") && !fake.log.has("sampling"), "{:?}", fake.log.bodies());
}

#[tokio::test]
async fn a_cut_while_the_upstreams_session_opens_leaves_nothing_open() {
    for era in [Era::Session, Era::Stateless] {
        let (open, held) = tokio::sync::watch::channel(false);
        let fake = Fake::gated(Eras::Session, move |seen| {
            let mut held = held.clone();
            async move {
                if seen.body.contains("\"initialize\"") && seen.body.contains("sampling") {
                    let _ = held.wait_for(|open| *open).await;
                }
                None
            }
        })
        .await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Arc::new(Client::of(&relay, &principal("mcp"), None, era).await);
        let caller = Arc::clone(&client);
        let call = tokio::spawn(async move { caller.call("echo", json!({})).await });
        fake.log.saw("sampling").await;
        client.revoke();
        open.send(true).unwrap();
        assert!(call.await.unwrap().done_or_error().is_none(), "{era:?}");
        fake.log.saw("DELETE").await;
        is_quiet(&relay).await;
        let left = eventually(|| (fake.sessions() <= 1).then_some(())).await;
        assert!(left.is_some(), "{era:?}: {:#?}", fake.log.bodies());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_its_session_opens_leaves_no_upstream_session_behind() {
    for (at, era) in [
        (None, Era::Session),
        (None, Era::Stateless),
        (Some("up"), Era::Stateless),
        (Some("up"), Era::Session),
    ] {
        let (open, held) = tokio::sync::watch::channel(false);
        let fake = Fake::gated(Eras::Session, move |seen| {
            let mut held = held.clone();
            async move {
                if seen.body.contains("\"initialize\"") && seen.body.contains("sampling") {
                    let _ = held.wait_for(|open| *open).await;
                }
                None
            }
        })
        .await;
        let relay =
            relay_with(vec![http("up", &fake)], |config| config.limits.idle = Duration::from_millis(300));
        let principal = principal("mcp");
        let client = Client::silent(&relay, &principal, at, era);
        let asked = async {
            match (at, era) {
                (Some(_), Era::Session) => drop(client.initialize().await),
                (None, Era::Session) => {
                    drop(Client::new(&relay, &principal, at).await.call("echo", json!({})).await)
                }
                _ => drop(client.call("echo", json!({})).await),
            }
        };
        tokio::select! {
            () = asked => panic!("answered before the gate opened"),
            () = fake.log.saw("sampling") => {}
        }
        open.send(true).unwrap();
        // The session that it opened is closed after it was unused for a while.
        fake.log.saw("DELETE").await;
        is_quiet(&relay).await;
    }
}

#[tokio::test]
async fn a_second_stream_of_a_session_takes_the_place_of_the_first() {
    let relay = relay(vec![]);
    let client = Client::new(&relay, &principal("mcp"), None).await;
    let first = client.listen(&[]).await;
    let second: Live = client.listen(&[]).await;
    assert_eq!(first.whole().await.messages.len(), 0);
    assert_eq!(relay.open().streams, 1);
    drop(second);
    is_quiet_of(&relay, 0).await;
}
