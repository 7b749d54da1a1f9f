//! Archives: all durable data of a store as a file that any store can import. The file is JSON
//! Lines: a header with the format's version, a line for each item, and an end line with the number
//! of lines, so that a truncated file is noticed.
//!
//! An archive contains accounts with their password hashes, tokens as digests, the log, the policy,
//! notices with their destinations, and the audit log with its chain and its seals. It contains no
//! browser sessions, which end with a move, and no nodes.

mod audit;
mod check;
mod notices;
mod policy;
mod postgres;
mod read;
mod rotation;
mod sqlite;

use std::io::{BufRead, Write};

use async_trait::async_trait;
use audit::{Audited, Mark, Seal};
use serde::{Deserialize, Serialize};
use trustrelay_authority::StoreError;
use uuid::Uuid;

/// The format's version. A program refuses unknown versions.
const VERSION: u32 = 1;

/// All durable data of a store.
#[derive(Default)]
pub struct Archive {
    fingerprint: Option<Bytes>,
    users: Vec<User>,
    pats: Vec<Pat>,
    log: Vec<Entry>,
    days: Vec<Day>,
    calls: Vec<One>,
    hooks: Vec<notices::Hook>,
    told: Vec<notices::Told>,
    ways: Vec<notices::Way>,
    rotated: Vec<rotation::Rotated>,
    retired: Vec<rotation::Retired>,
    named: Vec<rotation::Named>,
    policy: Option<policy::Decided>,
    audit_cut: Option<Mark>,
    audit: Vec<Audited>,
    seals: Vec<Seal>,
}

impl Archive {
    /// Returns the fingerprint of the server secret that was active, if the archive names one.
    pub fn fingerprint(&self) -> Option<[u8; 16]> {
        self.fingerprint.as_ref()?.0.as_slice().try_into().ok()
    }
}

/// A store whose data can be moved.
#[async_trait]
pub trait Archived: Send + Sync {
    /// Reads all data from one consistent snapshot.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if the store cannot be read.
    async fn export(&self) -> Result<Archive, StoreError>;
    /// Writes all data into a store that is empty and bound to the same secret, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns [`NotImported`] if the store is not empty, is bound to another secret, or fails.
    /// Nothing was imported then.
    async fn import(&self, archive: Archive) -> Result<(), NotImported>;
}

/// The reason why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum NotImported {
    /// The store already contains data.
    #[error("the data directory or database is not empty")]
    NotEmpty,
    /// The store was bound to another secret, with which no imported token would work. The binding
    /// was removed.
    #[error("the archive was written under another server secret")]
    OtherSecret,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file is not a complete archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadArchive {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    /// The file does not begin like an archive.
    #[error("it is not a TrustRelay export")]
    NotOne,
    /// The file was written by a newer program.
    #[error(
        "it has version {0}, but this program supports {VERSION}; use the newer TrustRelay version that wrote it"
    )]
    Newer(u32),
    /// A line is damaged. Its content is not repeated.
    #[error("line {0} is damaged")]
    Damaged(usize),
    /// A line contains a value that no store could read back. The value is not repeated.
    #[error("line {line}: `{value}` was not written by TrustRelay")]
    Value {
        /// The line's number.
        line: usize,
        /// The value's name.
        value: &'static str,
    },
    /// The file ends too early.
    #[error("it is incomplete after line {0}")]
    CutShort(usize),
}

/// Bytes, serialized in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    trustrelay_export: u32,
    secret_fingerprint: Option<Bytes>,
}

/// A line after the header. Times and durations are in microseconds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    User(User),
    Pat(Box<Pat>),
    Log(Entry),
    CallDay(Day),
    Call(One),
    Webhook(notices::Hook),
    Notice(notices::Told),
    Delivery(notices::Way),
    Rotated(rotation::Rotated),
    RetiredSecret(rotation::Retired),
    LogSecret(rotation::Named),
    Policy(policy::Decided),
    AuditCut(Mark),
    Audit(Audited),
    AuditSeal(Seal),
    /// The number of preceding lines, not counting the header.
    End(usize),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    user_id: Uuid,
    email: String,
    password_hash: String,
    is_admin: bool,
    created_at: i64,
    disabled_at: Option<i64>,
    changed_seq: i64,
    /// Omitted if `None`, so that older programs can read the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstreams: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pat {
    pat_id: Uuid,
    user_id: Uuid,
    name: String,
    hint: String,
    scopes: String,
    digest: Bytes,
    key_id: i64,
    parent_id: Option<Uuid>,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    revoked_seq: Option<i64>,
    last_used_at: Option<i64>,
    last_used_address: Option<String>,
    last_used_agent: Option<String>,
    use_count: i64,
    // A token's limits. Files written before limits existed have none of these members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowed_networks: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused_days: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    seq: i64,
    at: i64,
    kind: String,
    user_id: Option<Uuid>,
    pats: Vec<(Uuid, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    pat_id: Uuid,
    day: String,
    upstream: String,
    tool: String,
    outcome: String,
    calls: i64,
    duration: i64,
    bytes_in: i64,
    bytes_out: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    pat_id: Uuid,
    at: i64,
    upstream: String,
    tool: String,
    outcome: String,
    duration: i64,
    bytes_in: i64,
    bytes_out: i64,
}

