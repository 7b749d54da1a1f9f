//! Stories of leaks: whoever holds a token may revoke it, and a report revokes all that it names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::World;
use trustrelay_authority::*;
use trustrelay_token::{Denied, Token};

fn from() -> Option<IpAddr> {
    Some("192.0.2.1".parse().expect("an address"))
}

fn seen(token: &Token, url: Option<&str>) -> Candidate {
    Candidate { token: Some(token.clone()), url: url.map(str::to_owned), source: Some("content".into()) }
}

async fn audit(world: &World, action: &str) -> Vec<AuditEntry> {
    let log = world.store.audit_after(0, 100_000).await.expect("asks");
    let entries = log.iter().map(|record| AuditEntry::from_bytes(&record.entry).expect("reads"));
    entries.filter(|entry| entry.action == action).collect()
}

async fn notices(world: &World) -> Vec<Notice> {
    let page = world.authority.notices(&world.browser().await.principal, Whose::Own, None, 100).await;
    page.expect("asks").into_iter().map(|notice| notice.notice).collect()
}

fn unknown() -> Token {
    Token::generate().expect("random")
}

#[tokio::test]
async fn whoever_holds_a_token_may_revoke_it() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let other = world.token("mcp").await;
    let principal = world.verify(&issued.token).await.expect("good");
    world.authority.revoke_held(Some(issued.token.clone()), from()).await.expect("revoked");
    assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
    assert!(!principal.stands());
    world.verify(&other.token).await.expect("the other one is as good as before");

    let told = audit(&world, "token.revoked").await;
    assert_eq!((told.len(), told[0].pat_id), (1, Some(issued.record.pat_id)));
    let actor = &told[0].actor;
    assert_eq!((actor.kind, actor.pat_id, actor.address), (ActorKind::Token, told[0].pat_id, from()));

    world.authority.revoke_held(Some(issued.token.clone()), from()).await.expect("again");
    assert_eq!(audit(&world, "token.revoked").await.len(), 1, "it is told once");
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_as_well_as_revoked() {
    let world = World::new().await;
    let head = world.store.log_head().await.expect("asks");
    world.authority.revoke_held(None, from()).await.expect("malformed");
    world.authority.revoke_held(Some(unknown()), from()).await.expect("unknown");
    assert_eq!(world.store.log_head().await.expect("asks"), head);
    assert!(audit(&world, "token.revoked").await.is_empty());
}

#[tokio::test]
async fn what_the_store_does_not_confirm_is_not_answered_as_revoked() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    world.store.broken.store(true, Ordering::SeqCst);
    let refused = world.authority.revoke_held(Some(issued.token.clone()), from()).await;
    assert!(matches!(refused, Err(AuthorityError::Unavailable(_))), "{refused:?}");
    let candidates = vec![seen(&issued.token, None)];
    let refused = world.authority.report_leaks(Reporter::Anybody, candidates, from()).await;
    assert!(matches!(refused, Err(AuthorityError::Unavailable(_))), "{refused:?}");
    // What is no token asks nobody.
    world.authority.revoke_held(None, from()).await.expect("malformed");
}

