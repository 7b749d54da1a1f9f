//! Changes to tokens, in the writer's transaction.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use trustrelay_authority::{
    AuditEntry, PatRecord, Revocation, RevokeOutcome, StoreError, Usage, networks_of,
};
use uuid::Uuid;

use crate::sql::limits::Kept;
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::log::{append, head};
use crate::sqlite::networks;
use crate::sqlite::notices::add_notice;
use crate::sqlite::rows::{PAT, is_enabled};

/// Selects an account's active tokens. SQLite has no statistics, so the unary plus keeps it from
/// scanning all tokens that have not expired.
pub(crate) fn active() -> String {
    format!(
        "SELECT {PAT} FROM pats p WHERE p.user_id = ?1 AND p.revoked_at IS NULL AND +p.expires_at > ?2 \
         ORDER BY p.created_at DESC, p.pat_id DESC"
    )
}

/// Adds the earlier digests of the revoked tokens to the log entry that revoked them.
pub(crate) const NAME_FORMER: &str = "WITH RECURSIVE tree (pat_id) AS (VALUES (?1) UNION SELECT p.pat_id FROM pats p JOIN tree t ON p.parent_id = t.pat_id) \
     INSERT INTO log_secrets (seq, digest, pat_id) SELECT ?2, f.digest, f.pat_id FROM former_digests f JOIN pats p USING (pat_id) \
     WHERE p.pat_id IN (SELECT pat_id FROM tree) AND p.revoked_seq = ?2 ON CONFLICT DO NOTHING";
pub(crate) fn insert_pat(
    connection: &Connection,
    pat: &PatRecord,
    limit: u64,
    audit: &AuditEntry,
) -> Result<(), StoreError> {
    let permit = audit::permit(connection, audit)?;
    if !is_enabled(connection, pat.user_id)? {
        return Err(StoreError::UserGone);
    }
    let now = pat.created_at.as_microsecond();
    if let Some(parent) = pat.parent_id {
        let active: bool = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM pats WHERE pat_id = ?1 AND user_id = ?2 AND revoked_at IS NULL AND expires_at > ?3 \
                 AND expires_at >= ?4)",
            )
            .or_store()?
            .query_row(
                params![parent.as_bytes(), pat.user_id.as_bytes(), now, pat.expires_at.as_microsecond()],
                |row| row.get(0),
            )
            .or_store()?;
        if !active {
            return Err(StoreError::ParentGone);
        }
    }
    let active: u64 = connection
        .prepare_cached(
            "SELECT COUNT(*) FROM pats WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2",
        )
        .or_store()?
        .query_row(params![pat.user_id.as_bytes(), now], |row| row.get(0))
        .or_store()?;
    if active >= limit {
        return Err(StoreError::TooManyPats(active));
    }
    let limits = Kept::of(pat.limits.as_ref());
    connection
        .prepare_cached(
            "INSERT INTO pats (pat_id, user_id, name, hint, scopes, digest, key_id, parent_id, created_at, expires_at, revoked_at, \
             last_used_at, allowed_networks, requests_per_minute, unused_days) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )
        .or_store()?
        .execute(params![
            pat.pat_id.as_bytes(),
            pat.user_id.as_bytes(),
            pat.name,
            pat.hint,
            pat.scopes.to_string(),
            pat.digest.as_bytes(),
            pat.key_id.0,
            pat.parent_id.map(Uuid::into_bytes),
            now,
            pat.expires_at.as_microsecond(),
            pat.revoked_at.map(Timestamp::as_microsecond),
            pat.last_used_at.map(Timestamp::as_microsecond),
            limits.allowed_networks,
            limits.requests_per_minute,
            limits.unused_days,
        ])
        .or_store()?;
    audit::append(connection, audit, permit)
}

