//! Stories of everybody's tokens, as administrators look for them.

use super::kit::{AUDIT, added, at, insert, issued, pat, stored};
use crate::admin::{Cursor, Key, PatFilter, PatOwner, PatState};
use crate::record::{PatRecord, Usage};
use crate::store::Store;
use uuid::Uuid;

async fn found(store: &dyn Store, filter: PatFilter) -> Vec<String> {
    let page = store.search_pats(&filter, None, 100, at(500)).await.expect("asks");
    let count = store.count_pats(&filter, 100, at(500)).await.expect("asks");
    assert_eq!(count, page.pats.len() as u64, "{filter:?}");
    page.pats.into_iter().map(|(pat, _)| pat.name).collect()
}

/// Page by page, each token once, newest first, each with its owner's address; revoked and expired
/// ones too.
pub async fn everybody_s_tokens_are_listed_page_by_page(store: &dyn Store) {
    let (ada, eve) = (added(store, "ada@example.org").await, added(store, "eve@example.org").await);
    let mut all = Vec::new();
    for (owner, micros) in [(&ada, 3), (&eve, 1), (&ada, 2), (&eve, 2), (&ada, 1)] {
        let new = PatRecord { created_at: at(micros), ..pat(owner) };
        all.push((insert(store, new).await, owner.email.clone()));
    }
    store.revoke_pat(all[0].0.pat_id, at(4), &AUDIT).await.expect("asks");
    all[0].0 = stored(store, &all[0].0).await;
    all.sort_by_key(|(pat, _)| std::cmp::Reverse((pat.created_at, pat.pat_id)));
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let any = PatFilter::default();
        let page = store.search_pats(&any, after.as_ref(), 2, at(5)).await.expect("asks");
        found.extend(page.pats);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, found), (3, all));
    let foreign = Cursor { key: Key::Text("a".into()), id: Uuid::nil() };
    let none = store.search_pats(&PatFilter::default(), Some(&foreign), 9, at(5)).await.expect("asks");
    assert_eq!(none.pats, [], "a cursor of another list leads nowhere");
}

/// By whose they are and by how the name begins: signs stand for themselves, letters in either
/// case.
pub async fn tokens_are_found_by_owner_and_by_how_the_name_begins(store: &dyn Store) {
    let (ada, adam) = (added(store, "ada@example.org").await, added(store, "adam_1@example.org").await);
    for (micros, owner, name) in [
        (1, &ada, "CI nightly"),
        (2, &ada, "ci_weekly"),
        (3, &adam, "ci%"),
        (4, &adam, "Żółw"),
        (5, &adam, "c"),
    ] {
        insert(store, PatRecord { name: name.into(), created_at: at(micros), ..pat(owner) }).await;
    }
    let of = |owner| PatFilter { owner: Some(owner), ..PatFilter::default() };
    let email = |text: &str| of(PatOwner::Email(text.to_owned()));
    let named = |text: &str| PatFilter { name: Some(text.to_owned()), ..PatFilter::default() };
    assert_eq!(found(store, of(PatOwner::Id(ada.user_id))).await, ["ci_weekly", "CI nightly"]);
    assert_eq!(found(store, of(PatOwner::Id(Uuid::nil()))).await, [""; 0]);
    assert_eq!(found(store, email("ada@")).await, ["ci_weekly", "CI nightly"]);
    assert_eq!(found(store, email("ADA")).await.len(), 5, "an address is kept in lower case");
    assert_eq!(found(store, email("adam_")).await, ["c", "Żółw", "ci%"]);
    for nobody in ["example.org", "ada_", "ada%", "\0", "\u{10ffff}"] {
        assert_eq!(found(store, email(nobody)).await, [""; 0], "{nobody:?}");
    }
    assert_eq!(found(store, named("CI")).await, ["CI nightly", "ci%", "ci_weekly"]);
    assert_eq!(found(store, named("ci_")).await, ["ci_weekly"]);
    assert_eq!(found(store, named("ci%")).await, ["ci%"]);
    assert_eq!(found(store, named("Żó")).await, ["Żółw"]);
    for nothing in ["nightly", "\0", "\u{d7ff}", "\u{10ffff}"] {
        assert_eq!(found(store, named(nothing)).await, [""; 0], "{nothing:?}");
    }
    assert_eq!(found(store, PatFilter { name: Some("ci".into()), ..email("ada@") }).await.len(), 2);
}

/// By what has become of them, by when they end and by when they were used: each of it to the
/// microsecond.
pub async fn tokens_are_found_by_state_end_and_last_use(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let mut pats = Vec::new();
    for (micros, name, end) in [(1, "revoked", 900), (2, "expired", 500), (3, "short", 501), (4, "long", 900)]
    {
        let (name, created_at, expires_at) = (name.to_owned(), at(micros), at(end));
        pats.push(insert(store, PatRecord { name, created_at, expires_at, ..pat(&ada) }).await);
    }
    store.revoke_pat(pats[0].pat_id, at(5), &AUDIT).await.expect("asks");
    let used = Usage {
        pat_id: pats[3].pat_id,
        last_used_at: at(300),
        address: None,
        user_agent: None,
        count: 1,
        networks: Vec::new(),
    };
    store.record_usage(&[used]).await.expect("kept");
    let any = PatFilter::default;
    let state = |state| PatFilter { state: Some(state), ..any() };
    assert_eq!(found(store, any()).await, ["long", "short", "expired", "revoked"]);
    assert_eq!(found(store, state(PatState::Active)).await, ["short", "long"]);
    assert_eq!(found(store, state(PatState::Expired)).await, ["expired"]);
    assert_eq!(found(store, state(PatState::Revoked)).await, ["revoked"]);
    let before = |micros| PatFilter { expires_before: Some(at(micros)), ..any() };
    assert_eq!(found(store, before(501)).await, ["expired"]);
    assert_eq!(found(store, before(502)).await, ["expired", "short"]);
    let since = |micros| PatFilter { unused_since: Some(at(micros)), ..state(PatState::Active) };
    assert_eq!(found(store, since(300)).await, ["short"]);
    assert_eq!(found(store, since(301)).await, ["short", "long"]);
    assert_eq!(found(store, since(3)).await, [""; 0], "what never was used counts from when it was made");
}

