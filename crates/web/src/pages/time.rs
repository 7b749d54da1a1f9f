//! Times as people read them.

use jiff::Timestamp;
use maud::{Markup, html};

/// A day, with the exact time for who asks.
pub(crate) fn day(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(format!("{at:.0}")) { (at.strftime("%-d %b %Y")) } }
}

/// How long ago, in one unit.
pub(crate) fn ago(at: Option<Timestamp>, now: Timestamp) -> Markup {
    let Some(at) = at else {
        return html! { span.faint { "never" } };
    };
    let seconds = now.duration_since(at).as_secs().max(0);
    let text = match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "yesterday".to_owned(),
        _ => format!("{} days ago", seconds / 86_400),
    };
    html! { time datetime=(at) title=(format!("{at:.0}")) { (text) } }
}

/// The days left until `at`, rounded down.
pub(crate) fn days_left(at: Timestamp, now: Timestamp) -> i64 {
    at.duration_since(now).as_hours() / 24
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn times_are_told_in_one_unit() {
        let now = at("2026-04-07T12:00:00Z");
        for (then, says) in [
            ("2026-04-07T11:59:30Z", "just now"),
            ("2026-04-07T11:57:00Z", "3 min ago"),
            ("2026-04-07T09:00:00Z", "3 h ago"),
            ("2026-04-06T09:00:00Z", "yesterday"),
            ("2026-04-01T09:00:00Z", "6 days ago"),
        ] {
            assert!(ago(Some(at(then)), now).into_string().contains(says), "{says}");
        }
        assert!(ago(None, now).into_string().contains("never"));
        assert_eq!(days_left(at("2026-04-08T11:00:00Z"), now), 0);
        assert_eq!(days_left(at("2026-05-07T12:00:00Z"), now), 30);
    }
}