/// Determines the outcome of revoking a token with entry `seq`, before anything is changed.
fn outcome(
    connection: &Connection,
    pat_id: Uuid,
    at: Timestamp,
    seq: u64,
) -> Result<Option<RevokeOutcome>, StoreError> {
    let found: Option<(Option<i64>, Option<u64>)> = connection
        .prepare_cached("SELECT revoked_at, revoked_seq FROM pats WHERE pat_id = ?1")
        .or_store()?
        .query_row([pat_id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .or_store()?;
    Ok(match found {
        None => None,
        Some((Some(micros), Some(seq))) => {
            let revoked_at = Timestamp::from_microsecond(micros)
                .map_err(|error| StoreError::Corrupt(error.to_string()))?;
            Some(RevokeOutcome { revoked_at, seq, newly: false })
        }
        Some(_) => Some(RevokeOutcome { revoked_at: at, seq, newly: true }),
    })
}

pub(crate) fn revoke_pats(
    connection: &Connection,
    pats: &[Revocation],
    at: Timestamp,
    mail: bool,
) -> Result<Vec<Option<RevokeOutcome>>, StoreError> {
    let permits = pats.iter().map(|pat| audit::permit(connection, &pat.audit));
    let permits = permits.collect::<Result<Vec<_>, _>>()?;
    let seq = head(connection)? + 1;
    let outcomes = pats.iter().map(|pat| outcome(connection, pat.pat_id, at, seq));
    let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
    let newly = pats.iter().zip(permits).zip(&outcomes);
    let newly = newly.filter(|(_, outcome)| outcome.as_ref().is_some_and(|outcome| outcome.newly));
    for (at_index, ((Revocation { pat_id, audit, notice }, permit), _)) in newly.enumerate() {
        if at_index == 0 {
            append(connection, at, "revoked", None)?;
        }
        revoke_tree(connection, *pat_id, at, seq)?;
        audit::append(connection, audit, permit)?;
        if let Some(notice) = notice {
            add_notice(connection, notice, mail)?;
        }
    }
    Ok(outcomes)
}

/// Revokes a token and all its active descendants, and names them in entry `seq`. Some may be named
/// there already, because one of the tokens to revoke may descend from another.
fn revoke_tree(connection: &Connection, pat_id: Uuid, at: Timestamp, seq: u64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "WITH RECURSIVE tree (pat_id) AS (VALUES (?1) UNION SELECT p.pat_id FROM pats p JOIN tree t ON p.parent_id = t.pat_id) \
             UPDATE pats SET revoked_at = ?2, revoked_seq = ?3 WHERE pat_id IN (SELECT pat_id FROM tree) AND revoked_at IS NULL",
        )
        .or_store()?
        .execute(params![pat_id.as_bytes(), at.as_microsecond(), seq])
        .or_store()?;
    connection
        .prepare_cached(
            "WITH RECURSIVE tree (pat_id) AS (VALUES (?1) UNION SELECT p.pat_id FROM pats p JOIN tree t ON p.parent_id = t.pat_id) \
             INSERT INTO log_pats (seq, pat_id, digest) SELECT ?2, pat_id, digest FROM pats \
             WHERE pat_id IN (SELECT pat_id FROM tree) AND revoked_seq = ?2 ON CONFLICT DO NOTHING",
        )
        .or_store()?
        .execute(params![pat_id.as_bytes(), seq])
        .or_store()?;
    connection
        .prepare_cached(
            "WITH RECURSIVE tree (pat_id) AS (VALUES (?1) UNION SELECT p.pat_id FROM pats p JOIN tree t ON p.parent_id = t.pat_id) \
             INSERT INTO log_secrets (seq, digest, pat_id) SELECT ?2, r.digest, r.pat_id FROM retired_secrets r JOIN pats p USING (pat_id) \
             WHERE p.pat_id IN (SELECT pat_id FROM tree) AND p.revoked_seq = ?2 ON CONFLICT DO NOTHING",
        )
        .or_store()?
        .execute(params![pat_id.as_bytes(), seq])
        .or_store()?;
    connection.prepare_cached(NAME_FORMER).or_store()?.execute(params![pat_id.as_bytes(), seq]).or_store()?;
    Ok(())
}

pub(crate) fn record_usage(connection: &Connection, notes: &[Usage]) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached(
            "UPDATE pats SET use_count = use_count + ?2, last_used_at = MAX(COALESCE(last_used_at, ?3), ?3), \
             last_used_address = COALESCE(?4, last_used_address), last_used_agent = COALESCE(?5, last_used_agent) WHERE pat_id = ?1",
        )
        .or_store()?;
    for note in notes {
        statement
            .execute(params![
                note.pat_id.as_bytes(),
                note.count,
                note.last_used_at.as_microsecond(),
                note.address.map(|address| address.to_string()),
                note.user_agent,
            ])
            .or_store()?;
    }
    networks::record(connection, &networks_of(notes))
}