/// Of those that stand or have expired, if nothing is said of their state: what was revoked can
/// neither end nor be used.
pub async fn when_tokens_end_or_were_used_is_asked_of_those_that_are_not_revoked(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let new = |name: &str, end| PatRecord { name: name.into(), expires_at: at(end), ..pat(&ada) };
    let revoked = insert(store, new("revoked", 100)).await;
    insert(store, new("expired", 100)).await;
    insert(store, new("stands", 900)).await;
    store.revoke_pat(revoked.pat_id, at(5), &AUDIT).await.expect("asks");
    let any = PatFilter::default;
    let (before, since) = (Some(at(901)), Some(at(901)));
    assert_eq!(found(store, PatFilter { expires_before: before, ..any() }).await, ["expired", "stands"]);
    assert_eq!(found(store, PatFilter { unused_since: since, ..any() }).await.len(), 2);
    for filter in [PatFilter { expires_before: before, ..any() }, PatFilter { unused_since: since, ..any() }]
    {
        let of_them = PatFilter { state: Some(PatState::Revoked), ..filter };
        assert_eq!(found(store, of_them).await, ["revoked"]);
    }
}

/// A hint is found whole.
pub async fn tokens_are_found_by_their_hint(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    for (micros, hint) in [(1, "...AbCd"), (2, "...abcd"), (3, "...AbCd")] {
        let name = format!("{micros} {hint}");
        insert(store, PatRecord { name, hint: hint.into(), created_at: at(micros), ..pat(&ada) }).await;
    }
    let hint = |hint: &str| PatFilter { hint: Some(hint.to_owned()), ..PatFilter::default() };
    assert_eq!(found(store, hint("...AbCd")).await, ["3 ...AbCd", "1 ...AbCd"]);
    for none in ["...AbC", "AbCd", "...ABCD", "...", "\0"] {
        assert_eq!(found(store, hint(none)).await, [""; 0], "{none:?}");
    }
    let of_another = PatFilter { name: Some("2".into()), ..hint("...AbCd") };
    assert_eq!(found(store, of_another).await, [""; 0]);
}

/// Each order page by page, by one token a page: all once, and each where the list as a whole has
/// it.
pub async fn pages_in_every_order_leave_no_token_out(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let day = 86_400_000_000;
    // Twins in each of what a list goes by, so that the ids decide as well.
    for n in [3, 1, 2, 3, 1, 2] {
        let name = if n == 2 { "CI".to_owned() } else { format!("ci-{n}") };
        let (created_at, expires_at) = (at(n * day), at((10 - n) * day));
        let pat = insert(store, PatRecord { name, created_at, expires_at, ..pat(&ada) }).await;
        if n == 1 {
            let last_used_at = at(4 * day + 5);
            let used = Usage {
                pat_id: pat.pat_id,
                last_used_at,
                address: None,
                user_agent: None,
                count: 1,
                networks: Vec::new(),
            };
            store.record_usage(&[used]).await.expect("kept");
        }
    }
    let any = PatFilter::default;
    let (active, expired) = (Some(PatState::Active), Some(PatState::Expired));
    for (now, filter) in [
        (5 * day, any()),
        (5 * day, PatFilter { name: Some("ci".into()), ..any() }),
        (5 * day, PatFilter { state: active, ..any() }),
        (20 * day, PatFilter { state: expired, ..any() }),
        (5 * day, PatFilter { expires_before: Some(at(20 * day)), ..any() }),
        (5 * day, PatFilter { unused_since: Some(at(20 * day)), ..any() }),
        (5 * day, PatFilter { owner: Some(PatOwner::Id(ada.user_id)), name: Some("ci".into()), ..any() }),
    ] {
        let whole = store.search_pats(&filter, None, 100, at(now)).await.expect("asks");
        assert_eq!((whole.pats.len(), whole.next), (6, None), "{filter:?}");
        let keys = whole.pats.iter().map(|(pat, _)| (filter.order().key(pat), pat.pat_id));
        let is_in_order =
            if filter.order().is_descending() { keys.rev().is_sorted() } else { keys.is_sorted() };
        assert!(is_in_order, "{filter:?}: {:?}", whole.pats);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.search_pats(&filter, after.as_ref(), 1, at(now)).await.expect("asks");
            found.extend(page.pats);
            after = page.next;
            if after.is_none() || found.len() > 6 {
                break;
            }
        }
        assert_eq!(found, whole.pats, "{filter:?}");
    }
}

/// A count ends at its bound, whatever lies behind it.
pub async fn tokens_are_counted_up_to_a_bound(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    for _ in 0..3 {
        issued(store, &ada).await;
    }
    for (most, counted) in [(0, 0), (2, 2), (3, 3), (4, 3)] {
        let count = store.count_pats(&PatFilter::default(), most, at(5)).await.expect("asks");
        assert_eq!(count, counted, "up to {most}");
    }
}
