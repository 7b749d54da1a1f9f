//! Searches: SQL for both databases, and the pages of results.
//!
//! A page begins after the last row of the previous page (keyset pagination), so that the
//! thousandth page costs as much as the first.

use jiff::Timestamp;
use trustrelay_authority::{
    Cursor, Key, MICROS_PER_DAY, PatFilter, PatOrder, PatOwner, PatPage, PatRecord, PatState, UserFilter,
    UserPage, UserRecord, unused_day,
};
use uuid::Uuid;

/// A value in a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    Int(i64),
    Text(String),
    Id(Uuid),
}

/// A statement under construction: its conditions, and their values in order.
pub(crate) struct Conditions {
    mark: char,
    values: Vec<Given>,
    all: Vec<String>,
}

impl Conditions {
    /// Creates an empty statement. `mark` precedes a value's number: `?` or `$`.
    pub(crate) fn new(mark: char) -> Self {
        Self { mark, values: Vec::new(), all: Vec::new() }
    }

    /// Adds a value and returns its placeholder.
    pub(crate) fn value(&mut self, value: Given) -> String {
        self.values.push(value);
        format!("{}{}", self.mark, self.values.len())
    }

    pub(crate) fn also(&mut self, condition: String) {
        self.all.push(condition);
    }

    /// Takes the conditions so far.
    pub(crate) fn take(&mut self) -> String {
        let all = std::mem::take(&mut self.all);
        if all.is_empty() { "TRUE".to_owned() } else { all.join(" AND ") }
    }

    pub(crate) fn into_values(self) -> Vec<Given> {
        self.values
    }
}

/// Adds one to a page's size. The additional row shows whether there is another page.
fn with_one_more(limit: u64) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}

/// Builds the query for a page of accounts and one more, each with its number of active tokens
/// after `columns`.
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
        // The database's function for finding a substring.
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

