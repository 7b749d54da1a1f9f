//! Tokens. A transaction that adds or revokes tokens of an account locks the account's row first.
//! So no token is added concurrently with a count, and no child concurrently with the revocation of
//! its parent.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::{try_join, try_join_all, try_join3, try_join4, try_join5};
use jiff::Timestamp;
use trustrelay_authority::{AuditEntry, PatRecord, Revocation, RevokeOutcome, StoreError, Usage};
use uuid::Uuid;

use super::audit::Entry;
use super::errors::Failure;
use super::link::Links;
use super::log;
use super::networks::Networks;
use super::notices::Telling;
use super::rows::{self, PAT, corrupt, get, number, optional_time, whole};
use crate::sql::limits::Kept;

/// The tokens `$1` and all their descendants.
const TREES: &str = "WITH RECURSIVE tree (pat_id) AS (SELECT unnest($1::uuid[]) UNION SELECT p.pat_id FROM pats p JOIN tree t ON p.parent_id = t.pat_id)";

pub(super) async fn insert(
    links: &Links,
    pat: &PatRecord,
    limit: u64,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    let entry = Entry::of(audit)?;
    let link = links.link().await?;
    let append = Entry::statement(&link).await?;
    let lock = link
        .prepare("SELECT 1 FROM users WHERE user_id = $1 AND disabled_at IS NULL FOR NO KEY UPDATE")
        .await?;
    // A separate statement, to see what earlier holders of the lock have committed.
    let look = link
        .prepare(
            "SELECT $2::uuid IS NULL OR EXISTS (SELECT 1 FROM pats WHERE pat_id = $2 AND user_id = $1 AND revoked_at IS NULL AND expires_at > $3 \
             AND expires_at >= $4), \
             (SELECT COUNT(*) FROM pats WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $3)",
        )
        .await?;
    let insert = link
        .prepare(
            "INSERT INTO pats (pat_id, user_id, name, hint, scopes, digest, key_id, parent_id, created_at, expires_at, revoked_at, \
             last_used_at, allowed_networks, requests_per_minute, unused_days) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .await?;
    let now = pat.created_at.as_microsecond();
    let limits = Kept::of(pat.limits.as_ref());
    let (link, permit) = entry.begin(link).await?;
    let (owner, found) = try_join(
        link.row(&lock, &[&pat.user_id]),
        link.row(&look, &[&pat.user_id, &pat.parent_id, &now, &pat.expires_at.as_microsecond()]),
    )
    .await?;
    if owner.is_none() {
        return link.undo(Err(StoreError::UserGone.into())).await?;
    }
    let found = found.ok_or_else(|| corrupt("a count has no row"))?;
    if !get::<bool>(&found, 0)? {
        return link.undo(Err(StoreError::ParentGone.into())).await?;
    }
    let active = number(&found, 1)?;
    if active >= limit {
        return link.undo(Err(StoreError::TooManyPats(active).into())).await?;
    }
    let _ = try_join3(
        link.count(
            &insert,
            &[
                &pat.pat_id,
                &pat.user_id,
                &pat.name,
                &pat.hint,
                &pat.scopes.to_string(),
                &&pat.digest.as_bytes()[..],
                &i64::from(pat.key_id.0),
                &pat.parent_id,
                &now,
                &pat.expires_at.as_microsecond(),
                &pat.revoked_at.map(Timestamp::as_microsecond),
                &pat.last_used_at.map(Timestamp::as_microsecond),
                &limits.allowed_networks,
                &limits.requests_per_minute,
                &limits.unused_days,
            ],
        ),
        entry.append(&link, &append, permit),
        link.batch("COMMIT"),
    )
    .await?;
    link.keep(Ok(()))
}

pub(super) async fn by_id(links: &Links, pat_id: Uuid) -> Result<Option<PatRecord>, Failure> {
    let link = links.link().await?;
    let select = link.prepare(&format!("SELECT {PAT} FROM pats p WHERE p.pat_id = $1")).await?;
    let found = link.row(&select, &[&pat_id]).await?;
    link.keep(found.map(|row| rows::pat(&row)).transpose())
}

pub(super) async fn active(links: &Links, user_id: Uuid, now: Timestamp) -> Result<Vec<PatRecord>, Failure> {
    let link = links.link().await?;
    let sql = format!(
        "SELECT {PAT} FROM pats p WHERE p.user_id = $1 AND p.revoked_at IS NULL AND p.expires_at > $2 \
         ORDER BY p.created_at DESC, p.pat_id DESC"
    );
    let select = link.prepare(&sql).await?;
    let found = link.rows(&select, &[&user_id, &now.as_microsecond()]).await?;
    link.keep(found.iter().map(rows::pat).collect())
}

pub(super) async fn revoke(
    links: &Links,
    pats: &[Revocation],
    at: Timestamp,
    mail: bool,
) -> Result<Vec<Option<RevokeOutcome>>, Failure> {
    let entries = pats.iter().map(|pat| Ok((pat.pat_id, Entry::of(&pat.audit)?)));
    let entries = entries.collect::<Result<Vec<_>, StoreError>>()?;
    let notices = pats.iter().filter_map(|pat| Some((pat.pat_id, pat.notice.as_ref()?)));
    let notices = notices.map(|(pat_id, new)| Ok((pat_id, Telling::of(new, mail)?)));
    let mut notices = notices.collect::<Result<Vec<_>, StoreError>>()?;
    notices.sort_by_key(|(_, telling)| telling.order());
    let asked: Vec<Uuid> = pats.iter().map(|pat| pat.pat_id).collect();
    let link = links.link().await?;
    let append_audit = Entry::statement(&link).await?;
    let keep_notice = Telling::statement(&link).await?;
    // Accounts are locked in the order of their ids, so that concurrent revocations cannot
    // deadlock.
    let lock = link
        .prepare(
            "SELECT 1 FROM users WHERE user_id IN (SELECT user_id FROM pats WHERE pat_id = ANY ($1)) ORDER BY user_id FOR NO KEY UPDATE",
        )
        .await?;
    let look =
        link.prepare("SELECT pat_id, revoked_at, revoked_seq FROM pats WHERE pat_id = ANY ($1)").await?;
    // Uses are recorded in the same order of rows, so that the two cannot deadlock.
    let lock_tree = link
        .prepare(&format!(
            "{TREES} SELECT 1 FROM pats WHERE pat_id IN (SELECT pat_id FROM tree) ORDER BY pat_id FOR NO KEY UPDATE"
        ))
        .await?;
    let append = log::append(&link).await?;
    let update = link
        .prepare(&format!(
            "{TREES} UPDATE pats SET revoked_at = $2, revoked_seq = (SELECT seq FROM log_head) \
             WHERE pat_id IN (SELECT pat_id FROM tree) AND revoked_at IS NULL"
        ))
        .await?;
    let name = link
        .prepare(&format!(
            "{TREES} INSERT INTO log_pats (seq, pat_id, digest) SELECT h.seq, p.pat_id, p.digest FROM pats p, log_head h \
             WHERE p.pat_id IN (SELECT pat_id FROM tree) AND p.revoked_seq = h.seq"
        ))
        .await?;
    let name_retired = link
        .prepare(&format!(
            "{TREES} INSERT INTO log_secrets (seq, digest, pat_id) SELECT h.seq, r.digest, r.pat_id \
             FROM retired_secrets r JOIN pats p USING (pat_id), log_head h WHERE p.pat_id IN (SELECT pat_id FROM tree) AND p.revoked_seq = h.seq"
        ))
        .await?;
    let name_former = link
        .prepare(&format!(
            "{TREES} INSERT INTO log_secrets (seq, digest, pat_id) SELECT h.seq, f.digest, f.pat_id \
             FROM former_digests f JOIN pats p USING (pat_id), log_head h WHERE p.pat_id IN (SELECT pat_id FROM tree) AND p.revoked_seq = h.seq"
        ))
        .await?;

    // All entries have the same actor.
    let Some((_, first)) = entries.first() else { return Ok(link.keep(Vec::new())) };
    let (link, permit) = first.begin(link).await?;
    let (_, found) = try_join(link.rows(&lock, &[&asked]), link.rows(&look, &[&asked])).await?;
    let mut before = HashMap::new();
    for row in &found {
        let revoked = match optional_time(row, 1)? {
            Some(revoked_at) => Some(RevokeOutcome { revoked_at, seq: number(row, 2)?, newly: false }),
            None => None,
        };
        before.insert(get::<Uuid>(row, 0)?, revoked);
    }
    let stand = |pat_id: &Uuid| matches!(before.get(pat_id), Some(None));
    let newly: Vec<Uuid> = asked.iter().copied().filter(stand).collect();
    let outcomes = |seq| {
        let outcome = |pat_id: &Uuid| {
            let newly = RevokeOutcome { revoked_at: at, seq, newly: true };
            before.get(pat_id).map(|revoked| revoked.clone().unwrap_or(newly))
        };
        asked.iter().map(outcome).collect()
    };
    if newly.is_empty() {
        return link.undo(outcomes(0)).await;
    }
    let micros = at.as_microsecond();
    let noticed = notices.iter().filter(|(pat_id, _)| stand(pat_id));
    let noticed = try_join_all(noticed.map(|(_, telling)| telling.keep(&link, &keep_notice)));
    let told = entries.iter().filter(|(pat_id, _)| stand(pat_id));
    let told = try_join_all(told.map(|(_, entry)| entry.append(&link, &append_audit, permit)));
    // Pipelined in one round trip. Every other revocation waits for the log's head, so it is not
    // locked while this node is busy or stopped. Notices are written before it, so it is not locked
    // for them either.
    let (_, (_, seq, _, _, _), _, ()) = try_join4(
        noticed,
        try_join5(
            link.rows(&lock_tree, &[&newly]),
            link.row(&append, &[&micros, &"revoked", &None::<Uuid>]),
            link.count(&update, &[&newly, &micros]),
            link.count(&name, &[&newly]),
            try_join(link.count(&name_retired, &[&newly]), link.count(&name_former, &[&newly])),
        ),
        told,
        link.batch(log::TELL_AND_COMMIT),
    )
    .await?;
    Ok(link.keep(outcomes(log::numbered(seq)?)))
}

pub(super) async fn record_usage(links: &Links, notes: &[Usage]) -> Result<(), Failure> {
    // Each row is changed once, and rows are locked in the order of their ids; see `revoke`.
    let mut uses: BTreeMap<Uuid, Usage> = BTreeMap::new();
    for note in notes {
        match uses.get_mut(&note.pat_id) {
            None => {
                uses.insert(note.pat_id, note.clone());
            }
            Some(sum) => {
                sum.count = sum.count.saturating_add(note.count);
                sum.last_used_at = sum.last_used_at.max(note.last_used_at);
                sum.address = note.address.or(sum.address);
                sum.user_agent = note.user_agent.clone().or(sum.user_agent.take());
            }
        }
    }
    if uses.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = uses.keys().copied().collect();
    let counts: Vec<i64> = uses.values().map(|note| whole(note.count)).collect();
    let times: Vec<i64> = uses.values().map(|note| note.last_used_at.as_microsecond()).collect();
    let addresses: Vec<Option<String>> =
        uses.values().map(|note| note.address.map(|address| address.to_string())).collect();
    let agents: Vec<Option<String>> =
        uses.values().map(|note| note.user_agent.as_ref().map(|agent| agent.replace('\0', ""))).collect();

    let link = links.link().await?;
    let lock =
        link.prepare("SELECT 1 FROM pats WHERE pat_id = ANY ($1) ORDER BY pat_id FOR NO KEY UPDATE").await?;
    let update = link
        .prepare(
            "UPDATE pats p SET use_count = p.use_count + n.uses, last_used_at = GREATEST(p.last_used_at, n.at), \
             last_used_address = COALESCE(n.address, p.last_used_address), last_used_agent = COALESCE(n.agent, p.last_used_agent) \
             FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) AS n (pat_id, uses, at, address, agent) \
             WHERE p.pat_id = n.pat_id",
        )
        .await?;
    let networks = Networks::prepare(&link, notes).await?;
    let _ = try_join5(
        link.batch("BEGIN"),
        link.rows(&lock, &[&ids]),
        link.count(&update, &[&ids, &counts, &times, &addresses, &agents]),
        networks.write(&link),
        link.batch("COMMIT"),
    )
    .await?;
    link.keep(Ok(()))
}
