//! A notice in plain words.

use trustrelay_authority::{Notice, NoticeKind};

/// What it told.
pub(super) fn what(notice: &Notice) -> String {
    let facts = &notice.facts;
    let name = facts.pat_name.as_deref().unwrap_or("(no name)");
    let place =
        |before: &str| facts.seen_at.as_ref().map_or(String::new(), |place| format!("{before}{place}"));
    match notice.kind {
        NoticeKind::Expiring30d | NoticeKind::Expiring7d | NoticeKind::Expiring1d => match facts.expires_at {
            Some(at) => format!("The token {name} expires on {}", at.strftime("%-d %b %Y, %H:%M")),
            None => format!("The token {name} expires soon"),
        },
        NoticeKind::Leaked => {
            format!("The token {name} was found in public{} and revoked", place(": "))
        }
        NoticeKind::RetiredSecretUsed => {
            format!("A secret of the token {name} was used after it had been rotated{}", place(", from "))
        }
        NoticeKind::UnusedEnded => match facts.unused_days {
            Some(days) => format!("The token {name} was revoked after {days} days without use"),
            None => format!("The token {name} was revoked because it was not used"),
        },
        NoticeKind::RevokedByAdmin => format!("An administrator revoked the token {name}"),
        NoticeKind::Test => "Test notification".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use trustrelay_authority::NoticeFacts;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_kind_has_words_and_says_what_it_knows() {
        let facts = NoticeFacts {
            pat_name: Some("ci".into()),
            expires_at: Some("2026-05-07T09:05:00Z".parse().expect("a time")),
            seen_at: Some("https://paste.example/1".into()),
            unused_days: Some(30),
            ..NoticeFacts::default()
        };
        let told = |kind, facts: &NoticeFacts| {
            what(&Notice {
                notice_id: Uuid::nil(),
                user_id: Uuid::nil(),
                pat_id: None,
                kind,
                created_at: Timestamp::UNIX_EPOCH,
                facts: facts.clone(),
            })
        };
        for (kind, says) in [
            (NoticeKind::Expiring7d, "The token ci expires on 7 May 2026, 09:05"),
            (NoticeKind::Leaked, "The token ci was found in public: https://paste.example/1 and revoked"),
            (
                NoticeKind::RetiredSecretUsed,
                "A secret of the token ci was used after it had been rotated, from https://paste.example/1",
            ),
            (NoticeKind::UnusedEnded, "The token ci was revoked after 30 days without use"),
            (NoticeKind::RevokedByAdmin, "An administrator revoked the token ci"),
            (NoticeKind::Test, "Test notification"),
        ] {
            assert_eq!(told(kind, &facts), says);
        }
        for kind in NoticeKind::ALL {
            let words = told(kind, &NoticeFacts::default());
            assert!(words.len() > 10 && !words.contains("ci "), "{words}");
        }
    }
}
