//! The log of changes that reduce access.

use tokio_postgres::{Row, Statement};
use trustrelay_authority::{Change, LogEntry, RetiredSecret, RevokedPat};
use trustrelay_token::TokenDigest;

use super::errors::Failure;
use super::link::{Link, Links};
use super::rows::{bytes, corrupt, get, number, time, whole};

/// Maximum number of log entries in one answer.
const MAX_BEHIND: i64 = 1000;

/// Subscribes to notifications about the log's growth.
pub(super) const LISTEN: &str = "LISTEN trustrelay_log";

/// Ends a transaction that has appended an entry. The notification is sent only after a successful
/// commit.
pub(super) const TELL_AND_COMMIT: &str = "NOTIFY trustrelay_log; COMMIT";

/// Takes the next number and writes the entry: time, kind, account. The head's row stays locked
/// until the commit. Numbers are therefore committed in order, and the number of an aborted
/// transaction is reused.
pub(super) async fn append(link: &Link) -> Result<Statement, Failure> {
    link.prepare(
        "WITH next AS (UPDATE log_head SET seq = seq + 1 RETURNING seq) \
         INSERT INTO log (seq, at, kind, user_id) SELECT seq, $1, $2, $3 FROM next RETURNING seq",
    )
    .await
}

/// Returns the number that [`append`] has taken.
pub(super) fn numbered(row: Option<Row>) -> Result<u64, Failure> {
    number(&row.ok_or_else(|| corrupt("the log has no head"))?, 0)
}

pub(super) async fn head(links: &Links) -> Result<u64, Failure> {
    let link = links.link().await?;
    let select = link.prepare("SELECT seq FROM log_head").await?;
    let found = link.row(&select, &[]).await?;
    Ok(link.keep(numbered(found)?))
}

pub(super) async fn read(links: &Links, seq: u64) -> Result<Vec<LogEntry>, Failure> {
    let link = links.link().await?;
    let after = after(&link).await?;
    let rows = link.rows(&after, &[&whole(seq)]).await?;
    link.keep(entries(&rows))
}

/// Selects the entries after `$1`, with one row for each token that an entry names.
pub(super) async fn after(link: &Link) -> Result<Statement, Failure> {
    link.prepare(&format!(
        "SELECT l.seq, l.at, l.kind, l.user_id, p.pat_id, p.digest, p.valid_until, p.ended \
         FROM (SELECT seq, at, kind, user_id FROM log WHERE seq > $1 ORDER BY seq LIMIT {MAX_BEHIND}) l \
         LEFT JOIN LATERAL (SELECT pat_id, digest, NULL::bigint AS valid_until, FALSE AS ended FROM log_pats WHERE seq = l.seq \
         UNION ALL SELECT pat_id, digest, valid_until, ended FROM log_secrets WHERE seq = l.seq) p ON TRUE ORDER BY l.seq, p.pat_id, p.digest"
    ))
    .await
}

/// Groups the rows of [`after`] into entries.
pub(super) fn entries(rows: &[Row]) -> Result<Vec<LogEntry>, Failure> {
    let mut entries: Vec<LogEntry> = Vec::new();
    for row in rows {
        let seq = number(row, 0)?;
        if entries.last().is_none_or(|last| last.seq != seq) {
            let change = match get::<&str>(row, 2)? {
                "revoked" => Change::PatsRevoked(Vec::new()),
                "retired" => Change::SecretsRetired(Vec::new()),
                "disabled" => Change::UserDisabled(get(row, 3)?),
                "upstreams" => Change::UpstreamsChanged(get(row, 3)?),
                "admin" => Change::AdminChanged(get(row, 3)?),
                "policy" => Change::PolicyChanged,
                "enabled" => Change::UserEnabled(get(row, 3)?),
                other => return Err(corrupt(format!("log entry {seq} has the unknown kind `{other}`"))),
            };
            entries.push(LogEntry { seq, at: time(row, 1)?, change });
        }
        let Some(pat_id) = get(row, 4)? else { continue };
        let digest = TokenDigest::from_bytes(bytes(row, 5)?);
        match entries.last_mut().map(|entry| &mut entry.change) {
            Some(Change::PatsRevoked(pats)) => pats.push(RevokedPat { pat_id, digest }),
            Some(Change::SecretsRetired(secrets)) => {
                let (valid_until, ended) = (time(row, 6)?, get(row, 7)?);
                secrets.push(RetiredSecret { pat_id, digest, valid_until, ended });
            }
            _ => {}
        }
    }
    Ok(entries)
}
