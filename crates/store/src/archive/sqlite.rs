//! Export and import for SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use trustrelay_authority::StoreError;
use uuid::Uuid;

use super::{Archive, Archived, Bytes, Day, Entry, NotImported, One, Pat, User, notices, read};
use crate::sqlite::SqliteStore;
use crate::sqlite::errors::OrStoreError;
use crate::sqlite::log::log_after;
use crate::sqlite::rows::{self, PAT, USER, id};

#[async_trait]
impl Archived for SqliteStore {
    async fn export(&self) -> Result<Archive, StoreError> {
        self.threads().read(export).await
    }

    async fn import(&self, archive: Archive) -> Result<(), NotImported> {
        let import = move |connection: &Connection| {
            let usual: i64 = connection.query_row("PRAGMA cache_size", [], |row| row.get(0)).or_store()?;
            connection.pragma_update(None, "cache_size", WHILE_IMPORTING).or_store()?;
            let imported = import(connection, &archive);
            connection.pragma_update(None, "cache_size", usual).or_store()?;
            imported
        };
        self.threads().write(import).await?
    }
}

/// The size of the page cache during an import, in KiB (negative:
/// sqlite.org/pragma.html#pragma_cache_size). The import is one transaction, and digests arrive in
/// random order. With the default of 2 MiB, each token would write out pages that the next one
/// needs again.
const WHILE_IMPORTING: i64 = -1024 * 1024;

fn optional_id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Uuid>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(Uuid::from_bytes))
}

fn export(connection: &Connection) -> Result<Archive, StoreError> {
    // A single transaction gives all statements the same snapshot.
    let transaction = connection.unchecked_transaction().or_store()?;
    let mut archive = Archive { fingerprint: fingerprint(&transaction)?, ..Archive::default() };
    let sql = "SELECT user_id, email, password_hash, is_admin, created_at, disabled_at, changed_seq, upstreams FROM users ORDER BY created_at, user_id";
    archive.users = read::from_sqlite(&transaction, sql, |row| {
        Ok(User {
            user_id: id(row, 0)?,
            email: row.get(1)?,
            password_hash: row.get(2)?,
            is_admin: row.get(3)?,
            created_at: row.get(4)?,
            disabled_at: row.get(5)?,
            changed_seq: row.get(6)?,
            upstreams: row.get(7)?,
        })
    })?;
    let sql = "SELECT pat_id, user_id, name, hint, scopes, digest, key_id, parent_id, created_at, expires_at, revoked_at, revoked_seq, \
               last_used_at, last_used_address, last_used_agent, use_count, allowed_networks, requests_per_minute, unused_days \
               FROM pats ORDER BY created_at, pat_id";
    archive.pats = read::from_sqlite(&transaction, sql, |row| {
        Ok(Pat {
            pat_id: id(row, 0)?,
            user_id: id(row, 1)?,
            name: row.get(2)?,
            hint: row.get(3)?,
            scopes: row.get(4)?,
            digest: Bytes(row.get(5)?),
            key_id: row.get(6)?,
            parent_id: optional_id(row, 7)?,
            created_at: row.get(8)?,
            expires_at: row.get(9)?,
            revoked_at: row.get(10)?,
            revoked_seq: row.get(11)?,
            last_used_at: row.get(12)?,
            last_used_address: row.get(13)?,
            last_used_agent: row.get(14)?,
            use_count: row.get(15)?,
            allowed_networks: row.get(16)?,
            requests_per_minute: row.get(17)?,
            unused_days: row.get(18)?,
        })
    })?;
    archive.log =
        read::from_sqlite(&transaction, "SELECT seq, at, kind, user_id FROM log ORDER BY seq", |row| {
            Ok(Entry {
                seq: row.get(0)?,
                at: row.get(1)?,
                kind: row.get(2)?,
                user_id: optional_id(row, 3)?,
                pats: Vec::new(),
            })
        })?;
    let named = read::from_sqlite(
        &transaction,
        "SELECT seq, pat_id, digest FROM log_pats ORDER BY seq, pat_id",
        |row| Ok((row.get(0)?, id(row, 1)?, Bytes(row.get(2)?))),
    )?;
    archive.name(named)?;
    let sql = "SELECT pat_id, day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out FROM call_days \
               ORDER BY pat_id, day, upstream, tool, outcome";
    archive.days = read::from_sqlite(&transaction, sql, |row| {
        Ok(Day {
            pat_id: id(row, 0)?,
            day: row.get(1)?,
            upstream: row.get(2)?,
            tool: row.get(3)?,
            outcome: row.get(4)?,
            calls: row.get(5)?,
            duration: row.get(6)?,
            bytes_in: row.get(7)?,
            bytes_out: row.get(8)?,
        })
    })?;
    let sql = "SELECT pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out FROM latest_calls ORDER BY call_id";
    archive.calls = read::from_sqlite(&transaction, sql, |row| {
        Ok(One {
            pat_id: id(row, 0)?,
            at: row.get(1)?,
            upstream: row.get(2)?,
            tool: row.get(3)?,
            outcome: row.get(4)?,
            duration: row.get(5)?,
            bytes_in: row.get(6)?,
            bytes_out: row.get(7)?,
        })
    })?;
    notices::from_sqlite(&transaction, &mut archive)?;
    super::rotation::from_sqlite(&transaction, &mut archive)?;
    super::policy::from_sqlite(&transaction, &mut archive)?;
    super::audit::from_sqlite(&transaction, &mut archive)?;
    Ok(archive)
}

