//! Stories of what administrators decide.

use futures_util::future::join_all;
use jiff::Timestamp;
use uuid::Uuid;

use super::kit::{AUDIT, added, at, issued, log_after, user};
use crate::admin::{Cursor, InviteRecord, Key, UserChange, UserFilter};
use crate::record::{Change, UserRecord};
use crate::store::{Store, StoreError};

const MANY: u64 = 100;

fn invite(email: &str, micros: i64) -> InviteRecord {
    let invite_id = Uuid::now_v7();
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(invite_id.as_bytes());
    InviteRecord {
        invite_id,
        digest,
        email: email.to_owned(),
        is_admin: false,
        created_by: None,
        created_at: at(micros),
        expires_at: at(micros + 1000),
    }
}

async fn invited(store: &dyn Store, email: &str, micros: i64) -> InviteRecord {
    let invite = invite(email, micros);
    store.insert_invite(&invite, MANY, &AUDIT).await.expect("invited");
    invite
}

async fn open(store: &dyn Store, now: Timestamp) -> Vec<InviteRecord> {
    store.invites(now).await.expect("asks")
}

async fn administrator(store: &dyn Store, email: &str) -> UserRecord {
    let user = UserRecord { is_admin: true, ..user(email) };
    store.insert_user(&user, &AUDIT).await.expect("added");
    user
}

async fn told(store: &dyn Store) -> usize {
    store.audit_after(0, 1000).await.expect("asks").len()
}

async fn stored(store: &dyn Store, user: &UserRecord) -> UserRecord {
    store.user_by_id(user.user_id).await.expect("asks").expect("there")
}

/// All that was given comes back, by the digest and in the list, newest first.
pub async fn an_invitation_reads_back_until_it_expires(store: &dyn Store) {
    let ada = administrator(store, "ada@example.org").await;
    let eve = InviteRecord { is_admin: true, created_by: Some(ada.user_id), ..invite("eve@example.org", 5) };
    store.insert_invite(&eve, MANY, &AUDIT).await.expect("invited");
    let bob = invited(store, "bob@example.org", 6).await;
    assert_eq!(open(store, at(1004)).await, [bob.clone(), eve.clone()]);
    assert_eq!(open(store, at(1005)).await, std::slice::from_ref(&bob), "it has expired at its time");
    assert_eq!(store.invite_by_digest(&eve.digest).await.expect("asks"), Some(eve));
    assert_eq!(store.invite_by_digest(&[9; 32]).await.expect("asks"), None);
}

/// Whoever lost the link gets another, and the lost one is no good; what has expired goes as well.
pub async fn a_second_invitation_of_an_address_takes_the_place_of_the_first(store: &dyn Store) {
    let (first, other) =
        (invited(store, "eve@example.org", 0).await, invited(store, "bob@example.org", 0).await);
    let second = invited(store, "eve@example.org", 10).await;
    assert_eq!(open(store, at(10)).await, [second.clone(), other.clone()]);
    assert_eq!(store.invite_by_digest(&first.digest).await.expect("asks"), None);
    invited(store, "cyd@example.org", 1000).await;
    assert_eq!(store.invite_by_digest(&other.digest).await.expect("asks"), None, "it had expired");
    assert!(store.invite_by_digest(&second.digest).await.expect("asks").is_some());
}

/// Who has an account needs no invitation; and there is room for so many.
pub async fn an_invitation_of_an_account_or_beyond_the_limit_is_refused(store: &dyn Store) {
    added(store, "ada@example.org").await;
    let taken = store.insert_invite(&invite("ada@example.org", 0), MANY, &AUDIT).await;
    assert!(matches!(taken, Err(StoreError::EmailTaken)), "{taken:?}");
    let first = invited(store, "bob@example.org", 0).await;
    let before = told(store).await;
    let full = store.insert_invite(&invite("cyd@example.org", 0), 1, &AUDIT).await;
    assert!(matches!(full, Err(StoreError::TooManyInvites(1))), "{full:?}");
    assert_eq!(open(store, at(0)).await, [first]);
    assert_eq!(told(store).await, before, "nothing was changed");
    store.insert_invite(&invite("bob@example.org", 1), 1, &AUDIT).await.expect("in place of his own");
    store.insert_invite(&invite("cyd@example.org", 1001), 1, &AUDIT).await.expect("his has expired");
}

