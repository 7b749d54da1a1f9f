//! In which order tokens are found: always in that of an index that holds what was asked for, so
//! that a page reads little more than it shows, however many tokens there are.

use jiff::Timestamp;

use crate::admin::{Cursor, Key, PatFilter, PatState};
use crate::record::PatRecord;

/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What pages of tokens go by; where it is the same in several, by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatOrder {
    /// The newest first.
    Newest,
    /// By name, ASCII letters in lower case, in the order of the bytes.
    Name,
    /// Those that end soonest first.
    EndsSoonest,
    /// Those that ended last first.
    EndedLast,
    /// Those first that have not been used for the longest, by the day (UTC) of the last use. By
    /// the day alone, so that a use changes this order once a day, and not each time.
    UnusedLongest,
}

impl PatOrder {
    /// Whether the larger comes first.
    pub fn is_descending(self) -> bool {
        matches!(self, Self::Newest | Self::EndedLast)
    }

    /// What a token has its place by.
    pub fn key(self, pat: &PatRecord) -> Key {
        Key::Micros(match self {
            Self::Newest => pat.created_at.as_microsecond(),
            Self::Name => return Key::Text(pat.name.to_ascii_lowercase()),
            Self::EndsSoonest | Self::EndedLast => pat.expires_at.as_microsecond(),
            Self::UnusedLongest => unused_day(pat.last_used_at.unwrap_or(pat.created_at)) * MICROS_PER_DAY,
        })
    }

    /// Where the list goes on after a token.
    pub fn after(self, pat: &PatRecord) -> Cursor {
        Cursor { key: self.key(pat), id: pat.pat_id }
    }
}

/// The day of a last use, counted from 1970.
pub fn unused_day(at: Timestamp) -> i64 {
    at.as_microsecond() / MICROS_PER_DAY
}

impl PatFilter {
    /// The order of its pages: an owner's tokens and those of a hint the newest first; else by what
    /// the filter asks for.
    pub fn order(&self) -> PatOrder {
        let is_of_few = self.owner.is_some() || self.hint.is_some();
        match self.state {
            _ if is_of_few => PatOrder::Newest,
            _ if self.name.is_some() => PatOrder::Name,
            Some(PatState::Revoked) => PatOrder::Newest,
            _ if self.unused_since.is_some() => PatOrder::UnusedLongest,
            Some(PatState::Expired) => PatOrder::EndedLast,
            Some(PatState::Active) => PatOrder::EndsSoonest,
            None if self.expires_before.is_some() => PatOrder::EndsSoonest,
            None => PatOrder::Newest,
        }
    }

    /// Whether revoked tokens are left out though nothing is said of the state: who asks when
    /// tokens end, or were used, asks of those that could be.
    pub fn leaves_revoked_out(&self) -> bool {
        self.state.is_none() && (self.expires_before.is_some() || self.unused_since.is_some())
    }
}
