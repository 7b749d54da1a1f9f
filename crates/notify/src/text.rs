//! The wording of notices: a mail for people, JSON for programs. The text depends on the notice
//! alone, so that every attempt sends the same text.

use jiff::Timestamp;
use serde::Serialize;
use trustrelay_authority::{Notice, NoticeFacts, NoticeKind};
use url::Url;
use uuid::Uuid;

use crate::failure::one_line;

/// Maximum length of a token's name in a mail, in characters. Equal to the limit for names.
const MAX_NAME: usize = 100;
/// Maximum length of a location in a mail, in characters. The location of a leak is a URL that the
/// reporter chose.
const MAX_PLACE: usize = 300;

/// A rendered notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The mail's subject, one line.
    pub subject: String,
    /// The mail's body, plain text.
    pub body: String,
    /// The body of a webhook's request.
    pub json: String,
}

/// Renders a notice. `email` is the address of the account that the notice concerns. `base` is the
/// URL of this TrustRelay's pages.
pub fn tell(notice: &Notice, email: &str, base: &Url) -> Text {
    let (subject, first, rest) = words(notice);
    let link = |path: &str| base.join(path).map_or_else(|_| path.to_owned(), String::from);
    let host = base.host_str().unwrap_or("TrustRelay");
    let body = format!(
        "{first}\n\n{rest}\n\nYour tokens: {}\nYour notice settings: {}\n\n-- \nSent by TrustRelay at {host} to {}, because this is your account.\n",
        link("/settings/developer"),
        link("/settings/notices"),
        one_line(email, 254),
    );
    Text { subject, body, json: json(notice, email) }
}

/// Returns the subject, what happened, and what to do.
fn words(notice: &Notice) -> (String, String, &'static str) {
    let facts = &notice.facts;
    let name = format!("\"{}\"", one_line(facts.pat_name.as_deref().unwrap_or("?"), MAX_NAME));
    let token = match &facts.pat_hint {
        Some(hint) => format!("{name} ({})", one_line(hint, 10)),
        None => name.clone(),
    };
    let place = facts.seen_at.as_deref().map(|place| one_line(place, MAX_PLACE));
    // Anyone who holds a token may report it and may give any location.
    let reported = place.as_ref().map_or(String::new(), |place| {
        format!(
            "\n\nIt was found here, according to the report (TrustRelay did not check this address): {place}"
        )
    });
    let from = place.as_ref().map_or(String::new(), |place| format!(", from {place}"));
    let when = minute(notice.created_at);
    match notice.kind {
        NoticeKind::Expiring30d | NoticeKind::Expiring7d | NoticeKind::Expiring1d => {
            let end = facts.expires_at.unwrap_or(notice.created_at);
            let left = days_left(notice.created_at, end);
            (
                format!("Your token {name} expires {left}"),
                format!("Your personal access token {token} expires {left}, on {}.", minute(end)),
                "After that, the token no longer works. If you still need it, rotate it before it expires to avoid interruptions,\n\
                 and replace the old secret wherever it is used. If nothing uses the token any more, you don't need to do anything.",
            )
        }
        NoticeKind::Leaked => (
            format!("Your token {name} was found in public and has been revoked"),
            format!(
                "Your personal access token {token} was found in a public place and revoked on {when}.{reported}"
            ),
            "The token no longer works. Someone may have used it before it was revoked, so check the token's activity. Create a new\n\
             token if you need one, and remove the old one from the place where it was found.",
        ),
        NoticeKind::RetiredSecretUsed => (
            format!("An old secret of your token {name} was used"),
            format!(
                "Someone used an old secret of your personal access token {token} on {when}{from}. It was refused."
            ),
            "The secret was replaced when the token was rotated. Either one of your clients still uses the old secret, or\n\
             someone else has a copy of it. If you are not sure, revoke the token and create a new one.",
        ),
        NoticeKind::UnusedEnded => {
            let days = facts.unused_days.map_or(String::new(), |days| format!(" for {days} days"));
            (
                format!("Your token {name} was not used and has been revoked"),
                format!("Your personal access token {token} was not used{days}. It was revoked on {when}."),
                "Unused tokens are revoked because nobody would notice if they were stolen. If you still need a token, create a new one.",
            )
        }
        NoticeKind::RevokedByAdmin => (
            format!("An administrator revoked your token {name}"),
            format!("An administrator revoked your personal access token {token} on {when}."),
            "The token no longer works. If you still need one, create a new token. If you don't know why it was revoked, ask your\n\
             administrator.",
        ),
        NoticeKind::Test => (
            "Test notification from TrustRelay".to_owned(),
            format!("This is a test notification, sent on {when}."),
            "Notices about your tokens will arrive here.",
        ),
    }
}

/// Says how many days are left, such as "in 7 days". A started day counts as a day.
fn days_left(now: Timestamp, end: Timestamp) -> String {
    let seconds = end.as_second().saturating_sub(now.as_second());
    match seconds.max(0).unsigned_abs().div_ceil(24 * 3600) {
        0 | 1 => "within a day".to_owned(),
        days => format!("in {days} days"),
    }
}

/// Formats a time for people.
fn minute(at: Timestamp) -> String {
    at.strftime("%-d %B %Y at %H:%M UTC").to_string()
}

/// The message shape that Standard Webhooks recommends: `type`, `timestamp`, `data`.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    notice_id: Uuid,
    kind: &'static str,
    user_id: Uuid,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pat_id: Option<Uuid>,
    #[serde(flatten)]
    facts: &'a NoticeFacts,
}

