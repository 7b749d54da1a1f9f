//! Stories of the audit log: who may read what, how it is sealed and swept, and that whatever is
//! done to it in the store is found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use jiff::Timestamp;
use support::{EMAIL, PASSWORD, World, config, new};
use trustrelay_authority::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world whose log has ten entries of its own making, with a seal after each, and five more.
async fn sealed() -> World {
    let world = World::new().await;
    for n in 0..10 {
        append(&world, "test", n).await;
        world.authority.seal_audit().await.expect("sealed");
    }
    for n in 10..15 {
        append(&world, "test", n).await;
    }
    world
}

async fn append(world: &World, action: &'static str, n: u64) {
    world.clock.advance(Duration::from_secs(1));
    let entry = AuditEntry::new(world.clock.now(), Actor::SYSTEM, action).with("n", n);
    world.store.append_audit(&[entry]).await.expect("appended");
}

async fn verified(world: &World) -> AuditReport {
    world.authority.verify_audit().await.expect("asks")
}

async fn flaw(world: &World) -> AuditFlaw {
    verified(world).await.flaw.expect("it is found")
}

/// What somebody would do who knows how the chain is made, and has no key: makes it anew from an
/// entry on.
fn chain_anew(records: &mut [AuditRecord], from: u64) {
    for at in 1..records.len() {
        let before = records[at - 1].hash;
        if records[at].seq >= from {
            records[at].hash = chained(&before, records[at].seq, &records[at].entry);
        }
    }
}

#[tokio::test]
async fn what_was_written_is_found_whole() {
    let world = sealed().await;
    let first = world.store.audit_after(0, 1).await.expect("asks").remove(0);
    let report = verified(&world).await;
    assert_eq!((report.flaw, report.entries, report.cut), (None, 16, 0));
    assert_eq!((report.seals, report.sealed.map(|(seq, _)| seq)), (10, Some(11)));
    let first = AuditEntry::from_bytes(&first.entry).expect("reads").at;
    assert_eq!(report.span, Some((first, world.clock.now())));
}

#[tokio::test]
async fn an_empty_log_is_whole() {
    let store = std::sync::Arc::new(contract::MemoryStore::default());
    let clock = std::sync::Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let secret = ServerSecret::generate().expect("random");
    let authority = Authority::open(store, &[secret], clock, config()).await.expect("opens");
    assert_eq!(authority.verify_audit().await.expect("asks"), AuditReport::default());
}

#[tokio::test]
async fn a_changed_entry_is_found() {
    let world = sealed().await;
    world.store.tamper(|log| log.records[6].entry[20] ^= 1);
    assert_eq!(flaw(&world).await, AuditFlaw::Changed(7));
}

