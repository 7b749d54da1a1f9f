//! Rotations. The account's row is locked first, as in every change of its tokens (`pats`).

use async_trait::async_trait;
use futures_util::future::{try_join, try_join3, try_join4, try_join5};
use jiff::Timestamp;
use tokio_postgres::Row;
use trustrelay_authority::{
    AuditEntry, FoundPat, NewNotice, PastRotation, RETIRED_SECRETS, Repeatable, RotateOutcome, Rotation,
    RotationStore, Secret, StoreError,
};
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use super::PostgresStore;
use super::audit::Entry;
use super::errors::Failure;
use super::link::Links;
use super::log;
use super::notices::Telling;
use super::rows::{self, PAT, PAT_COLUMNS, USER, USER_COLUMNS, bytes, get, number, time};

pub(super) const LOCK_OWNER: &str =
    "SELECT 1 FROM users WHERE user_id = (SELECT user_id FROM pats WHERE pat_id = $1) FOR NO KEY UPDATE";
/// Adds to the entry the retired secrets of `$1` that have not ended, or only the expired ones
/// among them (`$3`): they end at `$2`.
const NAME_EARLIER: &str = "INSERT INTO log_secrets (seq, digest, pat_id, valid_until, ended) \
     SELECT h.seq, r.digest, r.pat_id, LEAST(r.valid_until, $2::bigint), TRUE FROM retired_secrets r, log_head h \
     WHERE r.pat_id = $1 AND NOT r.ended AND (r.valid_until <= $2 OR NOT $3::boolean)";
const END_EARLIER: &str = "UPDATE retired_secrets SET valid_until = LEAST(valid_until, $2), ended = TRUE, until_first_use = FALSE, \
     first_use_seq = CASE WHEN until_first_use THEN (SELECT seq FROM log_head) END \
     WHERE pat_id = $1 AND NOT ended AND (valid_until <= $2 OR NOT $3::boolean)";
/// The latest entry with which a first use ended a secret of token `p`.
const FIRST_USE_SEQ: &str = "(SELECT MAX(e.first_use_seq) FROM retired_secrets e WHERE e.pat_id = p.pat_id)";

async fn by_digest(links: &Links, digest: &TokenDigest) -> Result<Option<FoundPat>, Failure> {
    let link = links.link().await?;
    // A single statement, because most digests belong to a current secret or are unknown.
    let select = link
        .prepare(&format!(
            "SELECT {PAT}, {USER}, EXISTS (SELECT 1 FROM retired_secrets r WHERE r.pat_id = p.pat_id AND r.until_first_use), \
             NULL::bigint, FALSE, NULL::text, {FIRST_USE_SEQ} FROM pats p JOIN users u USING (user_id) WHERE p.digest = $1 \
             UNION ALL \
             SELECT {PAT}, {USER}, EXISTS (SELECT 1 FROM retired_secrets r WHERE r.pat_id = p.pat_id AND r.until_first_use), \
             NULL::bigint, FALSE, NULL::text, {FIRST_USE_SEQ} FROM former_digests f JOIN pats p USING (pat_id) JOIN users u USING (user_id) WHERE f.digest = $1 \
             UNION ALL \
             SELECT {PAT}, {USER}, FALSE, r.valid_until, r.ended, r.hint, {FIRST_USE_SEQ} \
             FROM retired_secrets r JOIN pats p USING (pat_id) JOIN users u USING (user_id) WHERE r.digest = $1"
        ))
        .await?;
    let row = link.row(&select, &[&&digest.as_bytes()[..]]).await?;
    link.keep(row.map(|row| found(&row, *digest)).transpose())
}

fn found(row: &Row, digest: TokenDigest) -> Result<FoundPat, Failure> {
    let at = PAT_COLUMNS + USER_COLUMNS;
    let secret = match rows::optional_time(row, at + 1)? {
        None => Secret::Current { ends_another: get(row, at)? },
        Some(valid_until) => {
            Secret::Retired { digest, valid_until, ended: get(row, at + 2)?, hint: get(row, at + 3)? }
        }
    };
    let first_use_seq = rows::optional_number(row, at + 4)?;
    Ok(FoundPat { pat: rows::pat(row)?, owner: rows::user(row, PAT_COLUMNS)?, secret, first_use_seq })
}

