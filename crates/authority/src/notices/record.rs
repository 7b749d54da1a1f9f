//! What a store keeps of notices, of who is told, and of how that went.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trustrelay_token::KeyId;
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

/// A notice that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotice {
    /// The notice.
    pub notice: Notice,
    /// What it is about, in a word that no other notice has: of two with the same, the first stays.
    pub once: String,
    /// The only webhook that it goes to; `None`: to all that there are for its account, and by
    /// mail.
    pub only: Option<Uuid>,
}

/// Where an account, or an administrator for all accounts, is told by HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookRecord {
    /// Its identity (UUIDv7).
    pub webhook_id: Uuid,
    /// Whose notices it gets; `None`: everybody's.
    pub user_id: Option<Uuid>,
    /// Where it goes. It may hold what is nobody else's business.
    pub url: String,
    /// The scheme, the host and the port of that: what the delivery log shows.
    pub origin: String,
    /// The key that its signing secret is derived from.
    pub key_id: KeyId,
    /// When it was added.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for WebhookRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookRecord")
            .field("webhook_id", &self.webhook_id)
            .field("user_id", &self.user_id)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// How a notice reaches somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// By mail.
    Mail,
    /// By HTTP.
    Webhook,
}

impl Channel {
    /// Its name, in the store and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }

    /// The channel of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Mail, Self::Webhook].into_iter().find(|channel| channel.name() == name)
    }
}

/// How it stands with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It is tried, or tried again.
    Pending,
    /// It has arrived.
    Done,
    /// It was given up.
    Failed,
}

impl DeliveryState {
    /// Its name, in the store and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// The state of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Pending, Self::Done, Self::Failed].into_iter().find(|state| state.name() == name)
    }
}

/// A notice's way to one place, as the delivery log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Its identity.
    pub delivery_id: Uuid,
    /// How it goes.
    pub channel: Channel,
    /// The webhook, if it goes to one.
    pub webhook_id: Option<Uuid>,
    /// Whether that is one for all accounts: only administrators see those.
    pub is_shared: bool,
    /// Where it goes: a mail address, or a webhook's origin.
    pub target: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, if it is pending.
    pub next_at: Timestamp,
    /// How it stands.
    pub state: DeliveryState,
    /// What was wrong the last time.
    pub error: Option<String>,
    /// When it arrived or was given up.
    pub done_at: Option<Timestamp>,
}

/// A notice and how it reaches people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldNotice {
    /// The notice.
    pub notice: Notice,
    /// The address of its account.
    pub email: String,
    /// Its ways: by mail first, then by origin and id.
    pub deliveries: Vec<DeliveryRecord>,
}

/// What is claimed of the deliveries that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is due now.
    pub now: Timestamp,
    /// Until then nobody else gets it.
    pub until: Timestamp,
    /// So many at most, those that are due for longest first.
    pub limit: u64,
    /// Of this notice alone.
    pub notice_id: Option<Uuid>,
}

/// Where a claimed delivery goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To this address.
    Mail(String),
    /// To this webhook.
    Webhook(WebhookRecord),
    /// To a webhook that was removed meanwhile.
    Gone,
}

/// A delivery that whoever claimed it tries now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its identity.
    pub delivery_id: Uuid,
    /// The how-manieth try it is: the claim's own number too.
    pub attempt: u32,
    /// What is told.
    pub notice: Notice,
    /// The address of the account that it is about.
    pub email: String,
    /// Where it goes.
    pub target: Target,
}

/// How a try went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has arrived.
    Done,
    /// It is tried again.
    Later {
        /// When.
        next_at: Timestamp,
        /// What was wrong.
        error: String,
    },
    /// It is given up.
    Failed(String),
}

/// Tokens whose end comes near, and that nobody was told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// The notice that they lack.
    pub kind: NoticeKind,
    /// They expire after this…
    pub after: Timestamp,
    /// …and not after that.
    pub until: Timestamp,
    /// They live longer than so many microseconds: a token that was made with less has no use for
    /// the notice.
    pub made_before: i64,
}

/// What the notice of a token's end is about: of each kind there is one for each end that a token
/// is given.
pub fn once_for_end(kind: NoticeKind, pat_id: Uuid, expires_at: Timestamp) -> String {
    format!("{}:{}:{}", kind.name(), pat_id.simple(), expires_at.as_microsecond())
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
