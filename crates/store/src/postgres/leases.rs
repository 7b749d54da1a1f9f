//! The database side of the fence: the nodes that may answer from memory, and the nodes that a
//! revocation has to wait for.
//!
//! A renewal and a revocation meet on the node's row. If the renewal locks it first, the revocation
//! waits for the renewal's commit and sees the lease that it granted. If the revocation locks it
//! first, the renewal reads the log afterwards and finds the revocation's entry. Three properties
//! make this work, and none of them can be left out:
//!
//! - The renewal reads the log in a statement that begins *after* it has the lock (READ COMMITTED
//!   takes a new snapshot for each statement).
//! - The revocation locks the rows of *all* nodes, including those without a lease, because they
//!   may be in the middle of a renewal. It decides by a statement that begins after it has the
//!   locks.
//! - A node's row is committed before the node's first renewal, because nobody can wait for a row
//!   that they cannot see.
//!
//! A row says that a lease is held and for how long. No database clock is compared with it. The
//! stored time is only for people, and for the removal of rows without a lease.
//!
//! Each operation is one round trip, and the database has all its statements from the beginning. A
//! node that is stopped in the middle of it holds no lock: the database completes it without the
//! node.

use std::time::Duration;

use futures_util::future::{try_join, try_join3, try_join4, try_join5};
use jiff::Timestamp;
use trustrelay_authority::{Holder, Lease, MAX_LEASE, NodeRecord, Renewal, Terminated};
use uuid::Uuid;

use super::errors::Failure;
use super::link::Links;
use super::log;
use super::rows::{corrupt, get, number, time, whole};

/// The database's clock in microseconds, at this moment and not at the transaction's beginning.
const NOW: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint";

/// The time for which the row of a node without a lease is kept. People want to see it, and the
/// node may come back.
const REMEMBERED: Duration = MAX_LEASE.saturating_mul(10);

/// Number of recent log entries whose cuts are kept. The revocations of older ones were answered
/// long ago.
const REMEMBERED_CUTS: i64 = 1000;

pub(super) async fn renew(links: &Links, lease: &Lease) -> Result<Renewal, Failure> {
    loop {
        if let Some(renewal) = renew_known(links, lease).await? {
            return Ok(renewal);
        }
        register(links, lease).await?;
    }
}

/// Inserts the node's row, without a lease, in a transaction of its own; see the module.
async fn register(links: &Links, lease: &Lease) -> Result<(), Failure> {
    let link = links.link().await?;
    let insert = link
        .prepare(&format!(
            "INSERT INTO nodes (node_id, name, applied_seq, held, claim, length, renewed_at) \
             VALUES ($1, $2, 0, FALSE, 0, 0, {NOW}) ON CONFLICT DO NOTHING"
        ))
        .await?;
    link.count(&insert, &[&lease.node_id, &lease.name]).await?;
    link.keep(Ok(()))
}

/// The sessions that entries have ended, as columns.
#[derive(Default)]
struct Cuts {
    seqs: Vec<i64>,
    /// The number of sessions that each entry has ended.
    all: Vec<i64>,
    /// The entry of each session.
    of: Vec<i64>,
    numbers: Vec<i64>,
}

impl Cuts {
    fn of(lease: &Lease) -> Self {
        let mut cuts = Self::default();
        for (seq, ended) in &lease.cuts {
            cuts.seqs.push(whole(*seq));
            cuts.all.push(whole(ended.requests.saturating_add(ended.sessions.len() as u64)));
            cuts.of.extend(ended.sessions.iter().map(|_| whole(*seq)));
            cuts.numbers.extend(ended.sessions.iter().map(|number| number.cast_signed()));
        }
        cuts
    }
}

