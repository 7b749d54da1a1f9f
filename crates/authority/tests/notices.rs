//! Notices: who is told what, when, and how often it is tried.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use support::{EMAIL, PASSWORD, config, new, until};
use trustrelay_authority::contract::MemoryStore;
use trustrelay_authority::*;
use trustrelay_token::Verifier as _;
use uuid::Uuid;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 3600);
const ADMIN: &str = "root@example.org";

/// What a courier does with what goes to a place.
#[derive(Clone, Copy)]
enum Fate {
    Refused,
    Busy,
    Panics,
    Hangs,
}

/// A courier that notes what it carries: the kind and the place. What it is not told of arrives.
#[derive(Default)]
struct Notebook {
    carried: Mutex<Vec<(NoticeKind, String)>>,
    fates: Mutex<BTreeMap<String, Fate>>,
    secrets: Mutex<Vec<String>>,
}

impl Notebook {
    fn set(&self, place: &str, fate: Fate) {
        self.fates.lock().insert(place.into(), fate);
    }

    fn take(&self) -> Vec<(NoticeKind, String)> {
        std::mem::take(&mut self.carried.lock())
    }
}

#[async_trait]
impl Courier for Notebook {
    fn has_mail(&self) -> bool {
        true
    }

    fn check_webhook(&self, url: &str) -> Result<CheckedUrl, String> {
        let origin = url.split("/hooks").next().unwrap_or_default().to_owned();
        if origin.starts_with("https://") {
            Ok(CheckedUrl { url: url.into(), origin })
        } else {
            Err("is odd".into())
        }
    }

    async fn carry(&self, outgoing: Outgoing<'_>) -> Result<(), Undelivered> {
        let place = match outgoing.to {
            To::Mail(address) => address.to_owned(),
            To::Webhook { url, secret } => {
                self.secrets.lock().push(secret.expose().to_string());
                url.to_owned()
            }
        };
        let fate = self.fates.lock().get(&place).copied();
        match fate {
            Some(Fate::Hangs) => std::future::pending().await,
            Some(Fate::Panics) => panic!("on purpose"),
            Some(Fate::Refused) => return Err(Undelivered::ForGood("550 no such user".into())),
            Some(Fate::Busy) => return Err(Undelivered::Later("421 busy".into())),
            None => self.carried.lock().push((outgoing.notice.kind, place)),
        }
        Ok(())
    }
}

/// Two accounts, one of them an administrator's, and a courier; nothing runs by itself.
struct Town {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    secret: ServerSecret,
    courier: Arc<Notebook>,
    authority: Arc<Authority>,
}

impl Town {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(ManualClock::at("2026-04-07T00:00:00Z".parse().expect("a time")));
        let (secret, courier) = (ServerSecret::generate().expect("random"), Arc::new(Notebook::default()));
        let authority = node(&store, &clock, std::slice::from_ref(&secret), &courier).await;
        for (email, is_admin) in [(EMAIL, false), (ADMIN, true)] {
            let password = Zeroizing::new(PASSWORD.to_owned());
            let account = NewAccount { email: email.into(), password, is_admin };
            authority.add_account(account).await.expect("added");
        }
        Self { store, clock, secret, courier, authority }
    }

    /// Another node, or this one after a restart.
    async fn node(&self) -> Arc<Authority> {
        node(&self.store, &self.clock, std::slice::from_ref(&self.secret), &self.courier).await
    }

    async fn browser(&self, email: &str) -> By {
        let (cookie, _) = self.authority.login(email, PASSWORD.into(), None).await.expect("signs in");
        let principal = self.authority.authenticate_session(cookie.expose()).await.expect("asks");
        By::new(Arc::new(principal.expect("stands")), None)
    }

    async fn token(&self, days: i64) -> Issued {
        let new = NewPat { expiry: Expiry::Days(days), ..new("mcp") };
        self.authority.issue(&self.browser(EMAIL).await, new).await.expect("issued")
    }

    /// A request with a token.
    async fn with_token(&self, email: &str, scope: &str) -> By {
        let token = self.authority.issue(&self.browser(email).await, new(scope)).await.expect("issued").token;
        By::new(self.authority.verify(token).wait().await.expect("good"), None)
    }

    /// The kinds of the notices that come up now, with all of them sent.
    async fn told(&self) -> Vec<NoticeKind> {
        self.authority.sweep_notices().await.expect("sweeps");
        self.authority.send_due().await.expect("sends");
        self.courier.take().into_iter().map(|(kind, _)| kind).collect()
    }

    async fn log(&self, by: &By, whose: Whose) -> Vec<ToldNotice> {
        self.authority.notices(by, whose, None, 100).await.expect("asks")
    }

    async fn actions(&self) -> Vec<String> {
        let records = self.store.audit_after(0, 1000).await.expect("asks");
        records
            .iter()
            .map(|record| AuditEntry::from_bytes(&record.entry).expect("reads").action.into_owned())
            .filter(|action| action.starts_with("webhook."))
            .collect()
    }
}

