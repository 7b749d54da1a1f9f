//! Validation of archives. A line must contain values that a store can read back, otherwise it is
//! refused. Without this check, a file that was modified, or damaged but still valid JSON, would be
//! noticed only when a token is used.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use trustrelay_authority::{AuditEntry, Channel, DeliveryState, NoticeFacts, NoticeKind, Policy};
use trustrelay_token::ScopeSet;

use super::{Bytes, Day, Entry, Line, One, Pat, User};
use crate::sql::limits::Kept;

/// The largest number that is accepted. Stores continue counting from the imported numbers.
const MAX_NUMBER: i64 = i64::MAX / 2;

/// Checks the lines in their order.
#[derive(Default)]
pub(super) struct Checker {
    /// The kind of each log entry.
    log: HashMap<i64, Kind>,
    last_entry: Option<i64>,
    last_audit: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Revoked,
    Retired,
    Other,
}

/// The name of the first invalid value, if there is one.
type Wrong = Option<&'static str>;

fn first(checks: &[(&'static str, bool)]) -> Wrong {
    checks.iter().find_map(|(name, good)| (!good).then_some(*name))
}

pub(super) fn is_time(micros: i64) -> bool {
    Timestamp::from_microsecond(micros).is_ok()
}

fn is_optional_time(micros: Option<i64>) -> bool {
    micros.is_none_or(is_time)
}

fn is_key(key_id: i64) -> bool {
    u32::try_from(key_id).is_ok()
}

fn is_count(count: i64) -> bool {
    (0..=MAX_NUMBER).contains(&count)
}

fn is_seq(seq: i64) -> bool {
    (1..=MAX_NUMBER).contains(&seq)
}

fn is_digest(bytes: &Bytes) -> bool {
    bytes.0.len() == 32
}

impl Checker {
    /// Returns the name of a value that no store could read back, if there is one.
    pub(super) fn check(&mut self, line: &Line) -> Wrong {
        match line {
            Line::User(user) => check_user(user),
            Line::Pat(pat) => check_pat(pat),
            Line::Log(entry) => self.check_entry(entry),
            Line::CallDay(day) => check_day(day),
            Line::Call(call) => check_call(call),
            Line::Webhook(hook) => {
                first(&[("key_id", is_key(hook.key_id)), ("created_at", is_time(hook.created_at))])
            }
            Line::Notice(told) => first(&[
                ("kind", NoticeKind::named(&told.kind).is_some()),
                ("created_at", is_time(told.created_at)),
                ("facts", serde_json::from_str::<NoticeFacts>(&told.facts).is_ok()),
            ]),
            Line::Delivery(way) => first(&[
                ("channel", Channel::named(&way.channel).is_some()),
                ("attempts", u32::try_from(way.attempts).is_ok()),
                ("next_at", is_time(way.next_at)),
                ("state", DeliveryState::named(&way.state).is_some()),
                ("done_at", is_optional_time(way.done_at)),
            ]),
            Line::Rotated(rotated) => first(&[("at", is_time(rotated.at))]),
            Line::RetiredSecret(secret) => first(&[
                ("digest", is_digest(&secret.digest)),
                ("key_id", is_key(secret.key_id)),
                ("retired_at", is_time(secret.retired_at)),
                ("valid_until", is_time(secret.valid_until)),
                ("used_after_at", is_optional_time(secret.used_after_at)),
            ]),
            Line::LogSecret(secret) => {
                let kind = self.log.get(&secret.seq);
                let is_timed = secret.valid_until.is_some();
                first(&[
                    ("seq", kind.is_some_and(|kind| *kind != Kind::Other)),
                    ("digest", is_digest(&secret.digest)),
                    ("valid_until", is_optional_time(secret.valid_until)),
                    ("valid_until", is_timed == (kind == Some(&Kind::Retired))),
                ])
            }
            Line::Policy(decided) => first(&[
                ("version", is_seq(decided.version)),
                ("entry", Policy::from_json(&decided.entry).is_ok()),
            ]),
            Line::AuditCut(cut) => {
                self.last_audit = Some(cut.seq);
                first(&[("seq", is_seq(cut.seq)), ("hash", is_digest(&cut.hash))])
            }
            Line::Audit(entry) => {
                let follows = entry.seq == self.last_audit.unwrap_or(0).saturating_add(1);
                self.last_audit = Some(entry.seq);
                first(&[
                    ("seq", follows && is_seq(entry.seq)),
                    ("entry", AuditEntry::from_bytes(&entry.entry.0).is_ok()),
                    ("hash", is_digest(&entry.hash)),
                ])
            }
            Line::AuditSeal(seal) => {
                first(&[("seq", is_seq(seal.seq)), ("at", is_time(seal.at)), ("mac", is_digest(&seal.mac))])
            }
            Line::End(_) => None,
        }
    }

    /// Entries are numbered without gaps.
    fn check_entry(&mut self, entry: &Entry) -> Wrong {
        let follows = self.last_entry.is_none_or(|last| entry.seq == last.saturating_add(1));
        self.last_entry = Some(entry.seq);
        let (kind, names_user) = match entry.kind.as_str() {
            "revoked" => (Kind::Revoked, false),
            "retired" => (Kind::Retired, false),
            "policy" => (Kind::Other, false),
            "disabled" | "enabled" | "upstreams" | "admin" => (Kind::Other, true),
            _ => return Some("kind"),
        };
        self.log.insert(entry.seq, kind);
        first(&[
            ("seq", follows && is_seq(entry.seq)),
            ("at", is_time(entry.at)),
            ("user_id", !names_user || entry.user_id.is_some()),
            ("pats", kind == Kind::Revoked || entry.pats.is_empty()),
            ("pats", entry.pats.iter().all(|(_, digest)| is_digest(digest))),
        ])
    }
}

fn check_user(user: &User) -> Wrong {
    first(&[
        ("created_at", is_time(user.created_at)),
        ("disabled_at", is_optional_time(user.disabled_at)),
        ("changed_seq", is_count(user.changed_seq)),
    ])
}

fn check_pat(pat: &Pat) -> Wrong {
    let limits = Kept {
        allowed_networks: pat.allowed_networks.clone(),
        requests_per_minute: pat.requests_per_minute,
        unused_days: pat.unused_days,
    };
    let address = pat.last_used_address.as_ref();
    first(&[
        ("scopes", pat.scopes.parse::<ScopeSet>().is_ok()),
        ("digest", is_digest(&pat.digest)),
        ("key_id", is_key(pat.key_id)),
        ("created_at", is_time(pat.created_at)),
        ("expires_at", is_time(pat.expires_at)),
        ("revoked_at", is_optional_time(pat.revoked_at)),
        ("revoked_seq", pat.revoked_seq.is_none_or(is_seq)),
        ("revoked_seq", pat.revoked_at.is_some() == pat.revoked_seq.is_some()),
        ("last_used_at", is_optional_time(pat.last_used_at)),
        ("last_used_address", address.is_none_or(|address| address.parse::<std::net::IpAddr>().is_ok())),
        ("use_count", is_count(pat.use_count)),
        ("allowed_networks", limits.read().is_ok()),
    ])
}

fn check_day(day: &Day) -> Wrong {
    first(&[
        // The day must be in canonical form, because days are compared as text.
        ("day", day.day.parse::<Date>().is_ok_and(|parsed| parsed.to_string() == day.day)),
        ("calls", is_count(day.calls)),
        ("duration", is_count(day.duration)),
        ("bytes_in", is_count(day.bytes_in)),
        ("bytes_out", is_count(day.bytes_out)),
    ])
}

fn check_call(call: &One) -> Wrong {
    first(&[
        ("at", is_time(call.at)),
        ("duration", is_count(call.duration)),
        ("bytes_in", is_count(call.bytes_in)),
        ("bytes_out", is_count(call.bytes_out)),
    ])
}