fn json(notice: &Notice, email: &str) -> String {
    let message = Message {
        r#type: event(notice.kind),
        timestamp: notice.created_at,
        data: Data {
            notice_id: notice.notice_id,
            kind: notice.kind.name(),
            user_id: notice.user_id,
            email,
            pat_id: notice.pat_id,
            facts: &notice.facts,
        },
    };
    // Serialization cannot fail: there is no map with keys that are not strings.
    serde_json::to_string(&message).unwrap_or_default()
}

/// Returns the `type` of a webhook's message.
fn event(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Expiring30d | NoticeKind::Expiring7d | NoticeKind::Expiring1d => "token.expiring",
        NoticeKind::Leaked => "token.leaked",
        NoticeKind::RetiredSecretUsed => "token.retired_secret_used",
        NoticeKind::UnusedEnded => "token.unused",
        NoticeKind::RevokedByAdmin => "token.revoked",
        NoticeKind::Test => "test",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn notice(kind: NoticeKind) -> Notice {
        Notice {
            notice_id: Uuid::from_u128(1),
            user_id: Uuid::from_u128(2),
            pat_id: Some(Uuid::from_u128(3)),
            kind,
            created_at: at("2026-04-07T12:00:00Z"),
            facts: NoticeFacts {
                pat_name: Some("my-mcp-agent".into()),
                pat_hint: Some("...AbCd".into()),
                expires_at: Some(at("2026-04-14T11:59:00Z")),
                seen_at: Some("https://example.org/ada/repo".into()),
                unused_days: Some(90),
            },
        }
    }

    fn told(notice: &Notice) -> Text {
        tell(notice, "ada@example.org", &Url::parse("https://relay.example.org").expect("a URL"))
    }

    #[test]
    fn a_mail_says_what_happens_when_and_what_to_do() {
        let Text { subject, body, .. } = told(&notice(NoticeKind::Expiring7d));
        assert_eq!(subject, "Your token \"my-mcp-agent\" expires in 7 days");
        assert_eq!(
            body,
            "\
Your personal access token \"my-mcp-agent\" (...AbCd) expires in 7 days, on 14 April 2026 at 11:59 UTC.

After that, the token no longer works. If you still need it, rotate it before it expires to avoid interruptions,
and replace the old secret wherever it is used. If nothing uses the token any more, you don't need to do anything.

Your tokens: https://relay.example.org/settings/developer
Your notice settings: https://relay.example.org/settings/notices

-- 
Sent by TrustRelay at relay.example.org to ada@example.org, because this is your account.
"
        );
    }

    #[test]
    fn each_kind_has_its_own_words_and_names_the_token() {
        let mut subjects = std::collections::BTreeSet::new();
        for kind in NoticeKind::ALL {
            let text = told(&notice(kind));
            let is_test = kind == NoticeKind::Test;
            assert_eq!(text.subject.contains("my-mcp-agent"), !is_test, "{}", text.subject);
            assert_eq!(text.body.contains("\"my-mcp-agent\" (...AbCd)"), !is_test, "{}", text.body);
            subjects.insert(text.subject);
        }
        // The three expiry notices have subjects that differ only in the remaining time, which is
        // the same here.
        assert_eq!(subjects.len(), NoticeKind::ALL.len() - 2);
        assert!(
            told(&notice(NoticeKind::Leaked))
                .body
                .contains("did not check this address): https://example.org/ada/repo\n")
        );
        assert!(told(&notice(NoticeKind::UnusedEnded)).body.contains("for 90 days"));
    }

    #[test]
    fn what_is_left_is_counted_from_the_notice_on_and_a_begun_day_is_a_day() {
        let now = at("2026-04-07T12:00:00Z");
        for (end, left) in [
            ("2026-05-07T12:00:00Z", "in 30 days"),
            ("2026-04-12T11:00:00Z", "in 5 days"),
            ("2026-04-08T12:00:01Z", "in 2 days"),
            ("2026-04-08T12:00:00Z", "within a day"),
            ("2026-04-07T12:00:01Z", "within a day"),
            ("2026-04-07T11:00:00Z", "within a day"),
        ] {
            assert_eq!(days_left(now, at(end)), left, "{end}");
        }
    }

    #[test]
    fn a_program_is_told_the_facts_in_the_standard_s_shape() {
        let text = told(&notice(NoticeKind::Expiring7d));
        assert_eq!(
            serde_json::from_str::<Value>(&text.json).expect("JSON"),
            json!({
                "type": "token.expiring",
                "timestamp": "2026-04-07T12:00:00Z",
                "data": {
                    "notice_id": "00000000-0000-0000-0000-000000000001",
                    "kind": "expiring_7d",
                    "user_id": "00000000-0000-0000-0000-000000000002",
                    "email": "ada@example.org",
                    "pat_id": "00000000-0000-0000-0000-000000000003",
                    "pat_name": "my-mcp-agent",
                    "pat_hint": "...AbCd",
                    "expires_at": "2026-04-14T11:59:00Z",
                    "seen_at": "https://example.org/ada/repo",
                    "unused_days": 90,
                }
            })
        );
    }

    #[test]
    fn names_that_users_chose_stay_in_their_place() {
        let mut evil = notice(NoticeKind::Leaked);
        evil.facts.pat_name = Some(format!("x\r\nBcc: eve@example.org\r\n\r\n\u{202e}{}", "Ü".repeat(500)));
        evil.facts.seen_at =
            Some("https://example.org/\n\nWe are sorry. Log in at https://evil.example".into());
        let Text { subject, body, json } = told(&evil);
        assert!(!subject.contains(char::is_control) && !subject.contains('\u{202e}'), "{subject:?}");
        assert!(subject.chars().count() < 200, "{subject}");
        assert!(!body.contains('\r') && !body.contains("\nBcc") && !body.contains("\nWe"), "{body}");
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["data"]["pat_name"], json!(evil.facts.pat_name), "to a program, the name as it is");
    }
}