/// Checks whether a token that lives until `$3` would outlive its parent or be outlived by a child.
/// Checking one generation in each direction is enough, because the same holds between all others.
const OUTLIVED: &str = "SELECT EXISTS (SELECT 1 FROM pats p JOIN pats parent ON parent.pat_id = p.parent_id \
     WHERE p.pat_id = $1 AND parent.expires_at < $3) \
     OR EXISTS (SELECT 1 FROM pats WHERE parent_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND expires_at > $3)";

async fn rotate(links: &Links, rotation: &Rotation, audit: &AuditEntry) -> Result<RotateOutcome, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let lock = link.prepare(LOCK_OWNER).await?;
    let look = link
        .prepare(
            "SELECT p.digest = $3 OR EXISTS (SELECT 1 FROM former_digests f WHERE f.digest = $3 AND f.pat_id = p.pat_id) \
             FROM pats p JOIN users u USING (user_id) \
             WHERE p.pat_id = $1 AND p.revoked_at IS NULL AND p.expires_at > $2 AND u.disabled_at IS NULL FOR NO KEY UPDATE OF p",
        )
        .await?;
    let outlived = link.prepare(OUTLIVED).await?;
    let append = log::append(&link).await?;
    let name_earlier = link.prepare(NAME_EARLIER).await?;
    let end_earlier = link.prepare(END_EARLIER).await?;
    let retire = link
        .prepare(
            "INSERT INTO retired_secrets (digest, pat_id, key_id, hint, retired_at, valid_until, until_first_use, ended) \
             SELECT digest, pat_id, key_id, hint, $2::bigint, LEAST($3::bigint, expires_at), $4::boolean, $3::bigint <= $2::bigint \
             FROM pats WHERE pat_id = $1 \
             UNION ALL \
             SELECT f.digest, f.pat_id, f.key_id, p.hint, $2::bigint, LEAST($3::bigint, p.expires_at), $4::boolean, $3::bigint <= $2::bigint \
             FROM former_digests f JOIN pats p USING (pat_id) WHERE f.pat_id = $1",
        )
        .await?;
    let name = link
        .prepare(
            "INSERT INTO log_secrets (seq, digest, pat_id, valid_until, ended) \
             SELECT h.seq, r.digest, r.pat_id, r.valid_until, r.ended FROM retired_secrets r, log_head h WHERE r.digest IN \
             (SELECT digest FROM pats WHERE pat_id = $1 UNION ALL SELECT digest FROM former_digests WHERE pat_id = $1)",
        )
        .await?;
    let drop_former = link.prepare("DELETE FROM former_digests WHERE pat_id = $1").await?;
    let update = link
        .prepare(
            "UPDATE pats SET digest = $2, key_id = $3, hint = $4, expires_at = $5, rotated_at = $6 WHERE pat_id = $1",
        )
        .await?;
    let trim = link
        .prepare(
            "DELETE FROM retired_secrets WHERE digest IN \
             (SELECT digest FROM retired_secrets WHERE pat_id = $1 ORDER BY retired_at DESC, digest OFFSET $2)",
        )
        .await?;
    let forget = link.prepare("DELETE FROM rotations WHERE pat_id = $1").await?;
    let remember = link
        .prepare(
            "INSERT INTO rotations (pat_id, at, seq, old_valid_until, until_first_use, key_digest, asked_digest, nonce) \
             SELECT r.pat_id, $2::bigint, h.seq, r.valid_until, $3::boolean, $4::bytea, $5::bytea, $6::bytea \
             FROM retired_secrets r, log_head h WHERE r.digest = $1 AND $4::bytea IS NOT NULL",
        )
        .await?;
    let append_audit = Entry::statement(&link).await?;

    let (id, at) = (rotation.pat_id, rotation.at.as_microsecond());
    let replaces = &rotation.replaces.as_bytes()[..];
    let (link, permit) = entry.begin(link).await?;
    let expires = rotation.expires_at.as_microsecond();
    let (_, found, outlived) = try_join3(
        link.row(&lock, &[&id]),
        link.row(&look, &[&id, &at, &replaces]),
        link.row(&outlived, &[&id, &at, &expires]),
    )
    .await?;
    match found {
        None => return link.undo(RotateOutcome::NotActive).await,
        Some(row) if !get::<bool>(&row, 0)? => return link.undo(RotateOutcome::Changed).await,
        Some(_) => {}
    }
    if outlived.map(|row| get::<bool>(&row, 0)).transpose()?.unwrap_or(false) {
        return link.undo(RotateOutcome::Outlived).await;
    }
    let digest = &rotation.digest.as_bytes()[..];
    let key_id = i64::from(rotation.key_id.0);
    let until = rotation.old_valid_until.as_microsecond();
    let first_use = rotation.until_first_use;
    let part = |of: fn(&Repeatable) -> &[u8; 32]| rotation.repeatable.as_ref().map(|all| &of(all)[..]);
    let (key, asked, nonce) =
        (part(|all| &all.key_digest), part(|all| &all.asked_digest), part(|all| &all.nonce));
    let kept = i64::try_from(RETIRED_SECRETS).unwrap_or(i64::MAX);
    // Pipelined in one round trip, as in `pats::revoke`, so that the log's head is not locked while
    // this node is busy.
    let ((seq, _, _), (_, _, _, _), (_, _, (), ())) = try_join3(
        try_join3(
            link.row(&append, &[&at, &"retired", &None::<Uuid>]),
            link.count(&name_earlier, &[&id, &at, &false]),
            link.count(&end_earlier, &[&id, &at, &false]),
        ),
        try_join4(
            link.count(&retire, &[&id, &at, &until, &first_use]),
            try_join(link.count(&name, &[&id]), link.count(&drop_former, &[&id])),
            link.count(&update, &[&id, &digest, &key_id, &rotation.hint, &expires, &at]),
            link.count(&trim, &[&id, &kept]),
        ),
        try_join4(
            link.count(&forget, &[&id]),
            link.count(&remember, &[&replaces, &at, &first_use, &key, &asked, &nonce]),
            entry.append(&link, &append_audit, permit),
            link.batch(log::TELL_AND_COMMIT),
        ),
    )
    .await?;
    let seq = log::numbered(seq)?;
    Ok(link.keep(RotateOutcome::Rotated(seq)))
}

