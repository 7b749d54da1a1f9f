//! What somebody looks for in the audit log.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::AuditEntry;

/// Which entries are looked for: those that fit all that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Whose account it concerns.
    pub user_id: Option<Uuid>,
    /// Which account did it, by itself or with a token.
    pub actor_id: Option<Uuid>,
    /// Which token it concerns, or did it.
    pub pat_id: Option<Uuid>,
    /// What.
    pub action: Option<AuditAction>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether an entry fits.
    pub fn fits(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: Option<Uuid>, found: &[Option<Uuid>]| wanted.is_none() || found.contains(&wanted);
        is(self.user_id, &[entry.user_id])
            && is(self.actor_id, &[entry.actor.user_id])
            && is(self.pat_id, &[entry.pat_id, entry.actor.pat_id])
            && self.action.as_ref().is_none_or(|action| action.fits(&entry.action))
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
    }
}

/// A page that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditLook {
    /// Which entries.
    pub filter: AuditFilter,
    /// Those behind this place; `None`: from the beginning.
    pub after: Option<AuditPlace>,
    /// The oldest first, instead of the newest.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: u64,
}

/// Which actions are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditAction {
    /// One, such as `token.created`.
    One(String),
    /// All of a subject, such as `token`.
    Subject(String),
}

impl AuditAction {
    /// Whether an action is among them.
    pub fn fits(&self, action: &str) -> bool {
        match self {
            Self::One(one) => one == action,
            Self::Subject(subject) => action.split_once('.').is_some_and(|(of, _)| of == subject),
        }
    }
}

impl From<&str> for AuditAction {
    /// `token.created` is one, `token` (or `token.`) a subject.
    fn from(text: &str) -> Self {
        match text.split_once('.') {
            Some((subject, "")) => Self::Subject(subject.to_owned()),
            Some(_) => Self::One(text.to_owned()),
            None => Self::Subject(text.to_owned()),
        }
    }
}

/// A time (RFC 3339), or of a day (UTC) the moment at which it begins, or with `end` ends.
pub fn parse_audit_time(text: &str, end: bool) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let day: Date = text.parse().ok()?;
    let day = if end { day.tomorrow().ok()? } else { day };
    TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
}

/// Where a page of the log ends, and the next goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// The last entry's time.
    pub at: Timestamp,
    /// Its number.
    pub seq: u64,
}

/// A text is no place in the audit log.
#[derive(Debug, thiserror::Error)]
#[error("this is not a position in the audit log; use `next` as the answer has it")]
pub struct BadPlace;

impl fmt::Display for AuditPlace {
    /// As text that means nothing to others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.at.as_microsecond().to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for AuditPlace {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadPlace)?;
        let bytes = u128::from_be_bytes(<[u8; 16]>::try_from(bytes).map_err(|_| BadPlace)?);
        #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the two halves")]
        let (at, seq) = ((bytes >> 64) as u64 as i64, bytes as u64);
        Ok(Self { at: Timestamp::from_microsecond(at).map_err(|_| BadPlace)?, seq })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_nothing_else_is_one() {
        for (at, seq) in [(0, 0), (1_775_563_200_000_001, 7), (-1, u64::MAX)] {
            let place = AuditPlace { at: Timestamp::from_microsecond(at).expect("in range"), seq };
            assert_eq!(place.to_string().parse::<AuditPlace>().expect("reads"), place);
        }
        let no_time = URL_SAFE_NO_PAD.encode([0x7f; 16]);
        for text in ["", "AAAA", "///////////////////////", &no_time, "AAAAAAAAAAAAAAAAAAAAAA=="] {
            assert!(text.parse::<AuditPlace>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subject_is_all_its_actions_and_no_other_s() {
        let token = AuditAction::from("token");
        assert_eq!(token, AuditAction::from("token."));
        assert!(token.fits("token.created") && !token.fits("tokens.created") && !token.fits("token"));
        let created = AuditAction::from("token.created");
        assert!(created.fits("token.created") && !created.fits("token.revoked"));
    }

    #[test]
    fn a_day_has_a_beginning_and_an_end() {
        let time = |text: &str, end| parse_audit_time(text, end).map(|at| at.to_string());
        assert_eq!(time("2026-04-07", false).as_deref(), Some("2026-04-07T00:00:00Z"));
        assert_eq!(time("2026-04-07", true).as_deref(), Some("2026-04-08T00:00:00Z"));
        for end in [false, true] {
            assert_eq!(time("2026-04-07T12:00:00+02:00", end).as_deref(), Some("2026-04-07T10:00:00Z"));
            for wrong in ["", "yesterday", "2026-13-01", "07.04.2026"] {
                assert_eq!(time(wrong, end), None, "{wrong}");
            }
        }
    }
}
