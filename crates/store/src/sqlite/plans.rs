//! Query plans: queries on large tables must use an index in the right order, so that no table is
//! scanned and nothing is sorted.

use jiff::Timestamp;
use rusqlite::types::Value as Given;
use rusqlite::{Connection, StatementStatus, params_from_iter};
use trustrelay_authority::{
    AuditFilter, AuditLook, AuditPlace, Cursor, Key, PatFilter, PatOrder, PatOwner, PatState, UserFilter,
};
use uuid::Uuid;

use crate::sql::audit_page::{self, Value};
use crate::sql::search;
use crate::sqlite::admin::given;
use crate::sqlite::audit;
use crate::sqlite::keys;
use crate::sqlite::notices;
use crate::sqlite::open::{SqliteOptions, connect, prepare};
use crate::sqlite::pats;
use crate::sqlite::rotation;
use crate::sqlite::rotation::{BY_RETIRED_SECRET, BY_SECRET};
use crate::sqlite::rows::{PAT, USER};
use crate::sqlite::unused::{Days, question, spans};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct Database {
    connection: Connection,
    _dir: tempfile::TempDir,
}

impl Database {
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = SqliteOptions::default();
        let path = prepare(dir.path(), &options).expect("opens");
        Self { connection: connect(&path, &options).expect("opens"), _dir: dir }
    }

    /// Returns the steps of SQLite's plan.
    fn plan(&self, sql: &str, values: Vec<Given>) -> Vec<String> {
        let mut explain = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
        let nulls = explain.parameter_count().saturating_sub(values.len());
        let values = values.into_iter().chain(std::iter::repeat_n(Given::Null, nulls));
        let steps = explain.query_map(params_from_iter(values), |row| row.get(3)).expect("explains");
        steps.collect::<rusqlite::Result<_>>().expect("explains")
    }

    /// Checks a query's plan. It must begin with a search in `index` or, if `may_begin_anywhere`, a
    /// scan of that index from one end. All other steps must be searches, and none may sort.
    fn goes_by(&self, index: &str, may_begin_anywhere: bool, sql: &str, values: Vec<Given>) {
        let plan = self.plan(sql, values);
        let first = plan.first().expect("a step");
        assert!(first.ends_with(index) || first.contains(&format!("INDEX {index} ")), "{sql}\n{plan:#?}");
        for (at, step) in plan.iter().enumerate() {
            assert!(!step.contains("B-TREE"), "it sorts: {sql}\n{plan:#?}");
            // Intermediate results of the statement are small, so scanning them is fine.
            let is_of_what_was_found = ["SCAN t", "SCAN tree", "SCAN sides"].contains(&step.as_str());
            let reads_all = step.starts_with("SCAN") && !is_of_what_was_found;
            assert!(!reads_all || (at == 0 && may_begin_anywhere), "it reads all: {sql}\n{plan:#?}");
        }
    }
}

fn given_all(values: Vec<search::Given>) -> Vec<Given> {
    values.into_iter().map(given).collect()
}