#[tokio::test]
async fn a_client_may_not_ask_without_end() {
    let world = World::new().await;
    for _ in 0..60 {
        world.authority.revoke_held(None, from()).await.expect("its turn");
    }
    let issued = world.token("mcp").await;
    let refused = world.authority.revoke_held(Some(issued.token.clone()), from()).await;
    assert!(matches!(refused, Err(AuthorityError::Throttled { .. })), "{refused:?}");
    world.verify(&issued.token).await.expect("nothing was done");
    let elsewhere = Some("192.0.2.2".parse().expect("an address"));
    world.authority.revoke_held(Some(issued.token.clone()), elsewhere).await.expect("another's turn");
    world.clock.advance(Duration::from_secs(60));
    world.authority.revoke_held(None, from()).await.expect("a minute later");

    for _ in 0..10 {
        world.authority.take_turn_to_report(from()).expect("its turn");
    }
    let refused = world.authority.take_turn_to_report(from());
    assert!(matches!(refused, Err(AuthorityError::Throttled { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_report_revokes_what_is_ours_in_one_entry_and_tells_each() {
    let world = World::new().await;
    let (one, other) = (world.token("mcp").await, world.token("api").await);
    let stays = world.token("mcp").await;
    for issued in [&one, &other, &stays] {
        world.verify(&issued.token).await.expect("good");
    }
    let head = world.store.log_head().await.expect("asks");
    let candidates = vec![
        seen(&unknown(), None),
        Candidate { token: None, url: None, source: None },
        seen(&one.token, Some("https://example.org/a.txt")),
        seen(&other.token, None),
        seen(&one.token, Some("https://example.org/b.txt")),
    ];
    let known = world.authority.report_leaks(Reporter::GitHub, candidates, from()).await.expect("reported");
    assert_eq!(known, [false, false, true, true, true], "in the order of the report");
    for issued in [&one, &other] {
        assert!(matches!(world.verify(&issued.token).await, Err(Denied::Revoked(_))));
    }
    world.verify(&stays.token).await.expect("nobody has reported it");
    assert_eq!(world.store.log_head().await.expect("asks"), head + 1);

    let mut told = audit(&world, "token.leaked").await;
    told.sort_by_key(|entry| !entry.details.contains_key("places"));
    let detail = |at: usize, name: &str| told[at].details.get(name).map(String::as_str);
    assert_eq!(
        (told.len(), told[0].pat_id, told[1].pat_id),
        (2, Some(one.record.pat_id), Some(other.record.pat_id))
    );
    assert_eq!((detail(0, "url"), detail(0, "places")), (Some("https://example.org/a.txt"), Some("2")));
    assert_eq!(
        (detail(1, "url"), detail(1, "source"), detail(1, "reporter")),
        (None, Some("content"), Some("github"))
    );
    assert!(told.iter().all(|entry| entry.user_id.is_some() && entry.actor == Actor::anonymous(from())));
    let mut owner_told = notices(&world).await;
    owner_told.sort_by_key(|notice| notice.facts.seen_at.as_deref() == Some("content"));
    let told_of: Vec<_> = owner_told
        .iter()
        .map(|notice| (notice.kind, notice.pat_id, notice.facts.seen_at.as_deref()))
        .collect();
    let expected = [(&one, "https://example.org/a.txt"), (&other, "content")];
    let expected =
        expected.map(|(issued, place)| (NoticeKind::Leaked, Some(issued.record.pat_id), Some(place)));
    assert_eq!(told_of, expected, "their owner is told, and where");
    let text = format!("{told:?} {owner_told:?}");
    assert!(!text.contains(one.token.expose()) && !text.contains("tr_pat_"), "{text}");
}

#[tokio::test]
async fn a_token_that_was_reported_before_is_known_and_not_told_again() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    for _ in 0..2 {
        let candidates = vec![seen(&issued.token, None)];
        let known =
            world.authority.report_leaks(Reporter::Anybody, candidates, from()).await.expect("reported");
        assert_eq!(known, [true]);
    }
    assert_eq!(audit(&world, "token.leaked").await.len(), 1);
    assert_eq!(notices(&world).await.len(), 1, "nor is its owner");
}

#[tokio::test]
async fn an_expired_token_and_one_made_under_an_older_secret_are_revoked_too() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let (secrets, clock) =
        ([ServerSecret::generate().expect("random"), world.secret.clone()], world.clock.clone());
    let config = AuthorityConfig { adopt_newest_secret: true, ..support::config() };
    let newer = Authority::open(world.store.clone(), &secrets, clock, config).await.expect("opens");
    world.clock.advance(Duration::from_secs(400 * 24 * 3600));
    let candidates = vec![seen(&issued.token, None)];
    assert_eq!(newer.report_leaks(Reporter::Anybody, candidates, from()).await.expect("reported"), [true]);
    let kept = world.store.pat_by_id(issued.record.pat_id).await.expect("asks").expect("there");
    assert!(kept.revoked_at.is_some());
}

#[tokio::test]
async fn a_report_of_more_than_a_thousand_is_refused_whole() {
    let world = World::new().await;
    let issued = world.token("mcp").await;
    let lookups = world.store.lookups.load(Ordering::SeqCst);
    let report = |count: usize| (0..count).map(|_| seen(&issued.token, None)).collect();
    let refused = world.authority.report_leaks(Reporter::Anybody, report(MAX_CANDIDATES + 1), from()).await;
    assert!(matches!(refused, Err(AuthorityError::Invalid { field: "candidates", .. })), "{refused:?}");
    assert_eq!(world.store.lookups.load(Ordering::SeqCst), lookups, "nothing was looked up");
    world.verify(&issued.token).await.expect("nothing was done");
    let known = world.authority.report_leaks(Reporter::Anybody, report(MAX_CANDIDATES), from()).await;
    assert_eq!(known.expect("reported").len(), MAX_CANDIDATES);
    assert!(world.verify(&issued.token).await.is_err());
}

#[tokio::test]
async fn a_secret_of_before_a_rotation_has_its_say_as_long_as_it_is_good() {
    for overlap in [Duration::from_secs(3600), Duration::ZERO] {
        let is_good = !overlap.is_zero();
        for by_report in [false, true] {
            let world = World::new().await;
            let issued = world.token("mcp").await;
            let asked =
                Rotate { overlap: Overlap::For(overlap), expiry: Expiry::Default, idempotency_key: None };
            let id = PatRef::Id(issued.record.pat_id);
            let rotated = world.authority.rotate(&world.browser().await, id, asked).await.expect("rotated");
            if by_report {
                let candidates = vec![seen(&issued.token, None)];
                let known = world.authority.report_leaks(Reporter::GitHub, candidates, from()).await;
                assert_eq!(known.expect("reported"), [true], "it is no false alarm");
            } else {
                world.authority.revoke_held(Some(issued.token.clone()), from()).await.expect("asked");
            }
            let stands = world.verify(&rotated.token).await.is_ok();
            assert_eq!(stands, !is_good, "overlap {overlap:?}, by report {by_report}");
        }
    }
}
