//! The audit log. The writer is alone in its transaction, so numbers have no gaps and the chain has
//! no forks.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use trustrelay_authority::{
    AuditColumns, AuditEnds, AuditEntry, AuditLink, AuditLook, AuditRecord, AuditSeal, AuditStore,
    Credential, Power, PowerFacts, StoreError, TokenFacts, chained,
};
use uuid::Uuid;

use crate::sql::audit_page::{COLUMNS, Value, question};
use crate::sqlite::SqliteStore;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::rows::{optional_time, time};

/// Proof that the authority of an entry's actor was checked. For a change, only [`permit`] creates
/// one, and no entry can be appended without one.
#[derive(Clone, Copy)]
#[must_use = "a change appends its entry with it"]
pub(crate) struct Permit(());

/// The facts that decide whether an acting token still has its authority.
pub(crate) const TOKEN_FACTS: &str = "SELECT p.revoked_at, p.expires_at, p.digest = ?3 OR EXISTS (SELECT 1 FROM former_digests f WHERE f.digest = ?3 \
     AND f.pat_id = p.pat_id), r.valid_until, COALESCE(r.ended, 0) FROM pats p \
     LEFT JOIN retired_secrets r ON r.digest = ?3 AND r.pat_id = p.pat_id \
     WHERE p.pat_id = ?1 AND p.user_id = ?2";
/// Checks that the entry's actor may still do what the entry describes. Must be the first step in
/// the change's transaction, because the change itself may end the actor's authority.
pub(crate) fn permit(connection: &Connection, entry: &AuditEntry) -> Result<Permit, StoreError> {
    if let Some(power) = entry.actor.power() {
        power.judge(&facts(connection, power)?, entry.at)?;
    }
    if let Some(seq) = entry.actor.policy() {
        let mut present = connection.prepare_cached("SELECT version FROM policy").or_store()?;
        if present.query_row([], |row| row.get::<_, u64>(0)).or_store()? != seq {
            return Err(StoreError::PolicyChanged);
        }
    }
    Ok(Permit(()))
}

