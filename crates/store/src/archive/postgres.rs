//! Export and import for PostgreSQL.

use async_trait::async_trait;
use tokio_postgres::Row;
use trustrelay_authority::StoreError;

use super::{Archive, Archived, Bytes, Day, Entry, NotImported, One, Pat, User, notices, read};
use crate::postgres::{Failure, Link, Links, PostgresStore, corrupt, get, read_back};

#[async_trait]
impl Archived for PostgresStore {
    async fn export(&self) -> Result<Archive, StoreError> {
        Ok(export(self.links()).await?)
    }

    async fn import(&self, archive: Archive) -> Result<(), NotImported> {
        import(self.links(), &archive).await.map_err(StoreError::from)?
    }
}

fn text(row: &Row, at: usize) -> Result<String, Failure> {
    String::from_utf8(get(row, at)?).map_err(corrupt)
}

async fn export(links: &Links) -> Result<Archive, Failure> {
    let link = links.link().await?;
    // The isolation level gives all statements the same snapshot.
    link.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut archive = Archive { fingerprint: fingerprint(&link).await?, ..Archive::default() };
    let sql = "SELECT user_id, email, password_hash, is_admin, created_at, disabled_at, changed_seq, upstreams FROM users ORDER BY created_at, user_id";
    archive.users = read::from_postgres(&link, sql, |row| {
        Ok(User {
            user_id: get(row, 0)?,
            email: get(row, 1)?,
            password_hash: get(row, 2)?,
            is_admin: get(row, 3)?,
            created_at: get(row, 4)?,
            disabled_at: get(row, 5)?,
            changed_seq: get(row, 6)?,
            upstreams: get(row, 7)?,
        })
    })
    .await?;
    let sql = "SELECT pat_id, user_id, name, hint, scopes, digest, key_id, parent_id, created_at, expires_at, revoked_at, revoked_seq, \
               last_used_at, last_used_address, last_used_agent, use_count, allowed_networks, requests_per_minute, unused_days \
               FROM pats ORDER BY created_at, pat_id";
    archive.pats = read::from_postgres(&link, sql, |row| {
        Ok(Pat {
            pat_id: get(row, 0)?,
            user_id: get(row, 1)?,
            name: get(row, 2)?,
            hint: get(row, 3)?,
            scopes: get(row, 4)?,
            digest: Bytes(get(row, 5)?),
            key_id: get(row, 6)?,
            parent_id: get(row, 7)?,
            created_at: get(row, 8)?,
            expires_at: get(row, 9)?,
            revoked_at: get(row, 10)?,
            revoked_seq: get(row, 11)?,
            last_used_at: get(row, 12)?,
            last_used_address: get(row, 13)?,
            last_used_agent: get(row, 14)?,
            use_count: get(row, 15)?,
            allowed_networks: get(row, 16)?,
            requests_per_minute: get(row, 17)?,
            unused_days: get(row, 18)?,
        })
    })
    .await?;
    archive.log = read::from_postgres(&link, "SELECT seq, at, kind, user_id FROM log ORDER BY seq", |row| {
        let (seq, at, kind, user_id) = (get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?);
        Ok(Entry { seq, at, kind, user_id, pats: Vec::new() })
    })
    .await?;
    let named =
        read::from_postgres(&link, "SELECT seq, pat_id, digest FROM log_pats ORDER BY seq, pat_id", |row| {
            Ok((get(row, 0)?, get(row, 1)?, Bytes(get(row, 2)?)))
        })
        .await?;
    archive.name(named)?;
    let sql = "SELECT pat_id, day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out FROM call_days \
               ORDER BY pat_id, day, upstream, tool, outcome";
    archive.days = read::from_postgres(&link, sql, |row| {
        Ok(Day {
            pat_id: get(row, 0)?,
            day: get(row, 1)?,
            upstream: get(row, 2)?,
            tool: text(row, 3)?,
            outcome: get(row, 4)?,
            calls: get(row, 5)?,
            duration: get(row, 6)?,
            bytes_in: get(row, 7)?,
            bytes_out: get(row, 8)?,
        })
    })
    .await?;
    let sql = "SELECT pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out FROM latest_calls ORDER BY call_id";
    archive.calls = read::from_postgres(&link, sql, |row| {
        Ok(One {
            pat_id: get(row, 0)?,
            at: get(row, 1)?,
            upstream: get(row, 2)?,
            tool: text(row, 3)?,
            outcome: get(row, 4)?,
            duration: get(row, 5)?,
            bytes_in: get(row, 6)?,
            bytes_out: get(row, 7)?,
        })
    })
    .await?;
    notices::from_postgres(&link, &mut archive).await?;
    super::rotation::from_postgres(&link, &mut archive).await?;
    super::policy::from_postgres(&link, &mut archive).await?;
    super::audit::from_postgres(&link, &mut archive).await?;
    link.batch("COMMIT").await?;
    Ok(link.keep(archive))
}

async fn fingerprint(link: &Link) -> Result<Option<Bytes>, Failure> {
    let select = link.prepare("SELECT value FROM meta WHERE key = 'secret_fingerprint'").await?;
    link.row(&select, &[]).await?.map(|row| Ok(Bytes(get(&row, 0)?))).transpose()
}

