//! The active server secret, and re-keying, in the writer's transaction.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use trustrelay_authority::{AuditEntry, KeyCount, KeyStore, Rekey, RekeyOutcome, StoreError};
use trustrelay_token::KeyId;

use crate::sqlite::SqliteStore;
use crate::sqlite::audit;
use crate::sqlite::errors::OrStoreError;

/// Finds a token's current digest by an earlier digest of its current secret.
pub(crate) const BY_FORMER_DIGEST: &str =
    "SELECT p.digest FROM former_digests f JOIN pats p USING (pat_id) WHERE f.digest = ?1";

/// Returns the current digest of the token whose current secret also has this digest.
pub(crate) fn present_digest(
    connection: &Connection,
    digest: &[u8; 32],
) -> Result<Option<[u8; 32]>, StoreError> {
    let mut statement = connection.prepare_cached(BY_FORMER_DIGEST).or_store()?;
    statement.query_row([digest], |row| row.get(0)).optional().or_store()
}

fn replace_secret(
    connection: &Connection,
    old: [u8; 16],
    new: [u8; 16],
    audit: &AuditEntry,
) -> Result<bool, StoreError> {
    let permit = audit::permit(connection, audit)?;
    let known: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'secret_fingerprint' AND value = ?1) \
             AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'earlier_secret ' || hex(?2))",
            params![old, new],
            |row| row.get(0),
        )
        .or_store()?;
    if !known || old == new {
        return Ok(false);
    }
    let keep = "INSERT INTO meta (key, value) VALUES ('earlier_secret ' || hex(?1), ?1)";
    connection.execute(keep, [old]).or_store()?;
    let bind = "UPDATE meta SET value = ?1 WHERE key = 'secret_fingerprint'";
    connection.execute(bind, [new]).or_store()?;
    audit::append(connection, audit, permit)?;
    Ok(true)
}

fn rekey(connection: &Connection, rekey: &Rekey) -> Result<RekeyOutcome, StoreError> {
    let bound: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'secret_fingerprint' AND value = ?1)")
        .or_store()?
        .query_row([rekey.fingerprint], |row| row.get(0))
        .or_store()?;
    if !bound {
        return Ok(RekeyOutcome::NotBound);
    }
    let (id, replaces) = (rekey.pat_id.as_bytes(), rekey.replaces.as_bytes());
    let kept = connection
        .prepare_cached(
            "INSERT INTO former_digests (digest, pat_id, key_id) \
             SELECT digest, pat_id, key_id FROM pats WHERE pat_id = ?1 AND digest = ?2 AND revoked_at IS NULL",
        )
        .or_store()?
        .execute(params![id, replaces])
        .or_store()?;
    if kept == 0 {
        return Ok(RekeyOutcome::Changed);
    }
    connection
        .prepare_cached("UPDATE pats SET digest = ?2, key_id = ?3 WHERE pat_id = ?1")
        .or_store()?
        .execute(params![id, rekey.digest.as_bytes(), rekey.key_id.0])
        .or_store()?;
    Ok(RekeyOutcome::Rekeyed)
}

fn key_counts(connection: &Connection, now: Timestamp) -> Result<Vec<KeyCount>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT key_id, SUM(tokens), SUM(overlaps), SUM(webhooks) FROM ( \
               SELECT key_id, COUNT(*) AS tokens, 0 AS overlaps, 0 AS webhooks FROM pats \
               WHERE revoked_at IS NULL AND expires_at > ?1 GROUP BY key_id \
               UNION ALL SELECT r.key_id, 0, COUNT(*), 0 FROM retired_secrets r JOIN pats p USING (pat_id) \
               WHERE r.valid_until > ?1 AND p.revoked_at IS NULL GROUP BY r.key_id \
               UNION ALL SELECT key_id, 0, 0, COUNT(*) FROM webhooks GROUP BY key_id \
             ) GROUP BY key_id ORDER BY key_id",
        )
        .or_store()?;
    let counts = statement
        .query_map([now.as_microsecond()], |row| {
            Ok(KeyCount {
                key_id: KeyId(row.get(0)?),
                tokens: row.get(1)?,
                overlaps: row.get(2)?,
                webhooks: row.get(3)?,
            })
        })
        .or_store()?;
    counts.collect::<rusqlite::Result<_>>().or_store()
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn replace_secret(
        &self,
        old: &[u8; 16],
        new: &[u8; 16],
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let (old, new, audit) = (*old, *new, audit.clone());
        self.threads().write(move |connection| replace_secret(connection, old, new, &audit)).await
    }

    async fn rekey_pat(&self, asked: &Rekey) -> Result<RekeyOutcome, StoreError> {
        let asked = asked.clone();
        self.threads().write(move |connection| rekey(connection, &asked)).await
    }

    async fn key_counts(&self, now: Timestamp) -> Result<Vec<KeyCount>, StoreError> {
        self.threads().read(move |connection| key_counts(connection, now)).await
    }
}