#[test]
fn a_page_of_everybody_s_tokens_comes_from_an_index_that_has_its_order() {
    let database = Database::empty();
    let all = PatFilter::default;
    let state = |state| PatFilter { state: Some(state), ..all() };
    let owner = PatFilter { owner: Some(PatOwner::Id(Uuid::nil())), ..all() };
    let time = Some(NOW);
    let (active, expired, revoked) = (PatState::Active, PatState::Expired, PatState::Revoked);
    let everything = PatFilter {
        name: Some("ci".into()),
        hint: Some("...wxyz".into()),
        expires_before: time,
        unused_since: time,
        ..state(active)
    };
    for (filter, index, goes_through_all) in [
        (all(), "pats_by_age", true),
        (owner.clone(), "pats_of_user", false),
        (PatFilter { state: Some(active), ..owner.clone() }, "pats_of_user", false),
        (PatFilter { owner: owner.owner.clone(), ..everything.clone() }, "pats_of_user", false),
        (everything.clone(), "pats_by_hint", false),
        (PatFilter { hint: Some("...wxyz".into()), ..all() }, "pats_by_hint", false),
        (PatFilter { hint: None, ..everything }, "pats_by_name", false),
        (PatFilter { name: Some("ci".into()), ..all() }, "pats_by_name", false),
        (PatFilter { name: Some("ci".into()), ..state(revoked) }, "pats_by_name", false),
        (state(active), "pats_by_expiry", false),
        (state(expired), "pats_by_expiry", false),
        (state(revoked), "pats_revoked", true),
        (PatFilter { expires_before: time, ..all() }, "pats_by_expiry", false),
        (PatFilter { expires_before: time, ..state(active) }, "pats_by_expiry", false),
        (PatFilter { expires_before: time, ..state(revoked) }, "pats_revoked", true),
        (PatFilter { unused_since: time, ..all() }, "pats_by_use", false),
        (PatFilter { unused_since: time, ..state(active) }, "pats_by_use", false),
        (PatFilter { unused_since: time, expires_before: time, ..state(expired) }, "pats_by_use", false),
    ] {
        let (sql, values) = search::pats('?', PAT, &filter, None, 50, NOW);
        database.goes_by(index, goes_through_all, &sql, given_all(values));
        let key = if filter.order() == PatOrder::Name { Key::Text("ci".into()) } else { Key::Micros(1) };
        let cursor = Cursor { key, id: Uuid::nil() };
        let (sql, values) = search::pats('?', PAT, &filter, Some(&cursor), 50, NOW);
        database.goes_by(index, false, &sql, given_all(values.clone()));
        // The search must continue at the exact row, even among many rows with equal keys.
        let plan = database.plan(&sql, given_all(values));
        assert!(plan[0].contains(",pat_id)"), "{sql}\n{plan:#?}");
        if filter != all() {
            let (sql, values) = search::pats_counted('?', &filter, 10_001, NOW);
            let plan = database.plan(&sql, given_all(values));
            assert!(plan.iter().any(|step| step.contains(&format!("INDEX {index}"))), "{sql}\n{plan:#?}");
        }
    }
}

#[test]
fn the_tokens_of_those_whose_address_begins_so_come_from_their_owners() {
    let database = Database::empty();
    let email = PatFilter { owner: Some(PatOwner::Email("ada".into())), ..PatFilter::default() };
    for filter in [PatFilter { state: Some(PatState::Active), ..email.clone() }, email] {
        for (sql, values) in
            [search::pats('?', PAT, &filter, None, 50, NOW), search::pats_counted('?', &filter, 10_001, NOW)]
        {
            let plan = database.plan(&sql, given_all(values));
            let goes_by = |step: &String| step.starts_with("SEARCH p USING") && step.contains("pats_of_user");
            assert!(plan.iter().any(goes_by), "{plan:#?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN") && step != "SCAN found"), "{plan:#?}");
        }
    }
}

#[test]
fn what_is_asked_of_tokens_at_other_times_goes_by_an_index() {
    let database = Database::empty();
    let numbers = |n| vec![Given::Integer(1); n];
    database.goes_by("pats_of_user", false, &pats::active(), numbers(2));
    database.goes_by("pats_by_expiry", false, notices::ENDING, numbers(2));
    database.goes_by("pats_by_expiry", false, &notices::untold(), numbers(5));
    database.goes_by("pats_to_be_used", false, &question('?', PAT, Days::Own), numbers(4));
    database.goes_by("pats_unused", false, &question('?', PAT, Days::OfAll), numbers(5));
    let (sql, values) = search::users('?', USER, &UserFilter::default(), None, 50, NOW);
    database.goes_by("users_by_age", true, &sql, given_all(values));
}