/// Returns the smallest text after all texts that begin with `prefix`, in byte order. `None` if
/// there is none.
fn behind(prefix: &str) -> Option<String> {
    let mut letters: Vec<char> = prefix.chars().collect();
    while let Some(last) = letters.pop() {
        // `U+D800` to `U+DFFF` are not characters. A range of `char` skips them.
        if let Some(next) = (last..=char::MAX).nth(1) {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

/// Adds the condition that `text`, which is indexed in byte order, begins with `prefix`.
fn begins(conditions: &mut Conditions, text: &str, prefix: &str) {
    let prefix = prefix.to_ascii_lowercase();
    if let Some(end) = behind(&prefix) {
        let end = conditions.value(Given::Text(end));
        conditions.also(format!("{text} < {end}"));
    }
    let begin = conditions.value(Given::Text(prefix));
    conditions.also(format!("{text} >= {begin}"));
}

/// Returns the indexed expression for the name of a token `p`. PostgreSQL would otherwise compare
/// by the database's locale.
fn name(mark: char) -> &'static str {
    if mark == '?' { "p.folded_name" } else { "lower(p.name COLLATE \"C\")" }
}

/// Adds a filter's conditions on a token `p`. SQLite has no statistics about matching rows, so each
/// filter leaves it one index to use: the index with the filter's order. A unary plus before the
/// other columns keeps SQLite from using their indexes.
fn fit(conditions: &mut Conditions, filter: &PatFilter, now: Timestamp) {
    let mark = conditions.mark;
    let order = filter.order();
    let apart = |by: bool, of: &str| if by || mark != '?' { of.to_owned() } else { format!("+{of}") };
    match &filter.owner {
        None => {}
        Some(PatOwner::Id(user_id)) => {
            let user_id = conditions.value(Given::Id(*user_id));
            conditions.also(format!("p.user_id = {user_id}"));
        }
        Some(PatOwner::Email(prefix)) => {
            let email = if mark == '?' { "o.email" } else { "o.email COLLATE \"C\"" };
            let outer = std::mem::take(&mut conditions.all);
            begins(conditions, email, prefix);
            let inner = conditions.take();
            conditions.all = outer;
            conditions.also(format!("p.user_id IN (SELECT o.user_id FROM users o WHERE {inner})"));
        }
    }
    if let Some(hint) = &filter.hint {
        let hint = conditions.value(Given::Text(hint.clone()));
        conditions.also(format!("{} = {hint}", apart(filter.owner.is_none(), "p.hint")));
    }
    if let Some(prefix) = &filter.name {
        begins(conditions, &apart(order == PatOrder::Name, name(mark)), prefix);
    }
    let by_end = apart(matches!(order, PatOrder::EndsSoonest | PatOrder::EndedLast), "p.expires_at");
    match filter.state {
        Some(PatState::Revoked) => conditions.also("p.revoked_at IS NOT NULL".to_owned()),
        Some(state) => {
            let now = conditions.value(Given::Int(now.as_microsecond()));
            let sign = if state == PatState::Active { ">" } else { "<=" };
            conditions.also(format!("p.revoked_at IS NULL AND {by_end} {sign} {now}"));
        }
        None if filter.leaves_revoked_out() => conditions.also("p.revoked_at IS NULL".to_owned()),
        None => {}
    }
    if let Some(before) = filter.expires_before {
        let before = conditions.value(Given::Int(before.as_microsecond()));
        conditions.also(format!("{by_end} < {before}"));
    }
    if let Some(since) = filter.unused_since {
        let last_day = conditions.value(Given::Int(unused_day(since)));
        conditions.also(format!("{} <= {last_day}", apart(order == PatOrder::UnusedLongest, "p.used_day")));
        let since = conditions.value(Given::Int(since.as_microsecond()));
        conditions.also(format!("coalesce(p.last_used_at, p.created_at) < {since}"));
    }
}

/// Builds the query for a page of tokens and one more, each with its owner's address after
/// `columns`.
pub(crate) fn pats(
    mark: char,
    columns: &str,
    filter: &PatFilter,
    after: Option<&Cursor>,
    limit: u64,
    now: Timestamp,
) -> (String, Vec<Given>) {
    let mut conditions = Conditions::new(mark);
    let order = filter.order();
    let by = match order {
        PatOrder::Newest => "p.created_at",
        PatOrder::Name => name(mark),
        PatOrder::EndsSoonest | PatOrder::EndedLast => "p.expires_at",
        PatOrder::UnusedLongest => "p.used_day",
    };
    let (behind, descending) = if order.is_descending() { ("<", " DESC") } else { (">", "") };
    if let Some(Cursor { key, id }) = after {
        let key = match (order, key) {
            // A cursor with text that no database can store did not come from any list.
            (PatOrder::Name, Key::Text(name)) if !name.contains('\0') => Some(Given::Text(name.clone())),
            (PatOrder::Name, _) | (_, Key::Text(_)) => None,
            (PatOrder::UnusedLongest, Key::Micros(micros)) => Some(Given::Int(micros / MICROS_PER_DAY)),
            (_, Key::Micros(micros)) => Some(Given::Int(*micros)),
        };
        match key {
            Some(key) => {
                let (key, id) = (conditions.value(key), conditions.value(Given::Id(*id)));
                conditions.also(format!("({by}, p.pat_id) {behind} ({key}, {id})"));
            }
            None => conditions.also("FALSE".to_owned()),
        }
    }
    fit(&mut conditions, filter, now);
    let limit = conditions.value(Given::Int(with_one_more(limit)));
    let fits = conditions.take();
    let sql = format!(
        "SELECT {columns}, (SELECT u.email FROM users u WHERE u.user_id = p.user_id) \
         FROM pats p WHERE {fits} ORDER BY {by}{descending}, p.pat_id{descending} LIMIT {limit}"
    );
    (sql, conditions.into_values())
}

/// Counts the tokens that match a filter, up to `most`.
pub(crate) fn pats_counted(
    mark: char,
    filter: &PatFilter,
    most: u64,
    now: Timestamp,
) -> (String, Vec<Given>) {
    let mut conditions = Conditions::new(mark);
    fit(&mut conditions, filter, now);
    let most = conditions.value(Given::Int(i64::try_from(most).unwrap_or(i64::MAX)));
    let fits = conditions.take();
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM pats p WHERE {fits} LIMIT {most}) AS found");
    (sql, conditions.into_values())
}

/// Returns whether a filter asks for text with a NUL, which no database stores. A query with it
/// fails in PostgreSQL.
pub(crate) fn fits_nothing(filter: &PatFilter) -> bool {
    let email = match &filter.owner {
        Some(PatOwner::Email(prefix)) => Some(prefix),
        _ => None,
    };
    [email, filter.name.as_ref(), filter.hint.as_ref()].into_iter().flatten().any(|text| text.contains('\0'))
}

pub(crate) fn pat_page(mut pats: Vec<(PatRecord, String)>, order: PatOrder, limit: u64) -> PatPage {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = pats.len() > limit;
    pats.truncate(limit);
    let last = pats.last().filter(|_| more);
    let next = last.map(|(pat, _)| order.after(pat));
    PatPage { pats, next }
}