async fn node(
    store: &Arc<MemoryStore>,
    clock: &Arc<ManualClock>,
    secrets: &[ServerSecret],
    courier: &Arc<Notebook>,
) -> Arc<Authority> {
    let authority = Authority::open(store.clone(), secrets, clock.clone(), config()).await.expect("opens");
    authority.set_courier(courier.clone());
    authority
}

#[tokio::test]
async fn an_owner_is_told_30_7_and_1_days_before_once_each() {
    let town = Town::new().await;
    town.token(40).await;
    let mut told = Vec::new();
    for hour in 0..=41 * 24 {
        told.extend(town.told().await.into_iter().map(|kind| (hour, kind)));
        town.clock.advance(Duration::from_secs(3600));
    }
    let day = |day: i32| day * 24;
    assert_eq!(
        told,
        [
            (day(10), NoticeKind::Expiring30d),
            (day(33), NoticeKind::Expiring7d),
            (day(39), NoticeKind::Expiring1d)
        ]
    );
}

#[tokio::test]
async fn several_nodes_and_restarts_tell_it_once() {
    let town = Town::new().await;
    town.token(40).await;
    town.clock.advance(10 * DAY);
    let (second, third) = (town.node().await, town.node().await);
    let made = tokio::join!(town.authority.sweep_notices(), second.sweep_notices(), third.sweep_notices());
    assert_eq!(made.0.unwrap() + made.1.unwrap() + made.2.unwrap(), 1);
    let sent = tokio::join!(town.authority.send_due(), second.send_due(), third.send_due());
    assert_eq!(sent.0.unwrap() + sent.1.unwrap() + sent.2.unwrap(), 1);
    let restarted = town.node().await;
    assert_eq!((restarted.sweep_notices().await.unwrap(), restarted.send_due().await.unwrap()), (0, 0));
    assert_eq!(town.courier.take(), [(NoticeKind::Expiring30d, EMAIL.to_owned())]);
}

#[tokio::test]
async fn a_token_that_is_made_for_less_has_no_notice_of_more() {
    let town = Town::new().await;
    town.token(30).await;
    town.token(5).await;
    town.token(1).await;
    assert_eq!(town.told().await, []);
    // All at their last day but the first; the second was made for more than one.
    town.clock.advance(4 * DAY);
    assert_eq!(town.told().await, [NoticeKind::Expiring1d]);
    town.clock.advance(19 * DAY);
    assert_eq!(town.told().await, [NoticeKind::Expiring7d]);
}

#[tokio::test]
async fn who_was_not_told_in_time_is_told_once_of_what_is_left() {
    let town = Town::new().await;
    town.token(40).await;
    town.clock.advance(35 * DAY);
    assert_eq!(town.told().await, [NoticeKind::Expiring7d], "and not of 30 days as well");
    assert_eq!(town.told().await, []);
}

