//! Stories of owners who are told that a token of theirs was revoked: whatever becomes of who
//! revoked it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use support::{PASSWORD, World, new};
use trustrelay_authority::*;
use uuid::Uuid;
use zeroize::Zeroizing;

const ROOT: &str = "root@example.org";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn from() -> Option<IpAddr> {
    Some("192.0.2.1".parse().expect("an address"))
}

fn seen(issued: &Issued) -> Candidate {
    Candidate { token: Some(issued.token.clone()), url: Some("https://example.org/a".into()), source: None }
}

/// An administrator's browser.
async fn root(world: &World) -> By {
    let password = Zeroizing::new(PASSWORD.to_owned());
    let account = NewAccount { email: ROOT.into(), password, is_admin: true };
    world.authority.add_account(account).await.expect("added");
    let (cookie, _) = world.authority.login(ROOT, PASSWORD.into(), None).await.expect("signs in");
    let principal = world.authority.authenticate_session(cookie.expose()).await.expect("asks");
    By::new(Arc::new(principal.expect("stands")), None)
}

/// A node that holds a lease for as long as the clock stands: no revocation is confirmed meanwhile.
async fn dead(world: &World) {
    let applied_seq = world.store.log_head().await.expect("asks");
    let lease = Lease {
        node_id: Uuid::now_v7(),
        claim: 1,
        applied_seq,
        length: Duration::from_secs(60),
        name: String::new(),
        url: None,
        cuts: Vec::new(),
    };
    assert_eq!(world.store.renew_lease(&lease).await.expect("asks"), Renewal::Held);
}

/// A token that nobody has used for 40 days, where 30 are allowed.
async fn unused(world: &World) -> Issued {
    let limits = AskedLimits { unused_days: Some(30), ..AskedLimits::default() }.read().expect("limits");
    let issued = world.authority.issue(&world.browser().await, NewPat { limits, ..new("mcp") }).await;
    world.clock.advance(DAY * 40);
    issued.expect("issued")
}

async fn told(world: &World) -> Vec<(NoticeKind, Option<Uuid>)> {
    let all = world.store.notices(None, None, 100).await.expect("asks");
    all.into_iter().map(|one| (one.notice.kind, one.notice.pat_id)).collect()
}

/// What the owner is told when the revocation is there, and not a moment later: whoever revokes may
/// end at that moment.
async fn told_with_the_revocation(
    world: &World,
    issued: &Issued,
    revoke: impl Future<Output = ()>,
) -> Vec<(NoticeKind, Option<Uuid>)> {
    dead(world).await;
    let revoked = async {
        while world.store.pat_by_id(issued.record.pat_id).await.unwrap().unwrap().revoked_at.is_none() {
            tokio::task::yield_now().await;
        }
        told(world).await
    };
    let told = async {
        tokio::select! {
            told = revoked => told,
            () = revoke => panic!("it was answered while a node had not confirmed it"),
        }
    };
    tokio::time::timeout(support::PATIENCE, told).await.expect("it is revoked")
}

#[tokio::test]
async fn the_notice_of_a_leak_is_there_when_the_token_is_revoked() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let report = async {
        drop(world.authority.report_leaks(Reporter::GitHub, vec![seen(&issued)], from()).await);
    };
    let told = told_with_the_revocation(&world, &issued, report).await;
    assert_eq!(told, [(NoticeKind::Leaked, Some(issued.record.pat_id))]);
}

#[tokio::test]
async fn the_notice_of_an_administrator_s_revocation_is_there_when_the_token_is_revoked() {
    let world = World::new().await;
    let by = root(&world).await;
    for many in [false, true] {
        let issued = world.token("mcp").await;
        let filter = PatFilter { hint: Some(issued.record.hint.clone()), ..PatFilter::default() };
        let revoke = async {
            if many {
                drop(world.authority.admin_revoke_matching(&by, &filter, 1).await);
            } else {
                drop(world.authority.admin_revoke(&by, issued.record.pat_id).await);
            }
        };
        let told = told_with_the_revocation(&world, &issued, revoke).await;
        assert_eq!(told[0], (NoticeKind::RevokedByAdmin, Some(issued.record.pat_id)));
    }
    assert_eq!(told(&world).await.len(), 2);
}

#[tokio::test]
async fn the_notice_of_an_unused_token_s_end_is_there_when_it_is_revoked() {
    let world = World::new().await;
    let issued = unused(&world).await;
    let sweep = async { drop(world.authority.end_unused().await) };
    let told = told_with_the_revocation(&world, &issued, sweep).await;
    assert_eq!(told, [(NoticeKind::UnusedEnded, Some(issued.record.pat_id))]);
}

#[tokio::test]
async fn the_owner_of_a_token_that_ended_before_is_told_where_it_was_seen_and_nothing_else() {
    let world = World::new().await;
    let by = root(&world).await;
    let issued = unused(&world).await;
    let owner = world.browser().await;
    world.authority.revoke(&owner, PatRef::Id(issued.record.pat_id)).await.expect("revoked");
    assert_eq!(world.authority.end_unused().await.expect("looks"), 0);
    world.authority.admin_revoke(&by, issued.record.pat_id).await.expect("again");
    assert!(told(&world).await.is_empty(), "who revoked it knows, and nobody has done so since");
    for _ in 0..2 {
        let known = world.authority.report_leaks(Reporter::Anybody, vec![seen(&issued)], from()).await;
        assert_eq!(known.expect("reported"), [true]);
    }
    assert_eq!(told(&world).await, [(NoticeKind::Leaked, Some(issued.record.pat_id))]);
}

#[tokio::test]
async fn several_nodes_that_end_a_token_tell_of_it_once_and_in_one_entry() {
    let world = World::new().await;
    let (one, other) = (unused(&world).await, world.token("mcp").await);
    let (second, head) = (world.command().await, world.store.log_head().await.expect("asks"));
    let ended = tokio::join!(world.authority.end_unused(), second.end_unused());
    assert_eq!(ended.0.expect("looks") + ended.1.expect("looks"), 1);
    assert_eq!(told(&world).await, [(NoticeKind::UnusedEnded, Some(one.record.pat_id))]);
    assert_eq!(world.store.log_head().await.expect("asks"), head + 1);
    world.verify(&other.token).await.expect("the other one is as good as before");
}