async fn import(links: &Links, archive: &Archive) -> Result<Result<(), NotImported>, Failure> {
    let link = links.link().await?;
    // The lock prevents others from adding accounts or entries meanwhile.
    link.batch("BEGIN; LOCK TABLE users, log_head, audit_head IN SHARE ROW EXCLUSIVE MODE").await?;
    let empty =
        link.prepare("SELECT NOT EXISTS (SELECT 1 FROM users) AND NOT EXISTS (SELECT 1 FROM log) AND NOT EXISTS (SELECT 1 FROM audit)").await?;
    let is_empty = link.row(&empty, &[]).await?.ok_or_else(|| corrupt("a question has no answer"))?;
    if !get::<bool>(&is_empty, 0)? {
        return link.undo(Err(NotImported::NotEmpty)).await;
    }
    if fingerprint(&link).await? != archive.fingerprint {
        link.batch("DELETE FROM meta WHERE key = 'secret_fingerprint'; COMMIT").await?;
        return Ok(link.keep(Err(NotImported::OtherSecret)));
    }
    let insert = link
        .prepare(
            "INSERT INTO users (user_id, email, password_hash, is_admin, created_at, disabled_at, changed_seq, upstreams) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .await?;
    for user in &archive.users {
        let (created, disabled, seq) = (&user.created_at, &user.disabled_at, &user.changed_seq);
        link.count(
            &insert,
            &[
                &user.user_id,
                &user.email,
                &user.password_hash,
                &user.is_admin,
                created,
                disabled,
                seq,
                &user.upstreams,
            ],
        )
        .await?;
    }
    let insert = link
        .prepare(
            "INSERT INTO pats (pat_id, user_id, name, hint, scopes, digest, key_id, created_at, expires_at, revoked_at, revoked_seq, \
             last_used_at, last_used_address, last_used_agent, use_count, allowed_networks, requests_per_minute, unused_days) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        )
        .await?;
    for pat in &archive.pats {
        link.count(
            &insert,
            &[
                &pat.pat_id,
                &pat.user_id,
                &pat.name,
                &pat.hint,
                &pat.scopes,
                &pat.digest.0,
                &pat.key_id,
                &pat.created_at,
                &pat.expires_at,
                &pat.revoked_at,
                &pat.revoked_seq,
                &pat.last_used_at,
                &pat.last_used_address,
                &pat.last_used_agent,
                &pat.use_count,
                &pat.allowed_networks,
                &pat.requests_per_minute,
                &pat.unused_days,
            ],
        )
        .await?;
    }
    // Set after all rows exist, because a parent may come after its child.
    let adopt = link.prepare("UPDATE pats SET parent_id = $2 WHERE pat_id = $1").await?;
    for pat in archive.pats.iter().filter(|pat| pat.parent_id.is_some()) {
        link.count(&adopt, &[&pat.pat_id, &pat.parent_id]).await?;
    }
    let insert = link.prepare("INSERT INTO log (seq, at, kind, user_id) VALUES ($1, $2, $3, $4)").await?;
    let name = link.prepare("INSERT INTO log_pats (seq, pat_id, digest) VALUES ($1, $2, $3)").await?;
    for entry in &archive.log {
        link.count(&insert, &[&entry.seq, &entry.at, &entry.kind, &entry.user_id]).await?;
        for (pat_id, digest) in &entry.pats {
            link.count(&name, &[&entry.seq, pat_id, &digest.0]).await?;
        }
    }
    let insert = link
        .prepare(
            "INSERT INTO call_days (pat_id, day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .await?;
    for day in &archive.days {
        let tool = day.tool.as_bytes();
        let (calls, duration, bytes_in, bytes_out) =
            (&day.calls, &day.duration, &day.bytes_in, &day.bytes_out);
        link.count(
            &insert,
            &[
                &day.pat_id,
                &day.day,
                &day.upstream,
                &tool,
                &day.outcome,
                calls,
                duration,
                bytes_in,
                bytes_out,
            ],
        )
        .await?;
    }
    let insert = link
        .prepare(
            "INSERT INTO latest_calls (pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .await?;
    for call in &archive.calls {
        let tool = call.tool.as_bytes();
        let (duration, bytes_in, bytes_out) = (&call.duration, &call.bytes_in, &call.bytes_out);
        link.count(
            &insert,
            &[&call.pat_id, &call.at, &call.upstream, &tool, &call.outcome, duration, bytes_in, bytes_out],
        )
        .await?;
    }
    notices::into_postgres(&link, archive).await?;
    super::rotation::into_postgres(&link, archive).await?;
    super::policy::into_postgres(&link, archive).await?;
    super::audit::into_postgres(&link, archive).await?;
    read_back(&link).await?;
    link.batch(
        "UPDATE log_head SET seq = (SELECT COALESCE(MAX(seq), 0) FROM log); NOTIFY trustrelay_log; COMMIT",
    )
    .await?;
    Ok(link.keep(Ok(())))
}