#[tokio::test]
async fn of_a_token_that_is_gone_nobody_is_told() {
    let town = Town::new().await;
    let by = town.browser(EMAIL).await;
    let (revoked, _stays) = (town.token(40).await, town.token(41).await);
    town.authority.revoke(&by, PatRef::Id(revoked.record.pat_id)).await.expect("revoked");
    town.clock.advance(12 * DAY);
    assert_eq!(town.told().await.len(), 1);
    town.authority.set_disabled(EMAIL, true).await.expect("disabled");
    town.clock.advance(25 * DAY);
    assert_eq!(town.told().await, []);
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_again_ever_more_rarely_and_then_given_up() {
    let town = Town::new().await;
    town.token(40).await;
    town.courier.set(EMAIL, Fate::Busy);
    town.clock.advance(10 * DAY);
    town.authority.sweep_notices().await.expect("sweeps");
    let mut tries = Vec::new();
    for minute in 0..60 * 60 {
        if town.authority.send_due().await.expect("sends") > 0 {
            tries.push(minute);
        }
        town.clock.advance(Duration::from_secs(60));
    }
    let waits: Vec<_> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    for (wait, least) in waits.iter().zip([1, 5, 30, 120, 360, 720, 1440]) {
        assert!((least..=least + least / 10 + 1).contains(wait), "{waits:?}");
    }
    assert_eq!(tries.len(), 8, "{tries:?}");
    let [one] = &town.log(&town.browser(EMAIL).await, Whose::Own).await[..] else { panic!("one notice") };
    let [way] = &one.deliveries[..] else { panic!("one way") };
    assert_eq!((way.state, way.attempts, way.error.as_deref()), (DeliveryState::Failed, 8, Some("421 busy")));
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_again() {
    let town = Town::new().await;
    town.token(40).await;
    town.courier.set(EMAIL, Fate::Refused);
    town.clock.advance(10 * DAY);
    assert_eq!(town.told().await, []);
    town.clock.advance(DAY);
    assert_eq!(town.authority.send_due().await.expect("sends"), 0);
}

#[tokio::test]
async fn one_that_hangs_and_one_that_panics_delay_nobody() {
    let town = Town::new().await;
    let by = town.browser(EMAIL).await;
    for place in ["https://hangs.example", "https://panics.example", "https://works.example"] {
        let url = format!("{place}/hooks");
        town.authority.add_webhook(&by, Whose::Own, &url).await.expect("added");
    }
    town.courier.set("https://hangs.example/hooks", Fate::Hangs);
    town.courier.set("https://panics.example/hooks", Fate::Panics);
    town.token(40).await;
    town.clock.advance(10 * DAY);
    town.authority.start().await.expect("starts");
    until("the others are told", || town.courier.carried.lock().len() == 2).await;
    let mut places: Vec<_> = town.courier.take().into_iter().map(|(_, place)| place).collect();
    places.sort();
    assert_eq!(places, [EMAIL, "https://works.example/hooks"]);
    // What hangs is cut off when the server stops, and tried again when its claim has run out.
    tokio::time::timeout(support::PATIENCE, town.authority.stop()).await.expect("it stops");
    town.courier.fates.lock().clear();
    town.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(town.node().await.send_due().await.expect("sends"), 2);
    assert_eq!(town.courier.take().len(), 2);
}

#[tokio::test]
async fn a_webhook_gets_what_its_owner_is_told_and_nobody_else_s() {
    let town = Town::new().await;
    let (ada, root) = (town.browser(EMAIL).await, town.browser(ADMIN).await);
    let own =
        town.authority.add_webhook(&ada, Whose::Own, " https://ada.example/hooks/1 ").await.expect("added");
    town.authority.add_webhook(&root, Whose::Own, "https://root.example/hooks").await.expect("added");
    let all = town
        .authority
        .add_webhook(&root, Whose::Everybody, "https://all.example/hooks")
        .await
        .expect("added");
    town.token(40).await;
    town.clock.advance(10 * DAY);
    town.told().await;
    town.token(40).await;
    let seen = town.log(&ada, Whose::Own).await;
    let targets = |seen: &[ToldNotice]| -> Vec<_> {
        seen.iter().flat_map(|one| &one.deliveries).map(|way| way.target.clone()).collect()
    };
    assert_eq!(
        targets(&seen),
        [EMAIL, "https://ada.example"],
        "what administrators have set up is theirs to see"
    );
    assert_eq!(town.log(&root, Whose::Own).await, []);
    let seen = town.log(&root, Whose::Everybody).await;
    assert_eq!(targets(&seen), [EMAIL, "https://ada.example", "https://all.example"]);
    // Each with its own secret, the same for each request and after a restart.
    let mut secrets = town.courier.secrets.lock().clone();
    secrets.sort();
    let mut shown = [own.secret.expose().to_string(), all.secret.expose().to_string()];
    shown.sort();
    assert_eq!(secrets, shown);
    assert_eq!(town.actions().await, ["webhook.added"; 3]);
}

#[tokio::test]
async fn a_webhook_keeps_its_secret_while_the_server_secret_it_comes_from_is_there() {
    let town = Town::new().await;
    let by = town.browser(EMAIL).await;
    let added =
        town.authority.add_webhook(&by, Whose::Own, "https://ada.example/hooks").await.expect("added");
    let newer = ServerSecret::generate().expect("random");
    let both = [newer, town.secret.clone()];
    let rotated = node(&town.store, &town.clock, &both, &town.courier).await;
    let tested = rotated.test_webhook(&by, Whose::Own, added.record.webhook_id).await.expect("asks");
    assert_eq!(tested.error, None);
    assert_eq!(town.courier.secrets.lock().pop(), Some(added.secret.expose().to_string()));
    // The server secret was taken out, and the store bound anew: it cannot be signed any more, and
    // says so.
    let other = Town::new().await;
    let there = other.browser(EMAIL).await;
    let record = WebhookRecord { user_id: Some(there.user_id), ..added.record };
    let audit = AuditEntry::new(other.clock.now(), there.actor(), "webhook.added");
    other.store.insert_webhook(&record, 10, &audit).await.expect("added");
    let tested = other.authority.test_webhook(&there, Whose::Own, record.webhook_id).await.expect("asks");
    assert!(tested.error.expect("not signed").contains("add it again"));
    assert!(other.courier.take().is_empty());
}

#[tokio::test]
async fn a_test_says_at_once_whether_it_arrived_and_is_in_the_log() {
    let town = Town::new().await;
    let by = town.browser(EMAIL).await;
    let url = "https://ada.example/hooks";
    let id = town.authority.add_webhook(&by, Whose::Own, url).await.expect("added").record.webhook_id;
    let tested = town.authority.test_webhook(&by, Whose::Own, id).await.expect("asks");
    assert_eq!(tested.error, None);
    assert_eq!(
        town.courier.take(),
        [(NoticeKind::Test, url.to_owned())],
        "to that one place, and not by mail"
    );

    let too_soon = town.authority.test_webhook(&by, Whose::Own, id).await;
    assert!(matches!(too_soon, Err(AuthorityError::Throttled { .. })), "{too_soon:?}");
    town.clock.advance(Duration::from_secs(5));
    town.courier.set(url, Fate::Busy);
    let tested = town.authority.test_webhook(&by, Whose::Own, id).await.expect("asks");
    assert_eq!(tested.error.as_deref(), Some("421 busy"));
    let seen = town.log(&by, Whose::Own).await;
    assert_eq!(seen[0].notice.notice_id, tested.notice_id);
    let states: Vec<_> = seen.iter().map(|one| one.deliveries[0].state).collect();
    assert_eq!(states, [DeliveryState::Pending, DeliveryState::Done]);
    assert_eq!(town.actions().await, ["webhook.added", "webhook.tested", "webhook.tested"]);
}

#[tokio::test]
async fn a_webhook_is_its_owner_s_alone_and_an_administrator_s_no_more() {
    let town = Town::new().await;
    let (ada, root) = (town.browser(EMAIL).await, town.browser(ADMIN).await);
    let own = town.authority.add_webhook(&ada, Whose::Own, "https://ada.example/hooks").await.expect("added");
    let all = town
        .authority
        .add_webhook(&root, Whose::Everybody, "https://all.example/hooks")
        .await
        .expect("added");
    let (own, all) = (own.record.webhook_id, all.record.webhook_id);
    for (by, whose, id) in [
        (&root, Whose::Own, own),
        (&root, Whose::Everybody, own),
        (&root, Whose::Own, all),
        (&ada, Whose::Own, all),
        (&ada, Whose::Own, Uuid::nil()),
    ] {
        let removed = town.authority.remove_webhook(by, whose, id).await;
        assert!(matches!(removed, Err(AuthorityError::NotFound(_))), "{removed:?}");
        let tested = town.authority.test_webhook(by, whose, id).await;
        assert!(matches!(tested, Err(AuthorityError::NotFound(_))), "{tested:?}");
    }
    assert!(town.courier.take().is_empty());
    town.authority.remove_webhook(&ada, Whose::Own, own).await.expect("removed");
    town.authority.remove_webhook(&root, Whose::Everybody, all).await.expect("removed");
    assert!(matches!(
        town.authority.remove_webhook(&ada, Whose::Own, own).await,
        Err(AuthorityError::NotFound(_))
    ));
}

#[tokio::test]
async fn everybody_s_is_for_administrators() {
    let town = Town::new().await;
    let ada = town.browser(EMAIL).await;
    let whose = Whose::Everybody;
    let refused =
        |error: AuthorityError| assert!(matches!(error, AuthorityError::NotAdministrator), "{error:?}");
    refused(town.authority.webhooks(&ada, whose).await.expect_err("no"));
    refused(town.authority.notices(&ada, whose, None, 1).await.expect_err("no"));
    refused(town.authority.add_webhook(&ada, whose, "https://ada.example/hooks").await.expect_err("no"));
    refused(town.authority.remove_webhook(&ada, whose, Uuid::nil()).await.expect_err("no"));
    refused(town.authority.test_webhook(&ada, whose, Uuid::nil()).await.expect_err("no"));
}

#[tokio::test]
async fn a_token_looks_and_changes_nothing_whatever_it_may_do() {
    let town = Town::new().await;
    town.authority.start().await.expect("starts");
    let root = town.browser(ADMIN).await;
    let url = "https://root.example/hooks";
    let id = town.authority.add_webhook(&root, Whose::Own, url).await.expect("added").record.webhook_id;
    let token = town.with_token(ADMIN, "mcp api tokens").await;
    for whose in [Whose::Own, Whose::Everybody] {
        town.authority.webhooks(&token, whose).await.expect("it may look");
        let session_only = |error: AuthorityError| {
            assert!(matches!(error, AuthorityError::SessionOnly(_)), "{error:?}");
        };
        session_only(
            town.authority.add_webhook(&token, whose, "https://eve.example/hooks").await.expect_err("no"),
        );
        session_only(town.authority.remove_webhook(&token, whose, id).await.expect_err("no"));
        session_only(town.authority.test_webhook(&token, whose, id).await.expect_err("no"));
    }
    assert_eq!(town.authority.webhooks(&root, Whose::Own).await.expect("asks").len(), 1);
    let narrow = town.with_token(ADMIN, "mcp tokens").await;
    let refused = town.authority.notices(&narrow, Whose::Own, None, 1).await;
    assert!(matches!(refused, Err(AuthorityError::InsufficientScope { .. })), "{refused:?}");
    town.authority.stop().await;
}

#[tokio::test]
async fn a_url_that_is_not_fit_is_refused_by_its_field_and_ten_are_enough() {
    let town = Town::new().await;
    let by = town.browser(EMAIL).await;
    let refused =
        town.authority.add_webhook(&by, Whose::Own, "ftp://ada.example/hooks").await.expect_err("odd");
    assert!(
        matches!(&refused, AuthorityError::Invalid { field: "url", message } if message.contains("is odd"))
    );
    for n in 0..MAX_WEBHOOKS {
        let url = format!("https://ada.example/hooks/{n}");
        town.authority.add_webhook(&by, Whose::Own, &url).await.expect("added");
    }
    let refused = town.authority.add_webhook(&by, Whose::Own, "https://ada.example/hooks").await;
    assert!(matches!(refused, Err(AuthorityError::Conflict(_))), "{refused:?}");
}

#[tokio::test]
async fn a_verb_tells_an_owner_once_what_happened() {
    let town = Town::new().await;
    let token = town.token(40).await.token;
    for _ in 0..2 {
        let url = Some("https://example.org/repo".into());
        let seen = Candidate { token: Some(token.clone()), url, source: None };
        town.authority.report_leaks(Reporter::GitHub, vec![seen], None).await.expect("reported");
    }
    assert_eq!(town.told().await, [NoticeKind::Leaked]);
    let [one] = &town.log(&town.browser(EMAIL).await, Whose::Own).await[..] else { panic!("one") };
    assert_eq!(one.notice.facts.pat_name.as_deref(), Some("ci-pipeline"));
    assert_eq!(one.notice.facts.seen_at.as_deref(), Some("https://example.org/repo"));
}
