//! Searches: the SQL that both databases understand, and pages of what it finds.
//!
//! A page begins behind the last row of the one before (keyset pagination), so that the thousandth costs what the first does.

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

/// The text behind all that begin with `prefix`, in the order of their bytes; `None` if there is none.
fn behind(prefix: &str) -> Option<String> {
    let mut letters: Vec<char> = prefix.chars().collect();
    while let Some(last) = letters.pop() {
        // `U+D800` to `U+DFFF` are no characters: a range of them passes over those.
        if let Some(next) = (last..=char::MAX).nth(1) {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

/// Adds that `text`, which an index has in the order of its bytes, begins with `prefix`.
fn begins(conditions: &mut Conditions, text: &str, prefix: &str) {
    let prefix = prefix.to_ascii_lowercase();
    if let Some(end) = behind(&prefix) {
        let end = conditions.value(Given::Text(end));
        conditions.also(format!("{text} < {end}"));
    }
    let begin = conditions.value(Given::Text(prefix));
    conditions.also(format!("{text} >= {begin}"));
}

/// The name of a token `p`, as an index has it. PostgreSQL compares by the language of the database, if it is not told otherwise.
fn name(mark: char) -> &'static str {
    if mark == '?' { "p.folded_name" } else { "lower(p.name COLLATE \"C\")" }
}

/// What a filter asks of a token `p`. SQLite knows nothing of how many rows fit: so of each filter one thing is left to it to go by, that
/// whose index has the filter's order; before all else stands a sign that keeps it from the indexes of that.
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

/// The tokens of a page and one more, each with its owner's address behind `columns`.
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
            // No list has led to text that no database keeps.
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

/// How many tokens a filter fits, up to `most`.
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

/// Whether a filter asks for what no database keeps: text with this character. To ask PostgreSQL for it is an error.
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