#[tokio::test]
async fn a_changed_entry_with_a_hash_that_fits_is_found_at_the_next() {
    let world = sealed().await;
    world.store.tamper(|log| {
        let other = AuditEntry::new(world.clock.now(), Actor::SYSTEM, "test").with("n", 1000);
        log.records[13].entry = other.to_bytes().expect("bytes");
        log.records[13].columns = AuditColumns::of(&other);
        log.records[13].hash = chained(&log.records[12].hash, 14, &log.records[13].entry);
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Changed(15));
}

#[tokio::test]
async fn a_chain_that_was_made_anew_is_found_by_its_seals() {
    let world = sealed().await;
    world.store.tamper(|log| {
        let other = AuditEntry::new(world.clock.now(), Actor::SYSTEM, "test").with("n", 1000);
        log.records[6].entry = other.to_bytes().expect("bytes");
        log.records[6].columns = AuditColumns::of(&other);
        chain_anew(&mut log.records, 7);
        let last = log.records.last().expect("there");
        log.head = Some(AuditLink { seq: last.seq, hash: last.hash });
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Seal { seq: 7, good: Some(6) });
}

#[tokio::test]
async fn a_missing_entry_is_found() {
    let world = sealed().await;
    world.store.tamper(|log| {
        log.records.drain(6..8);
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Missing { first: 7, last: 8 });
}

#[tokio::test]
async fn entries_that_changed_places_are_found() {
    let world = sealed().await;
    world.store.tamper(|log| {
        log.records.swap(6, 7);
        (log.records[6].seq, log.records[7].seq) = (7, 8);
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Changed(7));
}

#[tokio::test]
async fn a_column_that_says_other_than_its_entry_is_found() {
    type Change = fn(&mut AuditColumns);
    let changes: [(&str, Change); 6] = [
        ("at", |columns| columns.at += 1),
        ("action", |columns| columns.action = "token.created".into()),
        ("actor_user_id", |columns| columns.actor_user_id = Some(uuid::Uuid::nil())),
        ("actor_pat_id", |columns| columns.actor_pat_id = Some(uuid::Uuid::nil())),
        ("user_id", |columns| columns.user_id = Some(uuid::Uuid::nil())),
        ("pat_id", |columns| columns.pat_id = Some(uuid::Uuid::nil())),
    ];
    for (column, change) in changes {
        let world = sealed().await;
        world.store.tamper(|log| change(&mut log.records[6].columns));
        assert_eq!(flaw(&world).await, AuditFlaw::Column { seq: 7, column });
    }
}

#[tokio::test]
async fn bytes_that_are_chained_and_no_entry_are_found() {
    let world = sealed().await;
    world.store.tamper(|log| {
        log.records[15].entry = b"{}".to_vec();
        chain_anew(&mut log.records, 16);
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Unreadable(16));
}

#[tokio::test]
async fn a_forged_seal_is_found() {
    let world = sealed().await;
    let other = World::new().await;
    append(&other, "test", 1).await;
    other.authority.seal_audit().await.expect("sealed");
    let foreign = other.store.audit_seals(0, 1).await.expect("asks").remove(0);
    world.store.tamper(|log| log.seals[3].mac = foreign.mac);
    assert_eq!(flaw(&world).await, AuditFlaw::Seal { seq: 5, good: Some(4) });
}

#[tokio::test]
async fn a_seal_with_another_time_is_found() {
    let world = sealed().await;
    world.store.tamper(|log| log.seals[0].at = Timestamp::UNIX_EPOCH);
    assert_eq!(flaw(&world).await, AuditFlaw::Seal { seq: 2, good: None });
}

#[tokio::test]
async fn a_head_that_disagrees_is_found() {
    let world = sealed().await;
    world.store.tamper(|log| log.head.as_mut().expect("there").hash[0] ^= 1);
    assert_eq!(flaw(&world).await, AuditFlaw::Head { head: 16, last: 16 });
    let world = sealed().await;
    world.store.tamper(|log| {
        let last = &log.records[13];
        log.head = Some(AuditLink { seq: last.seq, hash: last.hash });
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Head { head: 14, last: 15 });
}

#[tokio::test]
async fn an_end_that_was_cut_off_is_found_by_the_head_and_by_the_seals() {
    let world = sealed().await;
    world.store.tamper(|log| log.records.truncate(14));
    assert_eq!(flaw(&world).await, AuditFlaw::Head { head: 16, last: 14 });
    let world = sealed().await;
    world.store.tamper(|log| {
        log.records.truncate(8);
        let last = log.records.last().expect("there");
        log.head = Some(AuditLink { seq: last.seq, hash: last.hash });
    });
    assert_eq!(flaw(&world).await, AuditFlaw::CutShort { sealed: 9, last: 8 });
}

#[tokio::test]
async fn a_beginning_that_was_cut_off_and_is_not_told_is_found() {
    let world = sealed().await;
    world.store.tamper(|log| {
        let cut = log.records.drain(..6).next_back().expect("there");
        log.seals.retain(|seal| seal.seq > cut.seq);
        log.cut = Some(AuditLink { seq: cut.seq, hash: cut.hash });
    });
    assert_eq!(flaw(&world).await, AuditFlaw::Beginning { cut: 6 });
    // And so is one that is told and was not cut.
    let world = sealed().await;
    append(&world, CUT, 1).await;
    assert_eq!(flaw(&world).await, AuditFlaw::Beginning { cut: 0 });
}

#[tokio::test]
async fn what_was_swept_is_no_flaw() {
    let world = sealed().await;
    world.clock.advance(DAY);
    let entry = AuditEntry::new(world.clock.now(), Actor::SYSTEM, CUT);
    assert_eq!(world.store.cut_audit(world.clock.now(), 7, &entry).await.expect("asks"), 7);
    let report = verified(&world).await;
    assert_eq!((report.flaw, report.cut, report.entries, report.seals), (None, 7, 10, 4));
    assert_eq!(world.store.cut_audit(world.clock.now(), 100, &entry).await.expect("asks"), 9);
    assert_eq!(verified(&world).await.flaw, None);
}

#[tokio::test]
async fn seals_of_an_older_secret_are_good() {
    let world = sealed().await;
    let newest = ServerSecret::generate().expect("random");
    let open = |secrets: Vec<ServerSecret>| {
        let (store, clock) = (world.store.clone(), world.clock.clone());
        let config = AuthorityConfig { adopt_newest_secret: true, ..config() };
        async move { Authority::open(store, &secrets, clock, config).await.expect("opens") }
    };
    let rotated = open(vec![newest.clone(), world.secret.clone()]).await;
    assert_eq!(rotated.verify_audit().await.expect("asks").flaw, None);
    append(&world, "test", 99).await;
    rotated.seal_audit().await.expect("sealed");
    assert_eq!(rotated.verify_audit().await.expect("asks").flaw, None);
    assert_eq!(
        flaw(&world).await,
        // 17 tells that the new secret is the active one.
        AuditFlaw::Seal { seq: 18, good: Some(11) },
        "it does not know the new one"
    );
}

#[tokio::test]
async fn a_node_that_is_stopped_seals_what_it_wrote_and_no_more_than_once() {
    let world = World::new().await;
    world.authority.stop().await;
    let report = verified(&world).await;
    assert_eq!((report.sealed.map(|(seq, _)| seq), report.seals, report.entries), (Some(1), 1, 1));
    world.authority.seal_audit().await.expect("asks");
    assert_eq!(verified(&world).await.seals, 1);
}

#[tokio::test]
async fn a_node_does_not_seal_a_log_that_was_changed_under_it() {
    let world = sealed().await;
    world.store.tamper(|log| {
        log.records[2].entry =
            AuditEntry::new(world.clock.now(), Actor::SYSTEM, "x").to_bytes().expect("bytes");
        chain_anew(&mut log.records, 3);
        let last = log.records.last().expect("there");
        log.head = Some(AuditLink { seq: last.seq, hash: last.hash });
    });
    for _ in 0..2 {
        world.authority.seal_audit().await.expect("asks");
        assert_eq!(world.store.audit_seals(0, 100).await.expect("asks").len(), 10, "no new seal");
        append(&world, "test", 0).await;
    }
}

#[tokio::test]
async fn what_is_older_than_it_is_kept_is_swept() {
    let quick = Duration::from_millis(1);
    let world =
        World::with(AuthorityConfig { audit_retention: 3 * DAY, usage_flush: quick, ..config() }).await;
    for n in 0..1200 {
        append(&world, "test", n).await;
    }
    world.clock.advance(4 * DAY);
    append(&world, "young", 0).await;
    support::until("all old entries are gone", || {
        let ends = futures_util::FutureExt::now_or_never(world.store.audit_ends());
        ends.expect("at once").expect("asks").cut.seq == 1201
    })
    .await;
    let report = verified(&world).await;
    assert_eq!(report.flaw, None);
    assert_eq!(report.entries, 1 + 3, "the young one, and three that tell of the cuts: 500, 500 and 201");
}

#[tokio::test]
async fn what_is_kept_for_ever_is_not_swept() {
    let quick = Duration::from_millis(1);
    let world =
        World::with(AuthorityConfig { audit_retention: Duration::MAX, usage_flush: quick, ..config() }).await;
    append(&world, "test", 0).await;
    world.clock.advance(5000 * DAY);
    world.authority.stop().await;
    assert_eq!(world.store.audit_ends().await.expect("asks").cut, AuditLink::BEGINNING);
}

async fn browser(world: &World, email: &str) -> By {
    let (cookie, _) = world.authority.login(email, PASSWORD.into(), None).await.expect("signs in");
    let principal = world.authority.authenticate_session(cookie.expose()).await.expect("asks");
    By::new(std::sync::Arc::new(principal.expect("stands")), None)
}

fn look(filter: AuditFilter) -> AuditLook {
    AuditLook { filter, limit: 50, ..AuditLook::default() }
}

fn actions(page: &AuditPage) -> Vec<&str> {
    page.entries.iter().map(|audited| &*audited.entry.action).collect()
}

#[tokio::test]
async fn everybody_sees_what_concerns_their_own_account() {
    let world = World::new().await;
    world.add("bob@example.org").await;
    let (ada, bob) = (browser(&world, EMAIL).await, browser(&world, "bob@example.org").await);
    world.authority.issue(&ada, new("mcp")).await.expect("issued");
    let own = world.authority.own_audit(&ada, look(AuditFilter::default())).await.expect("hers");
    assert_eq!(actions(&own), ["token.created", "session.began", "account.added"]);
    let asked = AuditFilter { user_id: Some(ada.user_id), ..AuditFilter::default() };
    let of_bob = world.authority.own_audit(&bob, look(asked)).await.expect("his");
    assert_eq!(actions(&of_bob), ["session.began", "account.added"], "whoever is asked for");
    let all = world.authority.all_audit(&bob, look(AuditFilter::default())).await;
    assert!(matches!(all, Err(AuthorityError::NotAdministrator)), "{all:?}");
    assert!(world.authority.export_audit(&bob, AuditFilter::default()).is_err());
}

#[tokio::test]
async fn a_token_without_tokens_sees_what_concerns_itself() {
    let world = World::new().await;
    let ada = world.browser().await;
    let other = world.authority.issue(&ada, new("mcp")).await.expect("issued").record.pat_id;
    let see = async |scope: &str| {
        let issued = world.authority.issue(&ada, new(scope)).await.expect("issued");
        let by = world.verify(&issued.token).await.expect("good");
        let all = world.authority.own_audit(&by, look(AuditFilter::default())).await;
        let asked = AuditFilter { pat_id: Some(other), ..AuditFilter::default() };
        let of_other = world.authority.own_audit(&by, look(asked)).await;
        (all, of_other, issued.record.pat_id)
    };
    let (all, of_other, own) = see("api:read").await;
    let all = all.expect("its own");
    assert_eq!((actions(&all), all.entries[0].entry.pat_id), (vec!["token.created"], Some(own)));
    assert!(matches!(of_other, Err(AuthorityError::InsufficientScope { scope }) if scope == "tokens"));
    let (all, of_other, _) = see("api:read tokens").await;
    assert!(all.expect("hers").entries.len() > 3);
    assert_eq!(actions(&of_other.expect("hers")), ["token.created"]);
    let (all, ..) = see("mcp tokens").await;
    assert!(matches!(all, Err(AuthorityError::InsufficientScope { scope }) if scope == "api:read"));
}

#[tokio::test]
async fn pages_are_bounded_and_say_where_the_next_goes_on() {
    let world = World::new().await;
    let ada = world.browser().await;
    for n in 0..250 {
        let entry = AuditEntry::new(world.clock.now(), ada.actor(), "test").of_user(ada.user_id).with("n", n);
        world.store.append_audit(&[entry]).await.expect("appended");
    }
    let (mut after, mut sizes) = (None, Vec::new());
    loop {
        let asked = AuditLook { after, limit: 10_000, ..look(AuditFilter::default()) };
        let page = world.authority.own_audit(&ada, asked).await.expect("hers");
        sizes.push(page.entries.len());
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(sizes, [200, 52]);
    let exact = AuditLook { limit: 126, ..look(AuditFilter::default()) };
    let page = world.authority.own_audit(&ada, exact.clone()).await.expect("hers");
    let last = world.authority.own_audit(&ada, AuditLook { after: page.next, ..exact }).await.expect("hers");
    assert_eq!((last.entries.len(), last.next), (126, None), "a full page may be the last");
}

#[tokio::test]
async fn an_export_alone_is_enough_to_check_the_chain() {
    let world = World::new().await;
    for n in 0..1100 {
        append(&world, "test", n).await;
    }
    let mut export = world.authority.export_all_audit(AuditFilter::default());
    let mut text = Vec::new();
    while let Some(lines) = export.next().await.expect("asks") {
        text.extend(lines);
    }
    let text = String::from_utf8(text).expect("text");
    let mut before = AUDIT_BEGINNING;
    for (line, seq) in text.lines().zip(1..) {
        let read: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (_, entry) = line.split_once(",\"entry\":").expect("it is last");
        before = chained(&before, seq, entry.strip_suffix('}').expect("ends").as_bytes());
        assert_eq!((read["seq"].as_u64(), read["hash"].as_str()), (Some(seq), Some(&*hex(&before))));
    }
    assert_eq!(text.lines().count(), 1101);

    let filter = AuditFilter { action: Some("account".into()), ..AuditFilter::default() };
    let mut export = world.authority.export_all_audit(filter);
    let lines = export.next().await.expect("asks").expect("some");
    assert_eq!(String::from_utf8(lines).expect("text").lines().count(), 1);
    assert_eq!(export.next().await.expect("asks"), None);
}