/// The account is made as it was said, and the link does not work again.
pub async fn an_invitation_is_accepted_once(store: &dyn Store) {
    let invite = invited(store, "eve@example.org", 0).await;
    let eve = UserRecord { created_at: at(999), is_admin: true, ..user("eve@example.org") };
    assert!(store.accept_invite(&invite.digest, &eve, &AUDIT).await.expect("asks"));
    assert_eq!(stored(store, &eve).await, eve);
    assert_eq!(open(store, at(0)).await, []);
    let before = told(store).await;
    let again = UserRecord { created_at: at(999), ..user("eve2@example.org") };
    assert!(!store.accept_invite(&invite.digest, &again, &AUDIT).await.expect("asks"));
    assert_eq!(store.list_users().await.expect("asks"), [eve]);
    assert_eq!(told(store).await, before);
}

/// Two browsers with the same link do not both get an account.
pub async fn of_many_who_accept_at_once_one_does(store: &dyn Store) {
    let invite = invited(store, "eve@example.org", 0).await;
    let users: Vec<_> = (0..10).map(|_| user("eve@example.org")).collect();
    let accepted = join_all(users.iter().map(|user| store.accept_invite(&invite.digest, user, &AUDIT))).await;
    assert_eq!(accepted.iter().filter(|accepted| matches!(accepted, Ok(true))).count(), 1, "{accepted:?}");
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
    assert_eq!(store.list_users().await.expect("asks").len(), 1);
}

/// An address that got an account in another way keeps it, and an expired or unknown link makes
/// none.
pub async fn what_cannot_be_accepted_any_more_makes_no_account(store: &dyn Store) {
    let invite = invited(store, "eve@example.org", 0).await;
    let late = UserRecord { created_at: at(1000), ..user("eve@example.org") };
    assert!(!store.accept_invite(&invite.digest, &late, &AUDIT).await.expect("asks"));
    assert!(!store.accept_invite(&[7; 32], &late, &AUDIT).await.expect("asks"));
    let eve = added(store, "eve@example.org").await;
    let taken = store.accept_invite(&invite.digest, &user("eve@example.org"), &AUDIT).await;
    assert!(matches!(taken, Err(StoreError::EmailTaken)), "{taken:?}");
    assert_eq!(store.list_users().await.expect("asks"), [eve]);
    assert!(store.invite_by_digest(&invite.digest).await.expect("asks").is_some(), "nothing was done");
}

/// Whoever it was sent to finds it gone.
pub async fn an_invitation_is_taken_back_once(store: &dyn Store) {
    let (one, two) = (invited(store, "eve@example.org", 0).await, invited(store, "bob@example.org", 0).await);
    assert!(store.delete_invite(one.invite_id, &AUDIT).await.expect("asks"));
    let before = told(store).await;
    assert!(!store.delete_invite(one.invite_id, &AUDIT).await.expect("asks"));
    assert_eq!((open(store, at(0)).await, told(store).await), (vec![two], before));
    let gone = store.accept_invite(&one.digest, &user("eve@example.org"), &AUDIT).await;
    assert!(!gone.expect("asks"));
}

