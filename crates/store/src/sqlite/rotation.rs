//! Rotations, in the writer's transaction.

use std::sync::LazyLock;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use trustrelay_authority::{
    AuditEntry, FoundPat, NewNotice, PastRotation, RETIRED_SECRETS, Repeatable, RotateOutcome, Rotation,
    RotationStore, Secret, StoreError,
};
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use crate::sqlite::SqliteStore;
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::keys::present_digest;
use crate::sqlite::log;
use crate::sqlite::notices::add_notice;
use crate::sqlite::rows::{self, PAT, PAT_COLUMNS, USER, USER_COLUMNS};

/// Retires a token's current secret, under each of its digests.
pub(crate) const RETIRE: &str = "INSERT INTO retired_secrets (digest, pat_id, key_id, hint, retired_at, valid_until, until_first_use, ended) \
     SELECT digest, pat_id, key_id, hint, ?2, MIN(?3, expires_at), ?4, ?3 <= ?2 FROM pats WHERE pat_id = ?1 \
     UNION ALL \
     SELECT f.digest, f.pat_id, f.key_id, p.hint, ?2, MIN(?3, p.expires_at), ?4, ?3 <= ?2 \
     FROM former_digests f JOIN pats p USING (pat_id) WHERE f.pat_id = ?1";
/// Adds the retired secret to the log entry.
pub(crate) const NAME_RETIRED: &str = "INSERT INTO log_secrets (seq, digest, pat_id, valid_until, ended) \
     SELECT ?2, digest, pat_id, valid_until, ended FROM retired_secrets WHERE digest IN \
     (SELECT digest FROM pats WHERE pat_id = ?1 UNION ALL SELECT digest FROM former_digests WHERE pat_id = ?1)";
/// The latest entry with which a first use ended a secret of token `p`.
const FIRST_USE_SEQ: &str = "(SELECT MAX(e.first_use_seq) FROM retired_secrets e WHERE e.pat_id = p.pat_id)";
/// Finds a token by its current secret.
pub(crate) static BY_SECRET: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {PAT}, {USER}, {FIRST_USE_SEQ}, \
         EXISTS (SELECT 1 FROM retired_secrets r WHERE r.pat_id = p.pat_id AND r.until_first_use) \
         FROM pats p JOIN users u USING (user_id) WHERE p.digest = ?1"
    )
});
/// Finds a token by an earlier secret.
pub(crate) static BY_RETIRED_SECRET: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {PAT}, {USER}, {FIRST_USE_SEQ}, r.valid_until, r.ended, r.hint FROM retired_secrets r JOIN pats p USING (pat_id) JOIN users u USING (user_id) \
         WHERE r.digest = ?1"
    )
});

fn by_digest(connection: &Connection, digest: &[u8; 32]) -> Result<Option<FoundPat>, StoreError> {
    let found = connection
        .prepare_cached(&BY_SECRET)
        .or_store()?
        .query_row([digest], |row| {
            Ok(FoundPat {
                pat: rows::pat(row)?,
                owner: rows::user(row, PAT_COLUMNS)?,
                first_use_seq: row.get(PAT_COLUMNS + USER_COLUMNS)?,
                secret: Secret::Current { ends_another: row.get(PAT_COLUMNS + USER_COLUMNS + 1)? },
            })
        })
        .optional()
        .or_store()?;
    if found.is_some() {
        return Ok(found);
    }
    if let Some(present) = present_digest(connection, digest)? {
        return by_digest(connection, &present);
    }
    connection
        .prepare_cached(&BY_RETIRED_SECRET)
        .or_store()?
        .query_row([digest], |row| {
            let at = PAT_COLUMNS + USER_COLUMNS;
            Ok(FoundPat {
                pat: rows::pat(row)?,
                owner: rows::user(row, PAT_COLUMNS)?,
                first_use_seq: row.get(at)?,
                secret: Secret::Retired {
                    digest: TokenDigest::from_bytes(*digest),
                    valid_until: rows::time(row, at + 1)?,
                    ended: row.get(at + 2)?,
                    hint: row.get(at + 3)?,
                },
            })
        })
        .optional()
        .or_store()
}

/// Checks whether a token that lives until `?3` would outlive its parent or be outlived by a child.
/// Checking one generation in each direction is enough, because the same holds between all others.
const OUTLIVED: &str = "SELECT EXISTS (SELECT 1 FROM pats p JOIN pats parent ON parent.pat_id = p.parent_id \
     WHERE p.pat_id = ?1 AND parent.expires_at < ?3) \
     OR EXISTS (SELECT 1 FROM pats WHERE parent_id = ?1 AND revoked_at IS NULL AND expires_at > ?2 AND expires_at > ?3)";

