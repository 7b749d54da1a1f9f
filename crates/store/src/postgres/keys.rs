//! The active server secret, and re-keying. The account's row is locked first, as in every change
//! of its tokens (`pats`).

use async_trait::async_trait;
use futures_util::future::try_join4;
use jiff::Timestamp;
use trustrelay_authority::{AuditEntry, KeyCount, KeyStore, Rekey, RekeyOutcome, StoreError};
use trustrelay_token::KeyId;

use super::PostgresStore;
use super::errors::Failure;
use super::link::Links;
use super::rotation::LOCK_OWNER;
use super::rows::{corrupt, get, number};
use super::sessions::told;

async fn replace_secret(
    links: &Links,
    old: &[u8; 16],
    new: &[u8; 16],
    audit: &AuditEntry,
) -> Result<bool, Failure> {
    // A single statement: if several nodes start at once, the first one updates the row, and the
    // others no longer find the old value.
    let replace = "WITH moved AS (UPDATE meta SET value = $2 WHERE key = 'secret_fingerprint' AND value = $1 AND $1::bytea <> $2::bytea \
               AND NOT EXISTS (SELECT 1 FROM meta e WHERE e.key = 'earlier_secret ' || encode($2, 'hex')) RETURNING 1) \
             INSERT INTO meta (key, value) SELECT 'earlier_secret ' || encode($1, 'hex'), $1 FROM moved";
    Ok(told(links, replace, &[&&old[..], &&new[..]], audit).await? > 0)
}

async fn rekey(links: &Links, rekey: &Rekey) -> Result<RekeyOutcome, Failure> {
    let link = links.link().await?;
    let lock = link.prepare(LOCK_OWNER).await?;
    // A shared lock keeps the binding in place until the commit.
    let bound =
        link.prepare("SELECT value = $1 FROM meta WHERE key = 'secret_fingerprint' FOR SHARE").await?;
    let keep = link
        .prepare(
            "INSERT INTO former_digests (digest, pat_id, key_id) SELECT digest, pat_id, key_id FROM pats \
             WHERE pat_id = $1 AND digest = $2 AND revoked_at IS NULL \
             AND EXISTS (SELECT 1 FROM meta WHERE key = 'secret_fingerprint' AND value = $3) ON CONFLICT DO NOTHING",
        )
        .await?;
    let update = link
        .prepare(
            "UPDATE pats SET digest = $3, key_id = $4 WHERE pat_id = $1 AND digest = $2 \
             AND EXISTS (SELECT 1 FROM former_digests f WHERE f.digest = $2 AND f.pat_id = $1)",
        )
        .await?;
    let (id, key_id) = (rekey.pat_id, i64::from(rekey.key_id.0));
    let (replaces, digest) = (&rekey.replaces.as_bytes()[..], &rekey.digest.as_bytes()[..]);
    let fingerprint = &rekey.fingerprint[..];
    let ((), _, bound, (_, updated, ())) = try_join4(
        link.batch("BEGIN"),
        link.row(&lock, &[&id]),
        link.row(&bound, &[&fingerprint]),
        futures_util::future::try_join3(
            link.count(&keep, &[&id, &replaces, &fingerprint]),
            link.count(&update, &[&id, &replaces, &digest, &key_id]),
            link.batch("COMMIT"),
        ),
    )
    .await?;
    let bound = bound.map(|row| get::<bool>(&row, 0)).transpose()?.unwrap_or(false);
    Ok(link.keep(match (bound, updated) {
        (false, _) => RekeyOutcome::NotBound,
        (true, 0) => RekeyOutcome::Changed,
        (true, _) => RekeyOutcome::Rekeyed,
    }))
}

async fn key_counts(links: &Links, now: Timestamp) -> Result<Vec<KeyCount>, Failure> {
    let link = links.link().await?;
    let select = link
        .prepare(
            "SELECT key_id, SUM(tokens)::bigint, SUM(retired)::bigint, SUM(webhooks)::bigint FROM ( \
               SELECT key_id, COUNT(*) AS tokens, 0 AS retired, 0 AS webhooks FROM pats \
               WHERE revoked_at IS NULL AND expires_at > $1 GROUP BY key_id \
               UNION ALL SELECT r.key_id, 0, COUNT(*), 0 FROM retired_secrets r JOIN pats p USING (pat_id) \
               WHERE r.valid_until > $1 AND p.revoked_at IS NULL GROUP BY r.key_id \
               UNION ALL SELECT key_id, 0, 0, COUNT(*) FROM webhooks GROUP BY key_id \
             ) counts GROUP BY key_id ORDER BY key_id",
        )
        .await?;
    let rows = link.rows(&select, &[&now.as_microsecond()]).await?;
    let counts = rows.iter().map(|row| {
        Ok(KeyCount {
            key_id: KeyId(u32::try_from(get::<i64>(row, 0)?).map_err(corrupt)?),
            tokens: number(row, 1)?,
            overlaps: number(row, 2)?,
            webhooks: number(row, 3)?,
        })
    });
    let counts = counts.collect();
    link.keep(counts)
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn replace_secret(
        &self,
        old: &[u8; 16],
        new: &[u8; 16],
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.links().run(|| replace_secret(self.links(), old, new, audit)).await
    }

    async fn rekey_pat(&self, asked: &Rekey) -> Result<RekeyOutcome, StoreError> {
        self.links().run(|| rekey(self.links(), asked)).await
    }

    async fn key_counts(&self, now: Timestamp) -> Result<Vec<KeyCount>, StoreError> {
        self.links().run(|| key_counts(self.links(), now)).await
    }
}