fn facts(connection: &Connection, power: &Power) -> Result<PowerFacts, StoreError> {
    let user_id = power.user_id.as_bytes();
    let user: Option<(bool, bool)> = connection
        .prepare_cached("SELECT disabled_at IS NULL, is_admin FROM users WHERE user_id = ?1")
        .or_store()?
        .query_row([user_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .or_store()?;
    let (is_enabled, is_admin) = user.unwrap_or_default();
    let mut facts = PowerFacts { is_enabled, is_admin, ..PowerFacts::default() };
    match power.credential {
        Some(Credential::Session(digest)) => {
            facts.session_expires_at = connection
                .prepare_cached("SELECT expires_at FROM browser_sessions WHERE digest = ?1 AND user_id = ?2")
                .or_store()?
                .query_row(params![digest, user_id], |row| time(row, 0))
                .optional()
                .or_store()?;
        }
        Some(Credential::Secret { pat_id, digest }) => {
            facts.token = connection
                .prepare_cached(TOKEN_FACTS)
                .or_store()?
                .query_row(params![pat_id.as_bytes(), user_id, digest.as_bytes()], |row| {
                    Ok(TokenFacts {
                        revoked_at: optional_time(row, 0)?,
                        expires_at: time(row, 1)?,
                        is_current: row.get(2)?,
                        valid_until: optional_time(row, 3)?,
                        has_ended: row.get(4)?,
                    })
                })
                .optional()
                .or_store()?;
        }
        None => {}
    }
    Ok(facts)
}

/// Appends an entry, in the transaction of the change that it describes.
pub(crate) fn append(
    connection: &Connection,
    entry: &AuditEntry,
    Permit(()): Permit,
) -> Result<(), StoreError> {
    let (last, before): (u64, [u8; 32]) = connection
        .prepare_cached("SELECT seq, hash FROM audit_head")
        .or_store()?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .or_store()?;
    let seq = last + 1;
    let bytes = entry.to_bytes()?;
    let hash = chained(&before, seq, &bytes);
    let id = |id: Option<Uuid>| id.map(Uuid::into_bytes);
    connection
        .prepare_cached(
            "INSERT INTO audit (seq, at, action, actor_user_id, actor_pat_id, user_id, pat_id, entry, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .or_store()?
        .execute(params![
            seq,
            entry.at.as_microsecond(),
            entry.action,
            id(entry.actor.user_id),
            id(entry.actor.pat_id),
            id(entry.user_id),
            id(entry.pat_id),
            bytes,
            hash,
        ])
        .or_store()?;
    connection
        .prepare_cached("UPDATE audit_head SET seq = ?1, hash = ?2")
        .or_store()?
        .execute(params![seq, hash])
        .or_store()?;
    Ok(())
}

fn id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Uuid>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(Uuid::from_bytes))
}

/// Reads an entry from the columns of [`COLUMNS`].
fn record(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    let columns = AuditColumns {
        at: row.get(3)?,
        action: row.get(4)?,
        actor_user_id: id(row, 5)?,
        actor_pat_id: id(row, 6)?,
        user_id: id(row, 7)?,
        pat_id: id(row, 8)?,
    };
    Ok(AuditRecord { seq: row.get(0)?, entry: row.get(1)?, hash: row.get(2)?, columns })
}

fn link(row: &Row<'_>, at: usize) -> rusqlite::Result<AuditLink> {
    Ok(AuditLink { seq: row.get(at)?, hash: row.get(at + 1)? })
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn records(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<AuditRecord>, StoreError> {
    let mut statement = connection.prepare_cached(sql).or_store()?;
    let records = statement.query_map(values, record).or_store()?;
    records.collect::<rusqlite::Result<_>>().or_store()
}

/// Removes the oldest entries and records the removal.
fn cut(connection: &Connection, before: i64, limit: u64, told: &AuditEntry) -> Result<u64, StoreError> {
    let mut old = connection
        .prepare_cached(
            "SELECT seq, hash, at FROM audit WHERE seq < (SELECT seq FROM audit_head) ORDER BY seq LIMIT ?1",
        )
        .or_store()?;
    let mut rows = old.query([whole(limit)]).or_store()?;
    let (mut through, mut count) = (None, 0);
    while let Some(row) = rows.next().or_store()? {
        if row.get::<_, i64>(2).or_store()? >= before {
            break;
        }
        (through, count) = (Some(link(row, 0).or_store()?), count + 1);
    }
    let Some(through) = through else { return Ok(0) };
    let through_seq = whole(through.seq);
    connection.execute("DELETE FROM audit WHERE seq <= ?1", [through_seq]).or_store()?;
    connection.execute("DELETE FROM audit_seals WHERE seq <= ?1", [through_seq]).or_store()?;
    connection
        .execute("UPDATE audit_cut SET seq = ?1, hash = ?2", params![through_seq, through.hash])
        .or_store()?;
    append(connection, &told.clone().of_cut(&through), Permit(()))?;
    Ok(count)
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Id(id) => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes()))),
            Self::Text(text) => text.to_sql(),
        }
    }
}