fn rotate(
    connection: &Connection,
    rotation: &Rotation,
    audit: &AuditEntry,
) -> Result<RotateOutcome, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let (id, at) = (rotation.pat_id.into_bytes(), rotation.at.as_microsecond());
    let digest: Option<[u8; 32]> = connection
        .prepare_cached(
            "SELECT p.digest FROM pats p JOIN users u USING (user_id) \
             WHERE p.pat_id = ?1 AND p.revoked_at IS NULL AND p.expires_at > ?2 AND u.disabled_at IS NULL",
        )
        .or_store()?
        .query_row(params![id, at], |row| row.get(0))
        .optional()
        .or_store()?;
    match digest {
        None => return Ok(RotateOutcome::NotActive),
        // The digest may have been rewritten under another key since the caller read it.
        Some(digest)
            if digest != *rotation.replaces.as_bytes()
                && present_digest(connection, rotation.replaces.as_bytes())? != Some(digest) =>
        {
            return Ok(RotateOutcome::Changed);
        }
        Some(_) => {}
    }
    let outlived: bool = connection
        .prepare_cached(OUTLIVED)
        .or_store()?
        .query_row(params![id, at, rotation.expires_at.as_microsecond()], |row| row.get(0))
        .or_store()?;
    if outlived {
        return Ok(RotateOutcome::Outlived);
    }
    let seq = log::append(connection, rotation.at, "retired", None)?;
    end_earlier(connection, seq, rotation.pat_id, rotation.at, false)?;
    retire_current(connection, seq, rotation)?;
    connection
        .prepare_cached(
            "UPDATE pats SET digest = ?2, key_id = ?3, hint = ?4, expires_at = ?5, rotated_at = ?6 WHERE pat_id = ?1",
        )
        .or_store()?
        .execute(params![
            id,
            rotation.digest.as_bytes(),
            rotation.key_id.0,
            rotation.hint,
            rotation.expires_at.as_microsecond(),
            at,
        ])
        .or_store()?;
    remember(connection, seq, rotation)?;
    audit::append(connection, audit, permit)?;
    Ok(RotateOutcome::Rotated(seq))
}

/// Retires the token's current secret and adds it to the entry.
fn retire_current(connection: &Connection, seq: u64, rotation: &Rotation) -> Result<(), StoreError> {
    let (id, at) = (rotation.pat_id.into_bytes(), rotation.at.as_microsecond());
    let until = rotation.old_valid_until.as_microsecond();
    connection
        .prepare_cached(RETIRE)
        .or_store()?
        .execute(params![id, at, until, rotation.until_first_use])
        .or_store()?;
    connection.prepare_cached(NAME_RETIRED).or_store()?.execute(params![id, seq]).or_store()?;
    connection
        .prepare_cached("DELETE FROM former_digests WHERE pat_id = ?1")
        .or_store()?
        .execute([id])
        .or_store()?;
    connection
        .prepare_cached(
            "DELETE FROM retired_secrets WHERE digest IN \
             (SELECT digest FROM retired_secrets WHERE pat_id = ?1 ORDER BY retired_at DESC, digest LIMIT -1 OFFSET ?2)",
        )
        .or_store()?
        .execute(params![id, RETIRED_SECRETS])
        .or_store()?;
    Ok(())
}

/// Stores the data for repeating the answer to this rotation, if it is repeatable. The previous
/// rotation then no longer is.
fn remember(connection: &Connection, seq: u64, rotation: &Rotation) -> Result<(), StoreError> {
    let id = rotation.pat_id.into_bytes();
    connection
        .prepare_cached("DELETE FROM rotations WHERE pat_id = ?1")
        .or_store()?
        .execute([id])
        .or_store()?;
    let Some(repeatable) = &rotation.repeatable else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT INTO rotations (pat_id, at, seq, old_valid_until, until_first_use, key_digest, asked_digest, nonce) \
             SELECT ?1, ?2, ?3, valid_until, ?5, ?6, ?7, ?8 FROM retired_secrets WHERE digest = ?4",
        )
        .or_store()?
        .execute(params![
            id,
            rotation.at.as_microsecond(),
            seq,
            rotation.replaces.as_bytes(),
            rotation.until_first_use,
            repeatable.key_digest,
            repeatable.asked_digest,
            repeatable.nonce,
        ])
        .or_store()?;
    Ok(())
}