/// Renews the lease of a node that has a row. Returns `None` if it has none.
async fn renew_known(links: &Links, lease: &Lease) -> Result<Option<Renewal>, Failure> {
    let link = links.link().await?;
    let lock = link.prepare("SELECT 1 FROM nodes WHERE node_id = $1 FOR UPDATE").await?;
    // Needs the preceding lock: an UPDATE that waits for a row would continue with the log head
    // that it read before the wait.
    let extend = link
        .prepare(&format!(
            "UPDATE nodes SET held = TRUE, claim = $5, length = $3, renewed_at = {NOW}, applied_seq = $2, name = $4, url = $6 \
             WHERE node_id = $1 AND (SELECT seq FROM log_head) = $2"
        ))
        .await?;
    let after = log::after(&link).await?;
    let report = link
        .prepare(
            "INSERT INTO cuts (seq, node_id, sessions, numbers) \
             SELECT c.seq, n.node_id, c.sessions, ARRAY(SELECT s.number FROM unnest($4::bigint[], $5::bigint[]) AS s (seq, number) WHERE s.seq = c.seq) \
             FROM nodes n, unnest($2::bigint[], $3::bigint[]) AS c (seq, sessions) WHERE n.node_id = $1 ON CONFLICT DO NOTHING",
        )
        .await?;
    let forget = link
        .prepare(&format!("DELETE FROM cuts WHERE seq < (SELECT seq FROM log_head) - {REMEMBERED_CUTS}"))
        .await?;
    // A locked row belongs to a node that is coming back or is being examined. It is skipped, so
    // that nobody waits.
    let prune = link
        .prepare(&format!(
            "DELETE FROM nodes WHERE node_id IN (SELECT node_id FROM nodes WHERE NOT held AND renewed_at < {NOW} - $1 FOR UPDATE SKIP LOCKED)"
        ))
        .await?;
    let (applied, length) = (whole(lease.applied_seq), micros(lease.length));
    let cuts = Cuts::of(lease);
    let report = async {
        if !lease.cuts.is_empty() {
            let Cuts { seqs, all, of, numbers } = &cuts;
            try_join(
                link.count(&report, &[&lease.node_id, seqs, all, of, numbers]),
                link.count(&forget, &[]),
            )
            .await?;
        }
        Ok(())
    };
    let ((), known, extended, missing, ((), _, ())) = try_join5(
        link.batch("BEGIN"),
        link.row(&lock, &[&lease.node_id]),
        link.count(
            &extend,
            &[&lease.node_id, &applied, &length, &lease.name, &whole(lease.claim), &lease.url],
        ),
        link.rows(&after, &[&applied]),
        try_join3(report, link.count(&prune, &[&micros(REMEMBERED)]), link.batch("COMMIT")),
    )
    .await?;
    let (known, extended, missing) = link.keep((known, extended, missing));
    if known.is_none() {
        return Ok(None);
    }
    if extended == 1 {
        return Ok(Some(Renewal::Held));
    }
    let entries = log::entries(&missing)?;
    if entries.first().is_none_or(|first| first.seq != lease.applied_seq + 1) {
        // Happens, for example, after a failover to a standby that had not received the whole log.
        return Err(corrupt(format!(
            "the log does not go on after entry {}, which this node has applied",
            lease.applied_seq
        )));
    }
    Ok(Some(Renewal::Behind(entries)))
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}

pub(super) async fn end(links: &Links, node_id: Uuid) -> Result<(), Failure> {
    let link = links.link().await?;
    let delete = link.prepare("DELETE FROM nodes WHERE node_id = $1").await?;
    link.count(&delete, &[&node_id]).await?;
    link.keep(Ok(()))
}

