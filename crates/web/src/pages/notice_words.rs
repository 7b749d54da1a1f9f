//! A notice in plain words.

use trustrelay_authority::{Notice, NoticeKind};

/// What it told.
pub(super) fn what(notice: &Notice) -> String {
    let facts = &notice.facts;
    let name = facts.pat_name.as_deref().unwrap_or("without a name");
    let place =
        |before: &str| facts.seen_at.as_ref().map_or(String::new(), |place| format!("{before}{place}"));
    match notice.kind {
        NoticeKind::Expiring30d | NoticeKind::Expiring7d | NoticeKind::Expiring1d => match facts.expires_at {
            Some(at) => format!("The token {name} expires on {}", at.strftime("%-d %b %Y, %H:%M")),
            None => format!("The token {name} expires soon"),
        },
        NoticeKind::Leaked => {
            format!("The token {name} was found where others can read it{}, and was revoked", place(": "))
        }
        NoticeKind::RetiredSecretUsed => {
            format!("A secret of the token {name} was used after it had been replaced{}", place(", from "))
        }
        NoticeKind::UnusedEnded => match facts.unused_days {
            Some(days) => format!("The token {name} was not used for {days} days, and was revoked"),
            None => format!("The token {name} was not used for long, and was revoked"),
        },
        NoticeKind::RevokedByAdmin => format!("An administrator revoked the token {name}"),
        NoticeKind::Test => "A webhook was tried".to_owned(),
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
            (
                NoticeKind::Leaked,
                "The token ci was found where others can read it: https://paste.example/1, and was revoked",
            ),
            (
                NoticeKind::RetiredSecretUsed,
                "A secret of the token ci was used after it had been replaced, from https://paste.example/1",
            ),
            (NoticeKind::UnusedEnded, "The token ci was not used for 30 days, and was revoked"),
            (NoticeKind::RevokedByAdmin, "An administrator revoked the token ci"),
            (NoticeKind::Test, "A webhook was tried"),
        ] {
            assert_eq!(told(kind, &facts), says);
        }
        for kind in NoticeKind::ALL {
            let words = told(kind, &NoticeFacts::default());
            assert!(words.len() > 10 && !words.contains("ci "), "{words}");
        }
    }
}