/// The part of an action before its dot.
pub(crate) const SUBJECT: &str = "substr(action, 1, instr(action, '.') - 1)";

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let entries = entries.to_vec();
        self.threads()
            // Such entries describe no change, for example a refusal, so they need no authority.
            .write(move |connection| {
                entries.iter().try_for_each(|entry| append(connection, entry, Permit(())))
            })
            .await
    }

    async fn audit_after(&self, seq: u64, limit: u64) -> Result<Vec<AuditRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2");
        self.threads().read(move |connection| records(connection, &sql, [whole(seq), whole(limit)])).await
    }

    async fn audit_page(&self, look: &AuditLook) -> Result<Vec<AuditRecord>, StoreError> {
        let (sql, values) = question(look, '?', SUBJECT);
        self.threads().read(move |connection| records(connection, &sql, params_from_iter(&values))).await
    }

    async fn audit_ends(&self) -> Result<AuditEnds, StoreError> {
        let sql = "SELECT c.seq, c.hash, h.seq, h.hash FROM audit_cut c, audit_head h";
        self.threads()
            .read(move |connection| {
                let ends = |row: &Row<'_>| Ok(AuditEnds { cut: link(row, 0)?, head: link(row, 2)? });
                connection.prepare_cached(sql).or_store()?.query_row([], ends).or_store()
            })
            .await
    }

    async fn seal_audit(&self, seal: &AuditSeal) -> Result<(), StoreError> {
        let seal = seal.clone();
        let sql = "INSERT INTO audit_seals (seq, at, mac) VALUES (?1, ?2, ?3) ON CONFLICT (seq) DO NOTHING";
        self.threads()
            .write(move |connection| {
                let values = params![whole(seal.seq), seal.at.as_microsecond(), seal.mac];
                connection.execute(sql, values).map(drop).or_store()
            })
            .await
    }

    async fn audit_seals(&self, seq: u64, limit: u64) -> Result<Vec<AuditSeal>, StoreError> {
        let sql = "SELECT seq, at, mac FROM audit_seals WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        self.threads()
            .read(move |connection| {
                let mut statement = connection.prepare_cached(sql).or_store()?;
                let seal =
                    |row: &Row<'_>| Ok(AuditSeal { seq: row.get(0)?, at: time(row, 1)?, mac: row.get(2)? });
                let seals = statement.query_map([whole(seq), whole(limit)], seal).or_store()?;
                seals.collect::<rusqlite::Result<_>>().or_store()
            })
            .await
    }

    async fn cut_audit(&self, before: Timestamp, limit: u64, entry: &AuditEntry) -> Result<u64, StoreError> {
        let (before, entry) = (before.as_microsecond(), entry.clone());
        self.threads().write(move |connection| cut(connection, before, limit, &entry)).await
    }
}

#[cfg(test)]
mod tests {
    use trustrelay_authority::{AuditFilter, AuditPlace};

    use super::*;
    use crate::sqlite::open::{SqliteOptions, connect, prepare};

    fn plan(connection: &Connection, look: &AuditLook) -> Vec<String> {
        let (sql, values) = question(look, '?', SUBJECT);
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("SQL");
        let steps = explain.query_map(params_from_iter(&values), |row| row.get(3)).expect("explains");
        steps.collect::<rusqlite::Result<_>>().expect("explains")
    }

    #[test]
    fn every_page_comes_in_order_from_an_index() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = SqliteOptions::default();
        let path = prepare(dir.path(), &options).expect("opens");
        let connection = connect(&path, &options).expect("opens");
        let (id, at) = (Some(Uuid::nil()), Some(Timestamp::UNIX_EPOCH));
        let none = AuditFilter::default;
        let cases = [
            (none(), "audit_by_time"),
            (AuditFilter { from: at, to: at, ..none() }, "audit_by_time"),
            (AuditFilter { user_id: id, ..none() }, "audit_by_user"),
            (AuditFilter { user_id: id, from: at, to: at, ..none() }, "audit_by_user"),
            (AuditFilter { actor_id: id, from: at, ..none() }, "audit_by_actor_user"),
            (AuditFilter { action: Some("token.created".into()), to: at, ..none() }, "audit_by_action"),
            (AuditFilter { action: Some("token".into()), ..none() }, "audit_by_subject"),
        ];
        for (filter, index) in cases {
            let place = AuditPlace { at: Timestamp::UNIX_EPOCH, seq: 1 };
            for (after, oldest_first) in
                [(None, false), (Some(place), false), (None, true), (Some(place), true)]
            {
                let look = AuditLook { filter: filter.clone(), after, oldest_first, limit: 50 };
                let plan = plan(&connection, &look);
                let [step] = plan.as_slice() else { panic!("it sorts: {plan:?}") };
                assert!(step.contains(&format!("USING INDEX {index}")), "{filter:?}: {plan:?}");
            }
        }
        let filter = AuditFilter { pat_id: id, ..none() };
        let plan = plan(&connection, &AuditLook { filter, limit: 50, ..AuditLook::default() });
        for index in ["audit_by_pat", "audit_by_actor_pat"] {
            assert!(plan.iter().any(|step| step.contains(&format!("USING INDEX {index} "))), "{plan:?}");
        }
        assert!(!plan.iter().any(|step| step.contains("SCAN audit")), "{plan:?}");
    }
}
