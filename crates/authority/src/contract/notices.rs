//! Notices: made once, with a way to each place, and claimed by one at a time.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use jiff::Timestamp;
use trustrelay_token::KeyId;
use uuid::Uuid;

use super::kit::{AUDIT, added, at, insert, issued, pat, user};
use crate::notices::{
    Channel, Claim, Delivery, DeliveryState, Expiring, MAX_WEBHOOKS, NewNotice, Notice, NoticeFacts,
    NoticeKind, Outcome, Target, ToldNotice, WebhookRecord,
};
use crate::record::{PatRecord, UserRecord};
use crate::store::{Store, StoreError};

/// A webhook that is not in the store yet.
pub(super) fn webhook(owner: Option<&UserRecord>) -> WebhookRecord {
    let webhook_id = Uuid::now_v7();
    WebhookRecord {
        webhook_id,
        user_id: owner.map(|owner| owner.user_id),
        url: format!("https://hooks.example.org/{webhook_id}?ä=1"),
        origin: "https://hooks.example.org".into(),
        key_id: KeyId(u32::MAX),
        created_at: at(0),
    }
}

pub(super) async fn hooked(store: &dyn Store, owner: Option<&UserRecord>) -> WebhookRecord {
    let webhook = webhook(owner);
    store.insert_webhook(&webhook, MAX_WEBHOOKS, &AUDIT).await.expect("added");
    webhook
}

/// A notice to an account, made at 0.
pub(super) fn told(owner: &UserRecord, once: &str) -> NewNotice {
    let notice = Notice {
        notice_id: Uuid::now_v7(),
        user_id: owner.user_id,
        pat_id: Some(Uuid::now_v7()),
        kind: NoticeKind::Leaked,
        created_at: at(0),
        facts: NoticeFacts { pat_name: Some("na\u{0}me \"ü\"".into()), ..NoticeFacts::default() },
    };
    NewNotice { notice, once: once.into(), only: None }
}

fn claim_at(now: i64) -> Claim {
    Claim { now: at(now), until: at(now + 100), limit: 100, notice_id: None }
}

pub(super) async fn claimed(store: &dyn Store, now: i64) -> Vec<Delivery> {
    store.claim_deliveries(&claim_at(now)).await.expect("claims")
}

pub(super) async fn listed(store: &dyn Store, owner: Option<&UserRecord>) -> Vec<ToldNotice> {
    store.notices(owner.map(|owner| owner.user_id), None, 100).await.expect("asks")
}

async fn told_of(store: &dyn Store) -> usize {
    store.audit_after(0, 1000).await.expect("asks").len()
}

/// What was added is what is listed: of one's own, or for all.
pub async fn a_webhook_reads_back_whole_and_is_its_account_s_alone(store: &dyn Store) {
    let (ada, bob) = (added(store, "ada@example.org").await, added(store, "bob@example.org").await);
    let (first, second) = (hooked(store, Some(&ada)).await, hooked(store, Some(&ada)).await);
    let for_all = hooked(store, None).await;
    assert_eq!(store.webhooks(Some(ada.user_id)).await.expect("asks"), [first, second]);
    assert_eq!(store.webhooks(Some(bob.user_id)).await.expect("asks"), []);
    assert_eq!(store.webhooks(None).await.expect("asks"), [for_all]);
    assert_eq!(told_of(store).await, 5, "each has its entry in the audit log");
}