impl Archive {
    /// Adds the tokens that log entries name to the entries. Both are sorted by sequence number.
    fn name(&mut self, named: Vec<(i64, Uuid, Bytes)>) -> Result<(), StoreError> {
        let mut entries = self.log.iter_mut().peekable();
        for (seq, pat_id, digest) in named {
            while entries.next_if(|entry| entry.seq < seq).is_some() {}
            match entries.peek_mut() {
                Some(entry) if entry.seq == seq => entry.pats.push((pat_id, digest)),
                _ => {
                    return Err(StoreError::Corrupt(format!(
                        "the log has no entry {seq}, which names tokens"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Describes the amount of data in words.
    pub fn summary(&self) -> String {
        format!(
            "{} accounts, {} tokens, {} log entries and {} audit entries",
            self.users.len(),
            self.pats.len(),
            self.log.len(),
            self.audit.len()
        )
    }

    /// Writes the archive as a file.
    ///
    /// # Errors
    ///
    /// Returns the error of the writer.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let header = Header { trustrelay_export: VERSION, secret_fingerprint: self.fingerprint.clone() };
        line(out, &header)?;
        let users = self.users.iter().cloned().map(Line::User);
        let pats = self.pats.iter().cloned().map(|pat| Line::Pat(Box::new(pat)));
        let log = self.log.iter().cloned().map(Line::Log);
        let days = self.days.iter().cloned().map(Line::CallDay);
        let calls = self.calls.iter().cloned().map(Line::Call);
        let hooks = self.hooks.iter().cloned().map(Line::Webhook);
        let told = self.told.iter().cloned().map(Line::Notice);
        let ways = self.ways.iter().cloned().map(Line::Delivery);
        let notices = hooks.chain(told).chain(ways);
        let mut lines = 0;
        let audit = self.audit_lines();
        for one in users
            .chain(pats)
            .chain(log)
            .chain(days)
            .chain(calls)
            .chain(notices)
            .chain(self.rotation_lines())
            .chain(self.policy_line())
            .chain(audit)
        {
            line(out, &one)?;
            lines += 1;
        }
        line(out, &Line::End(lines))
    }

    /// Reads an archive from a file, to its end.
    ///
    /// # Errors
    ///
    /// Returns [`BadArchive`] if the file cannot be read, is not a complete archive, or contains
    /// invalid values.
    pub fn read(file: impl BufRead) -> Result<Self, BadArchive> {
        let mut lines = file.lines();
        let first = match lines.next() {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::InvalidData => return Err(error.into()),
            Some(Ok(first)) => first,
            _ => return Err(BadArchive::NotOne),
        };
        let version: serde_json::Value = serde_json::from_str(&first).map_err(|_| BadArchive::NotOne)?;
        match version.get("trustrelay_export").and_then(serde_json::Value::as_u64) {
            None => return Err(BadArchive::NotOne),
            Some(version) if version != u64::from(VERSION) => {
                return Err(BadArchive::Newer(u32::try_from(version).unwrap_or(u32::MAX)));
            }
            Some(_) => {}
        }
        let header: Header = serde_json::from_str(&first).map_err(|_| BadArchive::Damaged(1))?;
        let mut archive = Self { fingerprint: header.secret_fingerprint, ..Self::default() };
        let mut read = 0;
        let mut checker = check::Checker::default();
        for text in lines {
            let at = read + 2;
            let line: Line = serde_json::from_str(&text?).map_err(|_| BadArchive::Damaged(at))?;
            if let Some(value) = checker.check(&line) {
                return Err(BadArchive::Value { line: at, value });
            }
            match line {
                Line::User(user) => archive.users.push(user),
                Line::Pat(pat) => archive.pats.push(*pat),
                Line::Log(entry) => archive.log.push(entry),
                Line::CallDay(day) => archive.days.push(day),
                Line::Call(call) => archive.calls.push(call),
                Line::Webhook(hook) => archive.hooks.push(hook),
                Line::Notice(told) => archive.told.push(told),
                Line::Delivery(way) => archive.ways.push(way),
                Line::Rotated(rotated) => archive.rotated.push(rotated),
                Line::RetiredSecret(secret) => archive.retired.push(secret),
                Line::LogSecret(secret) => archive.named.push(secret),
                Line::Policy(decided) => archive.policy = Some(decided),
                Line::AuditCut(cut) => archive.audit_cut = Some(cut),
                Line::Audit(entry) => archive.audit.push(entry),
                Line::AuditSeal(seal) => archive.seals.push(seal),
                Line::End(lines) if lines == read => return Ok(archive),
                Line::End(_) => return Err(BadArchive::Damaged(at)),
            }
            read += 1;
        }
        Err(BadArchive::CutShort(read + 1))
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
