//! Stories of pages: whatever is asked for is answered, and is what lies behind the place that was
//! given.

use jiff::Timestamp;
use uuid::Uuid;

use super::kit::{AUDIT, added, at, insert, pat};
use crate::admin::{Cursor, Key, PatFilter, PatOwner, PatState, UserFilter};
use crate::audit::{AuditAction, AuditFilter, AuditLook, AuditPlace, AuditRecord};
use crate::record::PatRecord;
use crate::store::Store;

/// Text that means something to a database, that it does not keep, or that is long.
fn texts() -> Vec<String> {
    let odd = [
        "",
        "ci",
        "CI",
        "%",
        "_",
        "\\",
        "'",
        "\0",
        "ci\0",
        "\u{1}",
        "Żółw",
        "\u{10ffff}",
        "token",
        "token.created",
    ];
    odd.into_iter().map(str::to_owned).chain(["x".repeat(10_000)]).collect()
}

/// Every place that anybody can make up, in a list that goes by times or by text.
fn cursors() -> Vec<Cursor> {
    let day = 86_400_000_000;
    let micros = [i64::MIN, -1, 0, 1, 2, day, 3 * day, i64::MAX].map(Key::Micros);
    let keys = micros.into_iter().chain(texts().into_iter().map(Key::Text));
    keys.flat_map(|key| [Uuid::nil(), Uuid::max()].map(|id| Cursor { key: key.clone(), id })).collect()
}

/// Whether a row is behind a place, in a list where rows have such keys. Text that no database
/// keeps is nowhere.
fn is_behind(row: (Key, Uuid), place: &Cursor, is_descending: bool) -> bool {
    let is_of_the_list = match (&row.0, &place.key) {
        (Key::Micros(_), Key::Micros(_)) => true,
        (Key::Text(_), Key::Text(text)) => !text.contains('\0'),
        _ => false,
    };
    let place = (place.key.clone(), place.id);
    is_of_the_list && if is_descending { row < place } else { row > place }
}

/// Of tokens and people.
pub async fn every_place_in_a_list_leads_to_what_is_behind_it(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    added(store, "ZOË@example.org").await;
    let day = 86_400_000_000;
    for (n, name) in (1..).zip(["ci", "CI-2", "%", "_ci", "Żółw", "ci", "x"]) {
        let (created_at, expires_at) = (at(n * day), at((20 - n) * day));
        insert(store, PatRecord { name: name.into(), created_at, expires_at, ..pat(&ada) }).await;
    }
    let now = at(16 * day);
    let any = PatFilter::default;
    let mut filters = vec![
        any(),
        PatFilter { state: Some(PatState::Active), ..any() },
        PatFilter { state: Some(PatState::Expired), ..any() },
        PatFilter { state: Some(PatState::Revoked), ..any() },
        PatFilter { expires_before: Some(Timestamp::MAX), ..any() },
        PatFilter { unused_since: Some(Timestamp::MAX), ..any() },
        PatFilter { unused_since: Some(Timestamp::MIN), ..any() },
    ];
    for text in texts() {
        filters.push(PatFilter { name: Some(text.clone()), ..any() });
        filters.push(PatFilter { hint: Some(text.clone()), ..any() });
        filters.push(PatFilter { owner: Some(PatOwner::Email(text)), ..any() });
    }
    for filter in filters {
        let whole = store.search_pats(&filter, None, 100, now).await.expect("asks").pats;
        for place in cursors() {
            let order = filter.order();
            let mut behind = whole.clone();
            behind.retain(|(pat, _)| is_behind((order.key(pat), pat.pat_id), &place, order.is_descending()));
            behind.truncate(2);
            let page = store.search_pats(&filter, Some(&place), 2, now).await.expect("answers");
            assert_eq!(page.pats, behind, "{filter:?} after {place:?}");
        }
    }
    for email in [None].into_iter().chain(texts().into_iter().map(Some)) {
        let filter = UserFilter { email, ..UserFilter::default() };
        let whole = store.search_users(&filter, None, 100, now).await.expect("asks").users;
        for place in cursors() {
            let mut behind = whole.clone();
            behind.retain(|(user, _)| {
                is_behind((Key::Micros(user.created_at.as_microsecond()), user.user_id), &place, true)
            });
            let page = store.search_users(&filter, Some(&place), 100, now).await.expect("answers");
            assert_eq!(page.users, behind, "{filter:?} after {place:?}");
        }
    }
}

/// Of the audit log.
pub async fn every_place_in_the_audit_log_leads_to_what_is_behind_it(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    for micros in [1, 2, 3] {
        let token = insert(store, PatRecord { created_at: at(micros), ..pat(&ada) }).await;
        store.revoke_pat(token.pat_id, at(micros), &AUDIT).await.expect("asks");
    }
    let place_of = |record: &AuditRecord| {
        let at = Timestamp::from_microsecond(record.columns.at).expect("in range");
        AuditPlace { at, seq: record.seq }
    };
    let times = [Timestamp::MIN, at(-1), at(0), at(2), Timestamp::MAX];
    let actions = texts().iter().map(|text| Some(AuditAction::from(text.as_str()))).collect::<Vec<_>>();
    for action in [None].into_iter().chain(actions) {
        for oldest_first in [false, true] {
            let filter = AuditFilter { action: action.clone(), ..AuditFilter::default() };
            let look = AuditLook { filter, after: None, oldest_first, limit: 100 };
            let whole = store.audit_page(&look).await.expect("answers");
            for after in times.iter().flat_map(|at| [0, 2, u64::MAX].map(|seq| AuditPlace { at: *at, seq })) {
                let mut behind = whole.clone();
                behind.retain(|record| {
                    let here = place_of(record);
                    if oldest_first { here > after } else { here < after }
                });
                let look = AuditLook { after: Some(after), ..look.clone() };
                assert_eq!(store.audit_page(&look).await.expect("answers"), behind, "{look:?}");
            }
        }
    }
    for (from, to) in times.iter().flat_map(|from| times.map(|to| (Some(*from), Some(to)))) {
        let filter = AuditFilter { from, to, ..AuditFilter::default() };
        let look = AuditLook { filter: filter.clone(), after: None, oldest_first: true, limit: u64::MAX };
        for record in store.audit_page(&look).await.expect("answers") {
            let at = place_of(&record).at;
            assert!(from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to), "{filter:?}: {at}");
        }
    }
}