/// Who is not there, or is disabled.
pub async fn nobody_and_a_disabled_account_get_no_webhook(store: &dyn Store) {
    let (nobody, eve) = (user("nobody@example.org"), added(store, "eve@example.org").await);
    store.set_user_disabled(eve.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    let before = told_of(store).await;
    for owner in [&nobody, &eve] {
        let refused = store.insert_webhook(&webhook(Some(owner)), MAX_WEBHOOKS, &AUDIT).await;
        assert!(matches!(refused, Err(StoreError::UserGone)), "{refused:?}");
        assert_eq!(store.webhooks(Some(owner.user_id)).await.expect("asks"), []);
    }
    assert_eq!(told_of(store).await, before);
}

/// One's own are counted apart from those for all.
pub async fn there_is_a_limit_to_an_account_s_webhooks_and_to_those_for_all(store: &dyn Store) {
    let (ada, bob) = (added(store, "ada@example.org").await, added(store, "bob@example.org").await);
    for owner in [Some(&ada), None] {
        for _ in 0..2 {
            store.insert_webhook(&webhook(owner), 2, &AUDIT).await.expect("added");
        }
        let before = told_of(store).await;
        let refused = store.insert_webhook(&webhook(owner), 2, &AUDIT).await;
        assert!(matches!(refused, Err(StoreError::TooManyWebhooks(2))), "{refused:?}");
        assert_eq!(told_of(store).await, before);
    }
    store.insert_webhook(&webhook(Some(&bob)), 2, &AUDIT).await.expect("another account's are its own");
}

/// However many come at once, there are no more than that.
pub async fn the_limit_of_webhooks_holds_when_many_come_at_once(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    for owner in [Some(&ada), None] {
        let webhooks: Vec<_> = (0..8).map(|_| webhook(owner)).collect();
        let added = join_all(webhooks.iter().map(|webhook| store.insert_webhook(webhook, 3, &AUDIT))).await;
        assert_eq!(added.iter().filter(|added| added.is_ok()).count(), 3, "{added:?}");
        assert_eq!(store.webhooks(owner.map(|owner| owner.user_id)).await.expect("asks").len(), 3);
    }
}

/// What has arrived stays in the log, and so does what was given up.
pub async fn a_webhook_is_removed_once_and_what_is_pending_for_it_is_given_up(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let (gone, stays) = (hooked(store, Some(&ada)).await, hooked(store, Some(&ada)).await);
    store.add_notices(&[told(&ada, "a")], false).await.expect("kept");
    let before = told_of(store).await;
    assert!(store.delete_webhook(gone.webhook_id, at(7), &AUDIT).await.expect("asks"));
    assert!(!store.delete_webhook(gone.webhook_id, at(8), &AUDIT).await.expect("asks"));
    assert_eq!(told_of(store).await, before + 1);
    assert_eq!(store.webhooks(Some(ada.user_id)).await.expect("asks"), std::slice::from_ref(&stays));
    let [told] = &listed(store, Some(&ada)).await[..] else { panic!("one notice") };
    for delivery in &told.deliveries {
        let is_gone = delivery.webhook_id == Some(gone.webhook_id);
        let expected = if is_gone {
            (DeliveryState::Failed, Some("the webhook was removed".to_owned()), Some(at(7)))
        } else {
            (DeliveryState::Pending, None, None)
        };
        assert_eq!((delivery.state, delivery.error.clone(), delivery.done_at), expected);
    }
    let [delivery] = &claimed(store, 9).await[..] else { panic!("one is left") };
    assert_eq!(delivery.target, Target::Webhook(stays));
}

/// By mail, to the account's webhooks, and to those for all.
pub async fn a_notice_reads_back_with_a_way_to_each_place(store: &dyn Store) {
    let (ada, bob) = (added(store, "ada@example.org").await, added(store, "bob@example.org").await);
    let (own, for_all) = (hooked(store, Some(&ada)).await, hooked(store, None).await);
    hooked(store, Some(&bob)).await;
    let new = told(&ada, "a");
    assert_eq!(store.add_notices(std::slice::from_ref(&new), true).await.expect("kept"), 1);
    let [one] = &listed(store, Some(&ada)).await[..] else { panic!("one notice") };
    assert_eq!((&one.notice, one.email.as_str()), (&new.notice, "ada@example.org"));
    let [mail, webhooks @ ..] = &one.deliveries[..] else { panic!("by mail first") };
    assert_eq!(
        (mail.channel, mail.target.as_str(), mail.webhook_id),
        (Channel::Mail, "ada@example.org", None)
    );
    let ways: BTreeSet<_> = webhooks.iter().map(|way| (way.webhook_id, way.is_shared)).collect();
    assert_eq!(ways, BTreeSet::from([(Some(own.webhook_id), false), (Some(for_all.webhook_id), true)]));
    for way in &one.deliveries {
        assert_eq!((way.attempts, way.next_at, way.state), (0, at(0), DeliveryState::Pending));
        assert_eq!((&way.error, way.done_at), (&None, None));
    }
    assert!(
        webhooks.iter().all(|way| way.target == "https://hooks.example.org"),
        "and nothing more of the URL"
    );
    // Where there is no way for mail, there is none by mail; where there is nothing, it is in the
    // list nevertheless.
    store.add_notices(&[told(&bob, "b")], false).await.expect("kept");
    let [one] = &listed(store, Some(&bob)).await[..] else { panic!("one notice") };
    assert!(one.deliveries.iter().all(|way| way.channel == Channel::Webhook), "{:?}", one.deliveries);
}

/// On several nodes, at once, and after a restart.
pub async fn a_notice_is_made_once_however_many_tell_of_it(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    hooked(store, Some(&ada)).await;
    let tell = |order: [&str; 2]| order.map(|once| told(&ada, once));
    let all: Vec<_> = (0..8).map(|n| tell(if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] })).collect();
    let made = join_all(all.iter().map(|notices| store.add_notices(notices, true))).await;
    assert_eq!(made.into_iter().map(|made| made.expect("asks")).sum::<u64>(), 2);
    assert_eq!(store.add_notices(&tell(["a", "b"]), true).await.expect("asks"), 0);
    let told = listed(store, Some(&ada)).await;
    assert_eq!(told.iter().map(|one| one.deliveries.len()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(store.add_notices(&[], true).await.expect("asks"), 0);
}

/// And one of whom nothing is known sinks none of the others.
pub async fn nobody_and_a_disabled_account_are_told_nothing(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    store.set_user_disabled(eve.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    let notices = [told(&user("nobody@example.org"), "n"), told(&eve, "e"), told(&ada, "a")];
    assert_eq!(store.add_notices(&notices, true).await.expect("kept"), 1);
    let told = listed(store, None).await;
    assert_eq!(told.iter().map(|one| one.notice.user_id).collect::<Vec<_>>(), [ada.user_id]);
}

/// Such as a test of that webhook.
pub async fn what_is_for_one_webhook_goes_to_no_other(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    hooked(store, Some(&ada)).await;
    hooked(store, None).await;
    let meant = hooked(store, Some(&ada)).await;
    let new = NewNotice { only: Some(meant.webhook_id), ..told(&ada, "a") };
    store.add_notices(&[new], true).await.expect("kept");
    let [delivery] = &claimed(store, 0).await[..] else { panic!("one way") };
    assert_eq!(delivery.target, Target::Webhook(meant));
}

/// Nobody gets what another one has, and it is not lost if that one is.
pub async fn what_is_due_is_claimed_once_until_the_claim_runs_out(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let new = told(&ada, "a");
    store.add_notices(std::slice::from_ref(&new), true).await.expect("kept");
    assert_eq!(claimed(store, -1).await, [], "it is not due yet");
    let [first] = &claimed(store, 5).await[..] else { panic!("it is due") };
    assert_eq!((&first.notice, first.email.as_str(), first.attempt), (&new.notice, "ada@example.org", 1));
    assert_eq!(first.target, Target::Mail("ada@example.org".into()));
    assert_eq!(claimed(store, 104).await, []);
    let [again] = &claimed(store, 105).await[..] else { panic!("the claim has run out") };
    assert_eq!((again.delivery_id, again.attempt), (first.delivery_id, 2));
}

/// However many nodes ask at once.
pub async fn of_many_claims_at_once_each_gets_its_own(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let notices: Vec<_> = (0..30).map(|n| told(&ada, &n.to_string())).collect();
    store.add_notices(&notices, true).await.expect("kept");
    let claim = Claim { limit: 10, ..claim_at(0) };
    let got = join_all((0..6).map(|_| store.claim_deliveries(&claim))).await;
    let mut got: Vec<_> = got.into_iter().flat_map(|got| got.expect("claims")).collect();
    // Who comes at the same time may pass over what another one just looks at: it stays due.
    got.extend(store.claim_deliveries(&claim_at(0)).await.expect("claims"));
    let different: BTreeSet<_> = got.iter().map(|delivery| delivery.delivery_id).collect();
    assert_eq!((got.len(), different.len()), (30, 30));
    assert!(got.iter().all(|delivery| delivery.attempt == 1));
}

/// Those that are due for longest come first, and of a notice alone only its own.
pub async fn a_claim_of_one_notice_takes_no_other(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let later = |n: i64| {
        let mut new = told(&ada, &n.to_string());
        new.notice.created_at = at(n);
        new
    };
    let notices: Vec<_> = [3, 1, 2].into_iter().map(later).collect();
    store.add_notices(&notices, true).await.expect("kept");
    let id = notices[0].notice.notice_id;
    let claim = Claim { notice_id: Some(id), ..claim_at(10) };
    let [only] = &store.claim_deliveries(&claim).await.expect("claims")[..] else { panic!("one") };
    assert_eq!(only.notice.notice_id, id);
    let claim = Claim { limit: 1, ..claim_at(10) };
    let [oldest] = &store.claim_deliveries(&claim).await.expect("claims")[..] else { panic!("one") };
    assert_eq!(oldest.notice.created_at, at(1));
}

/// Whoever was too slow changes nothing.
pub async fn how_a_try_went_is_written_down_by_whoever_has_the_last_claim(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    store.add_notices(&[told(&ada, "a")], true).await.expect("kept");
    let state = || async {
        let [one] = &listed(store, Some(&ada)).await[..] else { panic!("one notice") };
        let [way] = &one.deliveries[..] else { panic!("one way") };
        (way.state, way.attempts, way.next_at, way.error.clone(), way.done_at)
    };
    let finish = |delivery: Delivery, outcome: Outcome, now: Timestamp| async move {
        store.finish_delivery(delivery.delivery_id, delivery.attempt, now, &outcome).await.expect("asks")
    };
    let slow = claimed(store, 0).await.remove(0);
    let quick = claimed(store, 100).await.remove(0);
    assert!(!finish(slow, Outcome::Done, at(101)).await, "its claim has run out, and another one has it");
    let later = Outcome::Later { next_at: at(500), error: "busy".into() };
    assert!(finish(quick.clone(), later, at(102)).await);
    assert_eq!(state().await, (DeliveryState::Pending, 2, at(500), Some("busy".into()), None));
    assert_eq!(claimed(store, 499).await, []);
    let third = claimed(store, 500).await.remove(0);
    assert!(!finish(quick, Outcome::Failed("late".into()), at(501)).await);
    assert!(finish(third.clone(), Outcome::Done, at(502)).await);
    assert_eq!(state().await, (DeliveryState::Done, 3, at(600), None, Some(at(502))));
    assert!(!finish(third, Outcome::Failed("late".into()), at(503)).await, "what has arrived has arrived");
    assert_eq!(claimed(store, 10_000).await, []);
    store.add_notices(&[told(&ada, "b")], true).await.expect("kept");
    let given_up = claimed(store, 0).await.remove(0);
    assert!(finish(given_up, Outcome::Failed("550 no such user".into()), at(9)).await);
    let told = listed(store, Some(&ada)).await;
    let way = &told[0].deliveries[0];
    assert_eq!(
        (way.state, way.error.as_deref(), way.done_at),
        (DeliveryState::Failed, Some("550 no such user"), Some(at(9)))
    );
}

/// If it was removed while a claim on it ran, whoever claims next is told.
pub async fn what_goes_to_a_webhook_that_is_gone_says_so(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let webhook = hooked(store, Some(&ada)).await;
    store.add_notices(&[told(&ada, "a")], false).await.expect("kept");
    let delivery = claimed(store, 0).await.remove(0);
    store.delete_webhook(webhook.webhook_id, at(1), &AUDIT).await.expect("asks");
    let outcome = Outcome::Later { next_at: at(2), error: "busy".into() };
    assert!(
        !store.finish_delivery(delivery.delivery_id, delivery.attempt, at(1), &outcome).await.expect("asks"),
        "it was given up with the webhook"
    );
    assert_eq!(claimed(store, 1000).await, []);
}

/// From the one before that on.
pub async fn notices_are_listed_newest_first_and_page_by_page(store: &dyn Store) {
    let (ada, bob) = (added(store, "ada@example.org").await, added(store, "bob@example.org").await);
    let mut notices: Vec<_> =
        (0..5).map(|n| told(if n == 2 { &bob } else { &ada }, &n.to_string())).collect();
    store.add_notices(&notices, true).await.expect("kept");
    notices.sort_by_key(|new| std::cmp::Reverse(new.notice.notice_id));
    let ids = |told: &[ToldNotice]| told.iter().map(|one| one.notice.notice_id).collect::<Vec<_>>();
    let all: Vec<_> = notices.iter().map(|new| new.notice.notice_id).collect();
    assert_eq!(ids(&listed(store, None).await), all);
    let own: Vec<_> = all.iter().copied().filter(|id| *id != all[2]).collect();
    assert_eq!(ids(&listed(store, Some(&ada)).await), own);
    let first = store.notices(Some(ada.user_id), None, 3).await.expect("asks");
    assert_eq!(ids(&first), own[..3]);
    let rest = store.notices(Some(ada.user_id), Some(own[2]), 3).await.expect("asks");
    assert_eq!(ids(&rest), own[3..]);
    assert_eq!(ids(&store.notices(None, Some(all[1]), 2).await.expect("asks")), all[2..4]);
}

/// A few at a time.
pub async fn old_notices_are_forgotten_with_their_ways(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let made = |n: i64| {
        let mut new = told(&ada, &n.to_string());
        new.notice.created_at = at(n);
        new
    };
    store.add_notices(&[made(1), made(2), made(3), made(4)], true).await.expect("kept");
    assert_eq!(store.forget_notices(at(1), 10).await.expect("asks"), 0);
    assert_eq!(store.forget_notices(at(4), 2).await.expect("asks"), 2);
    assert_eq!(store.forget_notices(at(4), 2).await.expect("asks"), 1);
    let told = listed(store, None).await;
    assert_eq!(told.iter().map(|one| one.notice.created_at).collect::<Vec<_>>(), [at(4)]);
    assert_eq!(claimed(store, 100).await.len(), 1, "what is forgotten is not sent");
}

/// Tokens that expire after 10 and not after 20, made to live longer than 10.
fn lacking() -> Expiring {
    Expiring { kind: NoticeKind::Expiring7d, after: at(10), until: at(20), made_before: 10 }
}

async fn found(store: &dyn Store) -> Vec<Uuid> {
    store.expiring(&lacking(), 100).await.expect("asks").iter().map(|pat| pat.pat_id).collect()
}

fn ends(owner: &UserRecord, expires_at: i64) -> PatRecord {
    PatRecord { expires_at: at(expires_at), ..pat(owner) }
}

/// A token that gets another end is told of that one too.
pub async fn tokens_near_their_end_are_found_until_they_are_told_of(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let mut pats = Vec::new();
    for expires_at in [21, 20, 11, 10] {
        pats.push(insert(store, ends(&ada, expires_at)).await);
    }
    let due = [&pats[2], &pats[1]];
    assert_eq!(found(store).await, due.map(|pat| pat.pat_id), "those that expire first come first");
    assert_eq!(store.expiring(&lacking(), 1).await.expect("asks"), std::slice::from_ref(due[0]));
    let tell = |kind: NoticeKind, pat: &PatRecord| {
        let once = crate::notices::once_for_end(kind, pat.pat_id, pat.expires_at);
        NewNotice { once, ..told(&ada, "") }
    };
    // Another kind, and another end of the same token, are other notices.
    let other_end = PatRecord { expires_at: at(12), ..due[0].clone() };
    let others = [tell(NoticeKind::Expiring1d, due[0]), tell(NoticeKind::Expiring7d, &other_end)];
    store.add_notices(&others, true).await.expect("kept");
    assert_eq!(found(store).await, due.map(|pat| pat.pat_id));
    store.add_notices(&[tell(NoticeKind::Expiring7d, due[0])], true).await.expect("kept");
    assert_eq!(found(store).await, [due[1].pat_id]);
}

/// Revoked ones, those of disabled accounts, and those that were made with no more time than that.
pub async fn tokens_of_no_use_are_not_told_of_their_end(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let (revoked, short) = (ends(&ada, 15), PatRecord { created_at: at(5), ..ends(&ada, 15) });
    let enough = PatRecord { created_at: at(4), ..ends(&ada, 15) };
    for pat in [&revoked, &short, &enough, &ends(&eve, 15)] {
        insert(store, pat.clone()).await;
    }
    store.revoke_pat(revoked.pat_id, at(6), &AUDIT).await.expect("asks");
    store.set_user_disabled(eve.user_id, Some(at(6)), at(6), &AUDIT).await.expect("asks");
    assert_eq!(found(store).await, [enough.pat_id]);
}

/// Active ones only, and to the microsecond.
pub async fn tokens_are_counted_by_their_end(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    assert_eq!(store.pats_by_end(at(0), &[at(10)]).await.expect("asks"), [0]);
    for expires_at in [5, 10, 11, 1000] {
        insert(store, ends(&ada, expires_at)).await;
    }
    let revoked = issued(store, &ada).await;
    store.revoke_pat(revoked.pat_id, at(6), &AUDIT).await.expect("asks");
    let ends = [at(5), at(10), at(11), Timestamp::MAX];
    assert_eq!(store.pats_by_end(at(0), &ends).await.expect("asks"), [1, 2, 3, 4]);
    assert_eq!(store.pats_by_end(at(5), &ends).await.expect("asks"), [0, 1, 2, 3]);
    assert_eq!(store.pats_by_end(at(5), &[]).await.expect("asks"), [0; 0]);
}