/// Each such change is an entry that every node hears of, and one of the audit log; what is so
/// already is neither.
pub async fn an_account_s_role_and_upstreams_are_changed_by_entries_of_the_log(store: &dyn Store) {
    let (ada, eve) = (administrator(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let some = Some(vec!["github".to_owned(), "wiki".to_owned()]);
    let changes = [
        (UserChange::Admin(true), Change::AdminChanged(eve.user_id)),
        (UserChange::Admin(false), Change::AdminChanged(eve.user_id)),
        (UserChange::Upstreams(some.clone()), Change::UpstreamsChanged(eve.user_id)),
        (UserChange::Upstreams(Some(Vec::new())), Change::UpstreamsChanged(eve.user_id)),
        (UserChange::Upstreams(None), Change::UpstreamsChanged(eve.user_id)),
    ];
    let begun = told(store).await;
    for (seq, (change, entry)) in (1..).zip(&changes) {
        for again in 0..2 {
            let now = at(i64::try_from(seq).expect("small") + again);
            assert_eq!(store.change_user(eve.user_id, change, now, &AUDIT).await.expect("asks"), Some(seq));
        }
        let log = log_after(store, seq - 1).await;
        assert_eq!(log.iter().map(|entry| &entry.change).collect::<Vec<_>>(), [entry]);
        let is = stored(store, &eve).await;
        match change {
            UserChange::Admin(is_admin) => assert_eq!(is.is_admin, *is_admin),
            UserChange::Upstreams(upstreams) => assert_eq!(is.upstreams, *upstreams),
            UserChange::NarrowUpstreams(names) => assert_eq!(is.upstreams.as_ref(), Some(names)),
        }
    }
    assert_eq!(told(store).await, begun + changes.len());
    assert_eq!((stored(store, &eve).await, stored(store, &ada).await), (eve, ada));
}

/// The transaction compares with what is stored then, not with what a caller read before.
pub async fn narrowing_upstreams_never_adds_one(store: &dyn Store) {
    let eve = added(store, "eve@example.org").await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let narrow = async |to: &[&str]| {
        store.change_user(eve.user_id, &UserChange::NarrowUpstreams(names(to)), at(1), &AUDIT).await
    };
    // All upstreams: every list is narrower. Then the same list and its parts are.
    for (seq, to) in [(1, &["git", "wiki"][..]), (1, &["git", "wiki"]), (2, &["wiki"])] {
        assert_eq!(narrow(to).await.expect("narrower"), Some(seq), "{to:?}");
    }
    let before = told(store).await;
    for to in [&["git"][..], &["git", "wiki"], &["wik"]] {
        let refused = narrow(to).await;
        assert!(matches!(refused, Err(StoreError::WidensUpstreams)), "{to:?}: {refused:?}");
    }
    assert_eq!((stored(store, &eve).await.upstreams, told(store).await), (Some(names(&["wiki"])), before));
    assert_eq!(narrow(&[]).await.expect("narrower"), Some(3));
    assert!(matches!(narrow(&["wiki"]).await, Err(StoreError::WidensUpstreams)));
}

/// What was not changed is named by entry zero; who is not there is not made.
pub async fn what_is_so_already_and_who_is_not_there_make_no_entry(store: &dyn Store) {
    let eve = added(store, "eve@example.org").await;
    for change in [UserChange::Admin(false), UserChange::Upstreams(None)] {
        assert_eq!(store.change_user(eve.user_id, &change, at(1), &AUDIT).await.expect("asks"), Some(0));
        assert_eq!(store.change_user(Uuid::now_v7(), &change, at(1), &AUDIT).await.expect("asks"), None);
    }
    assert_eq!(store.log_head().await.expect("asks"), 0);
}

/// In whatever way it would go: its role, or the account.
pub async fn the_last_administrator_stays(store: &dyn Store) {
    let (ada, bob) =
        (administrator(store, "ada@example.org").await, administrator(store, "bob@example.org").await);
    added(store, "eve@example.org").await;
    store.set_user_disabled(bob.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    let before = (told(store).await, store.log_head().await.expect("asks"));
    let withdrawn = store.change_user(ada.user_id, &UserChange::Admin(false), at(2), &AUDIT).await;
    assert!(matches!(withdrawn, Err(StoreError::LastAdministrator)), "{withdrawn:?}");
    let disabled = store.set_user_disabled(ada.user_id, Some(at(2)), at(2), &AUDIT).await;
    assert!(matches!(disabled, Err(StoreError::LastAdministrator)), "{disabled:?}");
    assert_eq!(before, (told(store).await, store.log_head().await.expect("asks")));
    assert_eq!(stored(store, &ada).await, ada);
    // One that is disabled does not count, and may lose the role as well.
    store.change_user(bob.user_id, &UserChange::Admin(false), at(3), &AUDIT).await.expect("asks");
    store.change_user(bob.user_id, &UserChange::Admin(true), at(4), &AUDIT).await.expect("asks");
    store.set_user_disabled(bob.user_id, None, at(5), &AUDIT).await.expect("asks");
    store.change_user(ada.user_id, &UserChange::Admin(false), at(6), &AUDIT).await.expect("there is another");
}

/// Two who remove each other at the same time do not both succeed.
pub async fn of_many_administrators_who_go_at_once_one_stays(store: &dyn Store) {
    for round in 0..5 {
        let mut administrators = Vec::new();
        for n in 0..6 {
            administrators.push(administrator(store, &format!("{n}@{round}.example.org")).await);
        }
        let before = store.list_users().await.expect("asks");
        for user in before.iter().filter(|user| user.is_admin && !administrators.contains(user)) {
            store.change_user(user.user_id, &UserChange::Admin(false), at(1), &AUDIT).await.expect("asks");
        }
        let goes = administrators.iter().enumerate().map(|(n, user)| async move {
            if n % 2 == 0 {
                store.change_user(user.user_id, &UserChange::Admin(false), at(2), &AUDIT).await
            } else {
                store.set_user_disabled(user.user_id, Some(at(2)), at(2), &AUDIT).await
            }
        });
        let went = join_all(goes).await;
        let refused = went.iter().filter(|went| matches!(went, Err(StoreError::LastAdministrator))).count();
        assert_eq!((refused, went.iter().filter(|went| went.is_ok()).count()), (1, 5), "{went:?}");
        let users = store.list_users().await.expect("asks");
        assert_eq!(users.iter().filter(|user| user.is_admin && user.disabled_at.is_none()).count(), 1);
    }
}

/// Page by page, each account once, newest first, each with its tokens that are good.
pub async fn people_are_listed_page_by_page(store: &dyn Store) {
    let mut users = Vec::new();
    for (n, micros) in [3, 1, 2, 1, 2].into_iter().enumerate() {
        let user = UserRecord { created_at: at(micros), ..user(&format!("{n}@example.org")) };
        store.insert_user(&user, &AUDIT).await.expect("added");
        users.push(user);
    }
    let (good, gone) = (issued(store, &users[0]).await, issued(store, &users[0]).await);
    store.revoke_pat(gone.pat_id, at(1), &AUDIT).await.expect("asks");
    users.sort_by_key(|user| std::cmp::Reverse((user.created_at, user.user_id)));
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let all = UserFilter::default();
        let page = store.search_users(&all, after.as_ref(), 2, at(5)).await.expect("asks");
        found.extend(page.users);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, found.iter().map(|(user, _)| user.clone()).collect::<Vec<_>>()), (3, users));
    let tokens: Vec<_> = found.iter().map(|(_, tokens)| *tokens).collect();
    assert_eq!(tokens, [1, 0, 0, 0, 0]);
    let later = store.search_users(&UserFilter::default(), None, 9, good.expires_at).await.expect("asks");
    assert_eq!((later.users[0].1, later.next), (0, None));
    let foreign = Cursor { key: Key::Text("a".into()), id: Uuid::nil() };
    let none = store.search_users(&UserFilter::default(), Some(&foreign), 9, at(5)).await.expect("asks");
    assert_eq!(none.users, [], "a cursor of another list leads nowhere");
}

/// By a part of the address, the role and the state, alone and together.
pub async fn people_are_found_by_address_role_and_state(store: &dyn Store) {
    let ada = administrator(store, "ada@example.org").await;
    let bob = administrator(store, "bob_100%@example.org").await;
    let cyd = added(store, "cyd@Example.net").await;
    store.set_user_disabled(bob.user_id, Some(at(1)), at(1), &AUDIT).await.expect("asks");
    let asks = |email: &str, is_admin, is_disabled| {
        let email = (!email.is_empty()).then(|| email.to_owned());
        let filter = UserFilter { email, is_admin, is_disabled };
        async move {
            let page = store.search_users(&filter, None, 9, at(5)).await.expect("asks");
            page.users.into_iter().map(|(user, _)| user.user_id).collect::<Vec<_>>()
        }
    };
    let newest_first = [cyd.user_id, bob.user_id, ada.user_id];
    assert_eq!(asks("", None, None).await, newest_first);
    assert_eq!(asks("EXAMPLE", None, None).await, newest_first, "letters in either case");
    assert_eq!(asks("ada@", None, None).await, [ada.user_id]);
    for (sign, fits) in [("_", vec![bob.user_id]), ("%", vec![bob.user_id]), ("\\", vec![]), ("\0", vec![])] {
        assert_eq!(asks(sign, None, None).await, fits, "{sign:?} stands for itself");
    }
    assert_eq!(asks("", Some(true), None).await, [bob.user_id, ada.user_id]);
    assert_eq!(asks("", Some(false), None).await, [cyd.user_id]);
    assert_eq!(asks("", None, Some(true)).await, [bob.user_id]);
    assert_eq!(asks("org", Some(true), Some(false)).await, [ada.user_id]);
}
