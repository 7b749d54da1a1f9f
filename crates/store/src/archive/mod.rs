//! All that a store keeps for good, as a file: JSON Lines that any store reads. A header that names the format's version, a line for each
//! thing, and an end that says how many lines there were, so that a file which was cut short is noticed.
//!
//! It holds accounts with their password hashes, tokens as digests, the log, the policy, notices with where they go, and the audit log with its chain and its
//! seals. It holds no browser sessions, which end with a move, and no nodes.

mod audit;
mod check;
mod notices;
mod policy;
mod postgres;
mod rotation;
mod sqlite;

use std::io::{BufRead, Write};

use async_trait::async_trait;
use audit::{Audited, Mark, Seal};
use serde::{Deserialize, Serialize};
use trustrelay_authority::StoreError;
use uuid::Uuid;

/// The format's version. What a program does not know it refuses.
const VERSION: u32 = 1;

/// All that a store keeps for good.
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
    /// The fingerprint of the server secret that was active, if the archive names one.
    pub fn fingerprint(&self) -> Option<[u8; 16]> {
        self.fingerprint.as_ref()?.0.as_slice().try_into().ok()
    }
}

/// A store whose data can be moved.
#[async_trait]
pub trait Archived: Send + Sync {
    /// Reads all of it, as it was at one moment.
    async fn export(&self) -> Result<Archive, StoreError>;
    /// Writes all of it into a store that is empty and bound to the same secret, in one transaction.
    async fn import(&self, archive: Archive) -> Result<(), NotImported>;
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum NotImported {
    /// There is data already.
    #[error("the store is not empty")]
    NotEmpty,
    /// The store is bound to another secret, under which none of the tokens could be used. It is bound to none now.
    #[error("the archive was written under another server secret")]
    OtherSecret,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file is no archive, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadArchive {
    /// The system cannot read it.
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    /// It does not begin as one.
    #[error("it is no export of TrustRelay")]
    NotOne,
    /// It is of a newer program.
    #[error("it is of version {0} and this program knows {VERSION}; use the newer TrustRelay that wrote it")]
    Newer(u32),
    /// A line is not as it was written. What is in it is not repeated.
    #[error("line {0} is damaged")]
    Damaged(usize),
    /// A value of a line is none that a store could read back. The value is not repeated.
    #[error("line {line}: `{value}` is nothing that TrustRelay can have written")]
    Value {
        /// The line.
        line: usize,
        /// The value's name.
        value: &'static str,
    },
    /// It ends too early.
    #[error("it was cut short after line {0}")]
    CutShort(usize),
}

/// Bytes, in base64.
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

/// A line behind the header. Times and durations are microseconds.
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
    /// How many lines there were before it, the header not counted.
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
    /// Left out where it is none, so that a program of before reads the line.
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
    // What a token is held to. Files from before it could be have none of it.
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
    /// Puts the tokens that entries name to their entries. Both come in the entries' order.
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

    /// How much it is, in words.
    pub fn summary(&self) -> String {
        format!(
            "{} accounts, {} tokens, {} log entries and {} audit entries",
            self.users.len(),
            self.pats.len(),
            self.log.len(),
            self.audit.len()
        )
    }

    /// Writes it as a file.
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

    /// Reads it from a file, to the end.
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
