//! Searches: the SQL that both databases understand, and pages of what it finds.
//!
//! A page begins behind the last row of the one before (keyset pagination), so that the thousandth costs what the first does.

use jiff::Timestamp;
use trustrelay_authority::{Cursor, Key, UserFilter, UserPage, UserRecord};
use uuid::Uuid;

/// A value in a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    Int(i64),
    Text(String),
    Id(Uuid),
}

/// A statement as it grows: its conditions, and the values in their order.
pub(crate) struct Conditions {
    mark: char,
    values: Vec<Given>,
    all: Vec<String>,
}

impl Conditions {
    /// `mark`: what stands before a value's number, `?` or `$`.
    pub(crate) fn new(mark: char) -> Self {
        Self { mark, values: Vec::new(), all: Vec::new() }
    }

    /// Another value; what stands for it in the statement.
    pub(crate) fn value(&mut self, value: Given) -> String {
        self.values.push(value);
        format!("{}{}", self.mark, self.values.len())
    }

    pub(crate) fn also(&mut self, condition: String) {
        self.all.push(condition);
    }

    /// The conditions so far, which others do not come behind any more.
    pub(crate) fn take(&mut self) -> String {
        let all = std::mem::take(&mut self.all);
        if all.is_empty() { "TRUE".to_owned() } else { all.join(" AND ") }
    }

    pub(crate) fn into_values(self) -> Vec<Given> {
        self.values
    }
}

/// One row more than a page has says whether there is another page.
fn with_one_more(limit: u64) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}

/// The accounts of a page and one more, each with its count of active tokens behind `columns`.
pub(crate) fn users(
    mark: char,
    columns: &str,
    filter: &UserFilter,
    after: Option<&Cursor>,
    limit: u64,
    now: Timestamp,
) -> (String, Vec<Given>) {
    let mut conditions = Conditions::new(mark);
    let at = conditions.value(Given::Int(now.as_microsecond()));
    match after {
        None => {}
        Some(Cursor { key: Key::Micros(micros), id }) => {
            let (key, id) = (conditions.value(Given::Int(*micros)), conditions.value(Given::Id(*id)));
            conditions.also(format!("(u.created_at, u.user_id) < ({key}, {id})"));
        }
        Some(_) => conditions.also("FALSE".to_owned()),
    }
    if let Some(text) = &filter.email {
        let part = conditions.value(Given::Text(text.to_ascii_lowercase()));
        // What finds a text in another, by the database's own name.
        let find = if mark == '?' { "instr" } else { "strpos" };
        conditions.also(format!("{find}(lower(u.email), {part}) > 0"));
    }
    let not = |is: bool| if is { "" } else { "NOT " };
    if let Some(is_admin) = filter.is_admin {
        conditions.also(format!("{}u.is_admin", not(is_admin)));
    }
    if let Some(is_disabled) = filter.is_disabled {
        conditions.also(format!("u.disabled_at IS {}NULL", not(!is_disabled)));
    }
    let limit = conditions.value(Given::Int(with_one_more(limit)));
    let fits = conditions.take();
    let sql = format!(
        "SELECT {columns}, (SELECT COUNT(*) FROM pats p WHERE p.user_id = u.user_id AND p.revoked_at IS NULL AND p.expires_at > {at}) \
         FROM users u WHERE {fits} ORDER BY u.created_at DESC, u.user_id DESC LIMIT {limit}"
    );
    (sql, conditions.into_values())
}

pub(crate) fn user_page(mut users: Vec<(UserRecord, u64)>, limit: u64) -> UserPage {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = users.len() > limit;
    users.truncate(limit);
    let last = users.last().filter(|_| more);
    let next =
        last.map(|(user, _)| Cursor { key: Key::Micros(user.created_at.as_microsecond()), id: user.user_id });
    UserPage { users, next }
}