/// Waits for renewals in progress; see the module.
pub(super) async fn behind(links: &Links, seq: u64, except: Option<Uuid>) -> Result<Vec<Holder>, Failure> {
    let link = links.link().await?;
    // All callers lock in the same order, and nodes lock only their own row, so there are no
    // deadlocks.
    let lock = link
        .prepare("SELECT 1 FROM nodes WHERE node_id IS DISTINCT FROM $1 ORDER BY node_id FOR SHARE")
        .await?;
    let select = link
        .prepare(
            "SELECT node_id, claim, length FROM nodes WHERE node_id IS DISTINCT FROM $1 AND held AND applied_seq < $2",
        )
        .await?;
    // Nothing here must be durable, so the commit does not wait for the disk.
    let ((), _, behind, ()) = try_join4(
        link.batch("BEGIN; SET LOCAL synchronous_commit = off"),
        link.rows(&lock, &[&except]),
        link.rows(&select, &[&except, &whole(seq)]),
        link.batch("COMMIT"),
    )
    .await?;
    let holder = |row| {
        let length = Duration::from_micros(number(row, 2)?);
        Ok(Holder { node_id: get(row, 0)?, claim: number(row, 1)?, length })
    };
    link.keep(behind.iter().map(holder).collect())
}

pub(super) async fn let_go(links: &Links, holders: &[Holder]) -> Result<(), Failure> {
    let link = links.link().await?;
    let lock =
        link.prepare("SELECT 1 FROM nodes WHERE node_id = ANY ($1) ORDER BY node_id FOR UPDATE").await?;
    // Runs after the lock, to see claims that were made meanwhile.
    let let_go = link
        .prepare(
            "UPDATE nodes n SET held = FALSE FROM unnest($1::uuid[], $2::bigint[]) AS h (node_id, claim) \
             WHERE n.node_id = h.node_id AND n.claim = h.claim",
        )
        .await?;
    let (nodes, claims): (Vec<Uuid>, Vec<i64>) =
        holders.iter().map(|holder| (holder.node_id, whole(holder.claim))).unzip();
    // If this change is lost in a crash, the leases are released again.
    let ((), _, _, ()) = try_join4(
        link.batch("BEGIN; SET LOCAL synchronous_commit = off"),
        link.rows(&lock, &[&nodes]),
        link.count(&let_go, &[&nodes, &claims]),
        link.batch("COMMIT"),
    )
    .await?;
    link.keep(Ok(()))
}

pub(super) async fn list(links: &Links) -> Result<Vec<NodeRecord>, Failure> {
    let link = links.link().await?;
    let select = link
        .prepare(&format!(
            "SELECT node_id, name, applied_seq, CASE WHEN held THEN renewed_at + length - {NOW} ELSE 0 END, url, claim FROM nodes ORDER BY name COLLATE \"C\", node_id"
        ))
        .await?;
    let rows = link.rows(&select, &[]).await?;
    let nodes = rows.iter().map(|row| {
        let left = u64::try_from(get::<i64>(row, 3)?).ok().filter(|left| *left > 0);
        Ok(NodeRecord {
            node_id: get(row, 0)?,
            name: get(row, 1)?,
            url: get(row, 4)?,
            claim: number(row, 5)?,
            applied_seq: number(row, 2)?,
            lease_left: left.map(Duration::from_micros),
        })
    });
    link.keep(nodes.collect())
}

/// Returns the database's clock, for comparison with a node's.
pub(super) async fn clock(links: &Links) -> Result<Timestamp, Failure> {
    let link = links.link().await?;
    let select = link.prepare(&format!("SELECT {NOW}")).await?;
    let now = link.row(&select, &[]).await?;
    let now = time(&now.ok_or_else(|| corrupt("the clock has no row"))?, 0)?;
    Ok(link.keep(now))
}

pub(super) async fn cuts(links: &Links, seq: u64, except: Option<Uuid>) -> Result<Terminated, Failure> {
    let link = links.link().await?;
    let select = link
        .prepare("SELECT sessions, numbers FROM cuts WHERE seq = $1 AND node_id IS DISTINCT FROM $2")
        .await?;
    let rows = link.rows(&select, &[&whole(seq), &except]).await?;
    let mut ended = Terminated::default();
    for row in &rows {
        let (all, numbers): (u64, Vec<i64>) = (number(row, 0)?, get(row, 1)?);
        let sessions: Vec<u64> = numbers.into_iter().map(i64::cast_unsigned).collect();
        ended.extend([Terminated { requests: all.saturating_sub(sessions.len() as u64), sessions }]);
    }
    Ok(link.keep(ended))
}
