//! Cuts that end less than everything of a token: a secret, an upstream, a network.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;
use trustrelay_relay::Cut;
use trustrelay_token::{Account, Pat, Principal, TokenDigest};
use uuid::Uuid;

use crate::kit::client::{Client, Era, Live, Whole};
use crate::kit::fake::Fake;
use crate::kit::peer::Eras;
use crate::kit::{http, is_quiet, principal, relay};

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// Returns two secrets of one token.
fn secrets() -> [Arc<Principal>; 2] {
    let (account, pat_id) = (Arc::new(Account::default()), Uuid::now_v7());
    [1, 2].map(|n| {
        let pat = Pat::new(pat_id, "ci", "...0aZ9").known_by(TokenDigest::from_bytes([n; 32]));
        let scopes = Arc::new("mcp".parse().unwrap());
        Arc::new(Principal::with_pat(Arc::clone(&account), pat, scopes, jiff::Timestamp::MAX))
    })
}

/// Everything that one client has open: its own stream, a streaming call, and a silent call.
struct Open {
    heard: Live,
    streaming: Live,
    silent: JoinHandle<Whole>,
}

async fn open(client: &Arc<Client>, fake: &Fake, tag: &str) -> Open {
    let heard = client.listen(&[]).await;
    let streaming = client.waiting(&format!("{tag} streams")).await;
    let (caller, quiet) = (Arc::clone(client), format!("{tag} is silent"));
    let waits = format!("WAITS {:?}", quiet);
    let silent = tokio::spawn(async move { caller.call("wait", json!({ "tag": quiet })).await });
    fake.log.saw(&waits).await;
    Open { heard, streaming, silent }
}

const ALL: Cut = Cut { sessions: 0, streams: 1, calls: 2 };

/// Checks that the relay reports the reason, and that the upstream learns that its calls are
/// cancelled.
async fn is_cut(open: Open, status: StatusCode, why: &str) {
    open.heard.whole().await;
    let streamed = open.streaming.whole().await;
    assert_eq!(streamed.code(), -32001, "{}", streamed.text);
    assert!(streamed.text.contains(why), "{}", streamed.text);
    let silent = open.silent.await.unwrap();
    // In the session era the upstream has begun a stream, so the status was sent before.
    assert!(silent.status == status || silent.status == StatusCode::OK, "{}", silent.text);
    assert_eq!(silent.code(), -32001, "{}", silent.text);
    assert!(silent.text.contains(why), "{}", silent.text);
}

#[tokio::test]
async fn a_secret_that_ends_takes_all_that_was_opened_with_it_and_leaves_the_session_to_the_new_one() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake)]);
    let [old, new] = secrets();
    let with_old = Arc::new(Client::new(&relay, &old, None).await);
    let with_new = Arc::new(Client::new(&relay, &new, None).await);
    let (ends, stays) = (open(&with_old, &fake, "old").await, open(&with_new, &fake, "new").await);

    old.standing().end(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(relay.cut_secret(with_old.pat_id(), old.pat().unwrap().digest()), ALL);
    is_cut(ends, StatusCode::UNAUTHORIZED, "revoked or has expired").await;
    fake.log.saw_times("notifications/cancelled", 2).await;

    assert_eq!(relay.open(), Cut { sessions: 2, ..ALL }, "what the new secret opened goes on");
    let mut taken_up = Client::silent(&relay, &new, None, Era::Session);
    taken_up.session.clone_from(&with_old.session);
    assert_eq!(taken_up.call("echo", json!({})).await.done(), "done {}");
    drop(stays);
}

/// Covers both eras: in the stateless one a subscription takes the place of the stream.
#[tokio::test]
async fn a_network_that_is_no_longer_allowed_takes_what_is_open_from_there_and_what_registers_late() {
    let fake = Fake::start(Eras::Both).await;
    for era in [Era::Session, Era::Stateless] {
        let relay = relay(vec![http("up", &fake)]);
        let mine = principal("mcp");
        let mut near = Client::of(&relay, &mine, None, era).await;
        near.address = Some(NEAR);
        let mut far = Client::of(&relay, &mine, None, era).await;
        far.address = Some(FAR);
        let (near, far) = (Arc::new(near), Arc::new(far));
        let (stays, ends) = (
            open(&near, &fake, &format!("{era:?} near")).await,
            open(&far, &fake, &format!("{era:?} far")).await,
        );

        assert_eq!(relay.cut_from_elsewhere(Some(Arc::new(|address| address == Some(NEAR)))), ALL);
        is_cut(ends, StatusCode::SERVICE_UNAVAILABLE, "allowed IP ranges of this token were changed").await;
        let late = far.call("echo", json!({})).await;
        assert_eq!((late.status, late.code()), (StatusCode::SERVICE_UNAVAILABLE, -32001), "let in before");
        assert_eq!(near.call("echo", json!({})).await.done(), "done {}");
        drop(stays);
        relay.cut_from_elsewhere(None);
        assert_eq!(far.call("echo", json!({})).await.done(), "done {}", "once it is allowed again");
    }
}

#[tokio::test]
async fn an_upstream_that_is_taken_away_ends_what_was_begun_with_it_and_says_so() {
    let fake = Fake::start(Eras::Session).await;
    let relay = relay(vec![http("up", &fake), http("other", &fake)]);
    let mine = principal("mcp");
    let client = Arc::new(Client::new(&relay, &mine, None).await);
    let ends = open(&client, &fake, "narrowed").await;
    mine.account().upstreams.hold_to(Some(&["other".to_owned()]));
    assert_eq!(relay.cut_user(mine.user_id).counts, Cut { sessions: 1, ..ALL });
    is_cut(ends, StatusCode::SERVICE_UNAVAILABLE, "this account lost access to an upstream").await;
    is_quiet(&relay).await;
}