/// Ends the secrets that a first use ends, or only the expired ones (`over_alone`).
async fn retire(
    links: &Links,
    pat_id: Uuid,
    at: Timestamp,
    over_alone: bool,
    audit: &AuditEntry,
) -> Result<Option<u64>, Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let lock = link.prepare(LOCK_OWNER).await?;
    let look = link
        .prepare(
            "SELECT EXISTS (SELECT 1 FROM retired_secrets WHERE pat_id = $1 AND NOT ended \
             AND CASE WHEN $3::boolean THEN valid_until <= $2 ELSE until_first_use END)",
        )
        .await?;
    let append = log::append(&link).await?;
    let name_earlier = link.prepare(NAME_EARLIER).await?;
    let end_earlier = link.prepare(END_EARLIER).await?;
    let append_audit = Entry::statement(&link).await?;

    let (link, permit) = entry.begin(link).await?;
    let micros = at.as_microsecond();
    let (_, found) =
        try_join(link.row(&lock, &[&pat_id]), link.row(&look, &[&pat_id, &micros, &over_alone])).await?;
    if !found.map(|row| get::<bool>(&row, 0)).transpose()?.unwrap_or(false) {
        return link.undo(None).await;
    }
    let (seq, _, _, (), ()) = try_join5(
        link.row(&append, &[&micros, &"retired", &None::<Uuid>]),
        link.count(&name_earlier, &[&pat_id, &micros, &over_alone]),
        link.count(&end_earlier, &[&pat_id, &micros, &over_alone]),
        entry.append(&link, &append_audit, permit),
        link.batch(log::TELL_AND_COMMIT),
    )
    .await?;
    let seq = log::numbered(seq)?;
    Ok(link.keep(Some(seq)))
}