/// Ends the retired secrets that have not ended, or only the expired ones among them, and adds them
/// to the entry.
fn end_earlier(
    connection: &Connection,
    seq: u64,
    pat_id: Uuid,
    at: Timestamp,
    over_alone: bool,
) -> Result<(), StoreError> {
    let (id, at) = (pat_id.into_bytes(), at.as_microsecond());
    connection
        .prepare_cached(
            "INSERT INTO log_secrets (seq, digest, pat_id, valid_until, ended) \
             SELECT ?2, digest, pat_id, MIN(valid_until, ?3), 1 FROM retired_secrets \
             WHERE pat_id = ?1 AND NOT ended AND (valid_until <= ?3 OR NOT ?4)",
        )
        .or_store()?
        .execute(params![id, seq, at, over_alone])
        .or_store()?;
    connection
        .prepare_cached(
            "UPDATE retired_secrets SET valid_until = MIN(valid_until, ?2), ended = 1, until_first_use = 0, \
             first_use_seq = CASE WHEN until_first_use THEN ?4 END \
             WHERE pat_id = ?1 AND NOT ended AND (valid_until <= ?2 OR NOT ?3)",
        )
        .or_store()?
        .execute(params![id, at, over_alone, seq])
        .or_store()?;
    Ok(())
}

/// Ends the secrets that a first use ends, or only the expired ones (`over_alone`).
fn retire(
    connection: &Connection,
    pat_id: Uuid,
    at: Timestamp,
    over_alone: bool,
    audit: &AuditEntry,
) -> Result<Option<u64>, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let waits: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM retired_secrets WHERE pat_id = ?1 AND NOT ended \
             AND CASE WHEN ?3 THEN valid_until <= ?2 ELSE until_first_use END)",
        )
        .or_store()?
        .query_row(params![pat_id.as_bytes(), at.as_microsecond(), over_alone], |row| row.get(0))
        .or_store()?;
    if !waits {
        return Ok(None);
    }
    let seq = log::append(connection, at, "retired", None)?;
    end_earlier(connection, seq, pat_id, at, over_alone)?;
    audit::append(connection, audit, permit)?;
    Ok(Some(seq))
}

fn last(connection: &Connection, pat_id: Uuid) -> Result<Option<PastRotation>, StoreError> {
    connection
        .prepare_cached(
            "SELECT at, seq, old_valid_until, until_first_use, key_digest, asked_digest, nonce FROM rotations \
             WHERE pat_id = ?1",
        )
        .or_store()?
        .query_row([pat_id.as_bytes()], |row| {
            Ok(PastRotation {
                at: rows::time(row, 0)?,
                seq: row.get(1)?,
                old_valid_until: rows::time(row, 2)?,
                until_first_use: row.get(3)?,
                repeatable: Repeatable {
                    key_digest: row.get(4)?,
                    asked_digest: row.get(5)?,
                    nonce: row.get(6)?,
                },
            })
        })
        .optional()
        .or_store()
}

#[async_trait]
impl RotationStore for SqliteStore {
    async fn pat_by_digest(&self, digest: &TokenDigest) -> Result<Option<FoundPat>, StoreError> {
        let digest = *digest.as_bytes();
        self.threads().read(move |connection| by_digest(connection, &digest)).await
    }

    async fn rotate_pat(&self, rotation: &Rotation, audit: &AuditEntry) -> Result<RotateOutcome, StoreError> {
        let (rotation, audit) = (rotation.clone(), audit.clone());
        self.threads().write(move |connection| rotate(connection, &rotation, &audit)).await
    }

    async fn retire_secret(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let audit = audit.clone();
        self.threads().write(move |connection| retire(connection, pat_id, at, false, &audit)).await
    }

    async fn end_overlap(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let audit = audit.clone();
        self.threads().write(move |connection| retire(connection, pat_id, at, true, &audit)).await
    }

    async fn last_rotation(&self, pat_id: Uuid) -> Result<Option<PastRotation>, StoreError> {
        self.threads().read(move |connection| last(connection, pat_id)).await
    }

    async fn forget_rotations(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.threads()
            .write(move |connection| {
                let sql = "DELETE FROM rotations WHERE at < ?1";
                Ok(connection.execute(sql, [before.as_microsecond()]).or_store()? as u64)
            })
            .await
    }

    async fn note_retired_use(
        &self,
        digest: &TokenDigest,
        since: Timestamp,
        notice: &NewNotice,
        mail: bool,
    ) -> Result<bool, StoreError> {
        let (digest, notice) = (*digest.as_bytes(), notice.clone());
        let at = notice.notice.created_at;
        self.threads()
            .write(move |connection| {
                let sql = "UPDATE retired_secrets SET used_after_at = ?2 \
                           WHERE digest = ?1 AND (used_after_at IS NULL OR used_after_at < ?3)";
                let noted = connection
                    .execute(sql, params![digest, at.as_microsecond(), since.as_microsecond()])
                    .or_store()?;
                if noted > 0 {
                    add_notice(connection, &notice, mail)?;
                }
                Ok(noted > 0)
            })
            .await
    }
}