fn fingerprint(connection: &Connection) -> Result<Option<Bytes>, StoreError> {
    let sql = "SELECT value FROM meta WHERE key = 'secret_fingerprint'";
    connection.query_row(sql, [], |row| Ok(Bytes(row.get(0)?))).optional().or_store()
}

fn import(connection: &Connection, archive: &Archive) -> Result<Result<(), NotImported>, StoreError> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM log) OR EXISTS (SELECT 1 FROM audit)";
    if connection.query_row(sql, [], |row| row.get(0)).or_store()? {
        return Ok(Err(NotImported::NotEmpty));
    }
    if fingerprint(connection)? != archive.fingerprint {
        connection.execute("DELETE FROM meta WHERE key = 'secret_fingerprint'", []).or_store()?;
        return Ok(Err(NotImported::OtherSecret));
    }
    for user in &archive.users {
        let sql = "INSERT INTO users (user_id, email, password_hash, is_admin, created_at, disabled_at, changed_seq, upstreams) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        connection
            .prepare_cached(sql)
            .or_store()?
            .execute(params![
                user.user_id.as_bytes(),
                user.email,
                user.password_hash,
                user.is_admin,
                user.created_at,
                user.disabled_at,
                user.changed_seq,
                user.upstreams
            ])
            .or_store()?;
    }
    for pat in &archive.pats {
        let sql = "INSERT INTO pats (pat_id, user_id, name, hint, scopes, digest, key_id, created_at, expires_at, revoked_at, revoked_seq, \
                   last_used_at, last_used_address, last_used_agent, use_count, allowed_networks, requests_per_minute, unused_days) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
        connection
            .prepare_cached(sql)
            .or_store()?
            .execute(params![
                pat.pat_id.as_bytes(),
                pat.user_id.as_bytes(),
                pat.name,
                pat.hint,
                pat.scopes,
                pat.digest.0,
                pat.key_id,
                pat.created_at,
                pat.expires_at,
                pat.revoked_at,
                pat.revoked_seq,
                pat.last_used_at,
                pat.last_used_address,
                pat.last_used_agent,
                pat.use_count,
                pat.allowed_networks,
                pat.requests_per_minute,
                pat.unused_days
            ])
            .or_store()?;
    }
    // Set after all rows exist, because a parent may come after its child.
    for pat in archive.pats.iter().filter(|pat| pat.parent_id.is_some()) {
        connection
            .prepare_cached("UPDATE pats SET parent_id = ?2 WHERE pat_id = ?1")
            .or_store()?
            .execute(params![pat.pat_id.as_bytes(), pat.parent_id.map(Uuid::into_bytes)])
            .or_store()?;
    }
    for entry in &archive.log {
        connection
            .prepare_cached("INSERT INTO log (seq, at, kind, user_id) VALUES (?1, ?2, ?3, ?4)")
            .or_store()?
            .execute(params![entry.seq, entry.at, entry.kind, entry.user_id.map(Uuid::into_bytes)])
            .or_store()?;
        for (pat_id, digest) in &entry.pats {
            connection
                .prepare_cached("INSERT INTO log_pats (seq, pat_id, digest) VALUES (?1, ?2, ?3)")
                .or_store()?
                .execute(params![entry.seq, pat_id.as_bytes(), digest.0])
                .or_store()?;
        }
    }
    for day in &archive.days {
        let sql = "INSERT INTO call_days (pat_id, day, upstream, tool, outcome, calls, duration, bytes_in, bytes_out) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let id = day.pat_id.as_bytes();
        let sums = (day.calls, day.duration, day.bytes_in, day.bytes_out);
        connection
            .prepare_cached(sql)
            .or_store()?
            .execute(params![
                id,
                day.day,
                day.upstream,
                day.tool,
                day.outcome,
                sums.0,
                sums.1,
                sums.2,
                sums.3
            ])
            .or_store()?;
    }
    for call in &archive.calls {
        let sql = "INSERT INTO latest_calls (pat_id, at, upstream, tool, outcome, duration, bytes_in, bytes_out) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let id = call.pat_id.as_bytes();
        connection
            .prepare_cached(sql)
            .or_store()?
            .execute(params![
                id,
                call.at,
                call.upstream,
                call.tool,
                call.outcome,
                call.duration,
                call.bytes_in,
                call.bytes_out
            ])
            .or_store()?;
    }
    notices::into_sqlite(connection, archive)?;
    super::rotation::into_sqlite(connection, archive)?;
    super::policy::into_sqlite(connection, archive)?;
    super::audit::into_sqlite(connection, archive)?;
    read_back(connection)?;
    Ok(Ok(()))
}

/// Reads the imported rows in the same way as later reads. If a row cannot be read, the whole
/// import is refused.
fn read_back(connection: &Connection) -> Result<(), StoreError> {
    read::from_sqlite(connection, &format!("SELECT {PAT} FROM pats p"), |row| rows::pat(row).map(drop))?;
    read::from_sqlite(connection, &format!("SELECT {USER} FROM users u"), |row| {
        rows::user(row, 0).map(drop)
    })?;
    let mut seq = 0;
    while let Some(last) = log_after(connection, seq)?.last() {
        seq = last.seq;
    }
    Ok(())
}