async fn last(links: &Links, pat_id: Uuid) -> Result<Option<PastRotation>, Failure> {
    let link = links.link().await?;
    let select = link
        .prepare(
            "SELECT at, seq, old_valid_until, until_first_use, key_digest, asked_digest, nonce FROM rotations WHERE pat_id = $1",
        )
        .await?;
    let read = |row: Row| {
        Ok(PastRotation {
            at: time(&row, 0)?,
            seq: number(&row, 1)?,
            old_valid_until: time(&row, 2)?,
            until_first_use: get(&row, 3)?,
            repeatable: Repeatable {
                key_digest: bytes(&row, 4)?,
                asked_digest: bytes(&row, 5)?,
                nonce: bytes(&row, 6)?,
            },
        })
    };
    let found = link.row(&select, &[&pat_id]).await?;
    link.keep(found.map(read).transpose())
}

async fn forget(links: &Links, before: Timestamp) -> Result<u64, Failure> {
    let link = links.link().await?;
    let delete = link.prepare("DELETE FROM rotations WHERE at < $1").await?;
    let forgotten = link.count(&delete, &[&before.as_microsecond()]).await?;
    Ok(link.keep(forgotten))
}

async fn note_use(
    links: &Links,
    digest: &TokenDigest,
    since: Timestamp,
    notice: &NewNotice,
    mail: bool,
) -> Result<bool, Failure> {
    let telling = Telling::of(notice, mail)?;
    let link = links.link().await?;
    let keep_notice = Telling::statement(&link).await?;
    let update = link
        .prepare(
            "UPDATE retired_secrets SET used_after_at = $2 WHERE digest = $1 AND (used_after_at IS NULL OR used_after_at < $3)",
        )
        .await?;
    let (at, since) = (notice.notice.created_at.as_microsecond(), since.as_microsecond());
    let digest = &digest.as_bytes()[..];
    let ((), noted) = try_join(link.batch("BEGIN"), link.count(&update, &[&digest, &at, &since])).await?;
    if noted == 0 {
        return link.undo(false).await;
    }
    try_join(telling.keep(&link, &keep_notice), link.batch("COMMIT")).await?;
    Ok(link.keep(true))
}

#[async_trait]
impl RotationStore for PostgresStore {
    async fn pat_by_digest(&self, digest: &TokenDigest) -> Result<Option<FoundPat>, StoreError> {
        self.links().run(|| by_digest(self.links(), digest)).await
    }

    async fn rotate_pat(&self, rotation: &Rotation, audit: &AuditEntry) -> Result<RotateOutcome, StoreError> {
        self.links().run(|| rotate(self.links(), rotation, audit)).await
    }

    async fn retire_secret(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.links().run(|| retire(self.links(), pat_id, at, false, audit)).await
    }

    async fn end_overlap(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.links().run(|| retire(self.links(), pat_id, at, true, audit)).await
    }

    async fn last_rotation(&self, pat_id: Uuid) -> Result<Option<PastRotation>, StoreError> {
        self.links().run(|| last(self.links(), pat_id)).await
    }

    async fn forget_rotations(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.links().run(|| forget(self.links(), before)).await
    }

    async fn note_retired_use(
        &self,
        digest: &TokenDigest,
        since: Timestamp,
        notice: &NewNotice,
        mail: bool,
    ) -> Result<bool, StoreError> {
        self.links().run(|| note_use(self.links(), digest, since, notice, mail)).await
    }
}