#[test]
fn what_has_ended_is_passed_over_unread_when_unused_tokens_are_looked_for() {
    let database = Database::empty();
    let sql = "INSERT INTO users (user_id, email, password_hash, is_admin, created_at) VALUES (x'01', 'ada@example.org', '', FALSE, 0); \
        INSERT INTO pats (pat_id, user_id, name, hint, scopes, digest, key_id, created_at, expires_at, unused_days) \
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2999) \
        SELECT randomblob(16), x'01', 'ci', '...wxyz', 'mcp', randomblob(32), 1, 0, n * 86400000000, 1 FROM n";
    database.connection.execute_batch(sql).expect("filled");
    // All tokens but one have expired: most of them long ago, some in the span in which that one
    // expires.
    let now = 2_998 * 86_400_000_000_i64;
    let mut steps = 0;
    for days in [Days::Own, Days::OfAll] {
        let mut ask = |sql: &str, values: &[i64]| {
            let mut asked = database.connection.prepare(sql).expect(sql);
            let found =
                asked.query_map(params_from_iter(values), |row| row.get::<_, Given>(0)).expect("asks");
            let found = found.collect::<rusqlite::Result<Vec<_>>>().expect("reads");
            steps += asked.get_status(StatementStatus::VmStep);
            found
        };
        let Ok([Given::Integer(span)]) = <[Given; 1]>::try_from(ask(&spans('?', days), &[now])) else {
            panic!("nothing ends in any other span")
        };
        let values = [now, now, 100, span, 30];
        let values = if matches!(days, Days::Own) { &values[..4] } else { &values[..] };
        assert_eq!(ask(&question('?', "p.pat_id", days), values).len(), 1);
    }
    assert!(steps < 3000, "{steps} steps");
}

#[test]
fn a_page_of_the_audit_log_comes_from_an_index_that_has_its_order() {
    let database = Database::empty();
    let none = AuditFilter::default;
    let id = Some(Uuid::nil());
    for (filter, index, goes_through_all) in [
        (none(), "audit_by_time", true),
        (AuditFilter { from: Some(NOW), to: Some(NOW), ..none() }, "audit_by_time", false),
        (AuditFilter { user_id: id, ..none() }, "audit_by_user", false),
        (AuditFilter { user_id: id, from: Some(NOW), ..none() }, "audit_by_user", false),
        (AuditFilter { actor_id: id, ..none() }, "audit_by_actor_user", false),
        (AuditFilter { action: Some("token.leaked".into()), ..none() }, "audit_by_action", false),
        (AuditFilter { action: Some("refused".into()), ..none() }, "audit_by_subject", false),
    ] {
        for (after, oldest_first) in
            [(None, false), (None, true), (Some(AuditPlace { at: NOW, seq: 7 }), false)]
        {
            let look = AuditLook { filter: filter.clone(), after, limit: 50, oldest_first };
            let (sql, values) = audit_page::question(&look, '?', audit::SUBJECT);
            let values = values.into_iter().map(|value| match value {
                Value::Number(number) => number.into(),
                Value::Id(id) => id.as_bytes().to_vec().into(),
                Value::Text(text) => text.into(),
            });
            database.goes_by(index, goes_through_all && after.is_none(), &sql, values.collect());
        }
    }
}

/// The result must not depend on the number of tokens, or on how many of them were re-keyed.
#[test]
fn what_is_asked_about_one_token_reads_no_table_whole() {
    let database = Database::empty();
    for sql in [
        keys::BY_FORMER_DIGEST,
        audit::TOKEN_FACTS,
        rotation::RETIRE,
        rotation::NAME_RETIRED,
        pats::NAME_FORMER,
        "DELETE FROM former_digests WHERE pat_id = ?1",
    ] {
        let plan = database.plan(sql, Vec::new());
        // A recursive query scans its own intermediate results.
        let of_what_was_found = ["SCAN CONSTANT ROW", "SCAN t", "SCAN tree"];
        let reads_all =
            |step: &String| step.starts_with("SCAN") && !of_what_was_found.contains(&step.as_str());
        assert!(!plan.iter().any(reads_all), "{sql}\n{plan:#?}");
        let searches = plan.iter().any(|step| step.starts_with("SEARCH"));
        assert!(searches, "{sql}\n{plan:#?}");
    }
}

#[test]
fn what_tokens_are_looked_up_with_is_prepared_once() {
    let database = Database::empty();
    for sql in [&BY_SECRET, &BY_RETIRED_SECRET] {
        for secret in 0..10 {
            let mut look_up = database.connection.prepare_cached(sql).expect("prepares");
            assert!(!look_up.exists([[secret; 32]]).expect("looks"));
            assert_eq!(look_up.get_status(StatementStatus::RePrepare), 0, "{}", **sql);
        }
    }
}
