//! The reasons for failed deliveries, and whether to retry them.

/// Maximum length of a kept failure text, in characters. The other side may send any text.
const MAX_TEXT: usize = 200;

/// The reason why a notice was not delivered. The text is one bounded line and may be shown to the
/// recipient of the notices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A transient failure: the delivery is retried.
    #[error("{0}")]
    Later(String),
    /// A permanent failure: the delivery is not retried.
    #[error("{0}")]
    Permanent(String),
}

impl Failure {
    pub(crate) fn later(text: impl std::fmt::Display) -> Self {
        Self::Later(one_line(&text.to_string(), MAX_TEXT))
    }

    pub(crate) fn permanent(text: impl std::fmt::Display) -> Self {
        Self::Permanent(one_line(&text.to_string(), MAX_TEXT))
    }
}

/// Reduces an untrusted text to one line of at most `max` characters. Removes control characters
/// and characters that change the direction of the surrounding text.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let harmless = |c: char| match c {
        c if c.is_control() => ' ',
        '\u{2028}' | '\u{2029}' => ' ',
        '\u{061c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => ' ',
        c => c,
    };
    let plain: String = text.chars().map(harmless).collect();
    let mut words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(max) {
        let last = words[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        words.truncate(last);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_becomes_one_line_of_bounded_length() {
        for (text, line) in [
            ("550 5.1.1 no such user", "550 5.1.1 no such user"),
            ("a\r\nBcc: b\u{0}\u{1b}[31m", "a Bcc: b [31m"),
            ("  \u{202e}evil\u{2028}twice ", "evil twice"),
            ("", ""),
            ("exactly10!", "exactly10!"),
        ] {
            assert_eq!(one_line(text, 100), line, "{text:?}");
        }
        assert_eq!(one_line("exactly10!", 10), "exactly10!");
        assert_eq!(one_line("exactly 11!", 10), "exactly 1…");
        let Failure::Later(text) = Failure::later("ä".repeat(10_000)) else { panic!("later") };
        assert_eq!(text.chars().count(), MAX_TEXT);
    }
}
