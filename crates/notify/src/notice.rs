//! What a notice tells of, as it is kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happened, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoticeKind {
    /// A token expires within 30 days.
    Expiring30d,
    /// A token expires within 7 days.
    Expiring7d,
    /// A token expires within a day.
    Expiring1d,
    /// A token was found where others could read it, and was revoked.
    Leaked,
    /// A secret was used after it had been replaced: somebody has a copy of it.
    RetiredSecretUsed,
    /// A token was not used for as long as it may be, and was revoked.
    UnusedEnded,
    /// An administrator revoked a token.
    RevokedByAdmin,
    /// Somebody tried whether notices arrive.
    Test,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Expiring30d,
        Self::Expiring7d,
        Self::Expiring1d,
        Self::Leaked,
        Self::RetiredSecretUsed,
        Self::UnusedEnded,
        Self::RevokedByAdmin,
        Self::Test,
    ];

    /// Its name, in the store and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiring30d => "expiring_30d",
            Self::Expiring7d => "expiring_7d",
            Self::Expiring1d => "expiring_1d",
            Self::Leaked => "leaked",
            Self::RetiredSecretUsed => "retired_secret_used",
            Self::UnusedEnded => "unused_ended",
            Self::RevokedByAdmin => "revoked_by_admin",
            Self::Test => "test",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What is told beside the kind: as it was when the notice was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoticeFacts {
    /// The token's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pat_name: Option<String>,
    /// The token's hint; of a retired secret, that secret's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pat_hint: Option<String>,
    /// When the token expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Where a leak was seen, or where from something was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<String>,
    /// For how many days a token was not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_days: Option<u16>,
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its identity (UUIDv7).
    pub notice_id: Uuid,
    /// Whom it is for.
    pub user_id: Uuid,
    /// The token that it is about, if it is about one.
    pub pat_id: Option<Uuid>,
    /// What it tells.
    pub kind: NoticeKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it tells beside that.
    pub facts: NoticeFacts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_its_name() {
        for kind in NoticeKind::ALL {
            assert_eq!(NoticeKind::named(kind.name()), Some(kind));
        }
        assert_eq!(NoticeKind::named("expiring_2d"), None);
    }

    #[test]
    fn facts_of_a_newer_program_are_passed_over() {
        let facts: NoticeFacts = serde_json::from_str(r#"{"pat_name":"ci","new":1}"#).expect("reads");
        assert_eq!(facts, NoticeFacts { pat_name: Some("ci".into()), ..NoticeFacts::default() });
        assert_eq!(serde_json::to_string(&facts).expect("writes"), r#"{"pat_name":"ci"}"#);
    }
}
